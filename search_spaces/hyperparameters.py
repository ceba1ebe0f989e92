"""The hyperparameters that there are, and the lines that declare them: each line's form is checked here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from search_spaces.distributions import ALL_PARAMETERS, PARAMETERS, Distribution, read_distribution
from search_spaces.domains import Domain, PositiveNumber, Text, Value, WholeNumber, read_values
from search_spaces.sentences import SpaceError, hint, listed, show

ALGORITHMS = ("wae-mmd", "wae-gan", "vae")
_WAE = ("wae-mmd", "wae-gan")
KNOWN: dict[str, tuple[Domain, tuple[str, ...]]] = {  # the values it may have, the algorithms that have it
    "latent_dim": (WholeNumber(1), ALGORITHMS),
    "batch_size": (WholeNumber(2), ALGORITHMS),  # the unbiased MMD² divides by n − 1
    "learning_rate": (PositiveNumber(), ALGORITHMS),
    "adversary_learning_rate": (PositiveNumber(), ("wae-gan",)),
    "kernel_scale": (PositiveNumber(), ("wae-mmd",)),
    "wae_lambda": (PositiveNumber(), _WAE),
    "decoder_variance": (PositiveNumber(), ("vae",)),
    "architecture": (Text(), ALGORITHMS),
    "encoder": (Text(("deterministic", "stochastic")), _WAE),  # the VAE's is always stochastic
}
COSTS = ("latent_dim", "batch_size", "architecture")  # what decides the cost of a run
# A line may hang on those before it alone. What the algorithms draw alike comes first, so it never hangs on what only
# some of them have: configurations of one index stay comparable on equal computation.
DRAWN_IN_ORDER = (
    *COSTS,
    "learning_rate",
    "encoder",
    "adversary_learning_rate",
    "kernel_scale",
    "wae_lambda",
    "decoder_variance",
)
BOUNDS = ("at_least", "at_most")


@dataclass(frozen=True)
class Condition:
    """That the hyperparameter `name` has one of `values`."""

    name: str
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Hyperparameter:
    """One line of a search space, for all or some of the algorithms that have the hyperparameter.

    `source` says where its interval comes from (P, S, O and in words). The line holds where `when` does; its value is
    drawn given that it is not below the value of the hyperparameter `at_least` and not above that of `at_most`.
    """

    name: str
    algorithms: tuple[str, ...]
    distribution: Distribution
    source: str
    when: Condition | None = None
    at_least: str | None = None
    at_most: str | None = None

    @cached_property
    def hangs_on(self) -> dict[str, str]:
        """The other hyperparameters that the line names, by the key that names them."""
        named = {"when": self.when.name if self.when else None, "at_least": self.at_least, "at_most": self.at_most}
        return {key: name for key, name in named.items() if name is not None}

    @cached_property
    def bounds(self) -> dict[str, str]:
        """`hangs_on` without the condition."""
        return {key: self.hangs_on[key] for key in BOUNDS if key in self.hangs_on}

    def as_dict(self) -> dict[str, Any]:
        """The line as plain data, without its name."""
        line = {
            "algorithms": list(self.algorithms),
            "when": {self.when.name: list(self.when.values)} if self.when else None,
            "distribution": self.distribution.name,
            **{k: list(v) if isinstance(v, tuple) else v for k, v in vars(self.distribution).items()},
            "at_least": self.at_least,
            "at_most": self.at_most,
            "source": self.source,
        }
        return {key: value for key, value in line.items() if value is not None}


def read_lines(name: str, lines: object, place: str) -> list[Hyperparameter]:
    """One line for all algorithms that have the hyperparameter, or a list of lines that share out the cases.

    Raises:
        SpaceError: a line is not valid, or no line is for one of the algorithms; the sentences start with `place`.
    """
    if not isinstance(lines, list):
        return [_read_line(name, lines, place, whole=True)]
    if name in COSTS:
        raise SpaceError(
            f"{place} is a list, and must be one line: it decides what a run costs, which is equal for all algorithms"
        )
    owners = KNOWN[name][1]
    read = [_read_line(name, line, place, whole=False) for line in lines]
    covered = [algorithm for h in read for algorithm in h.algorithms]
    if any(h.when for h in read):  # how often is a matter of the conditions: checked with them
        covered = list(dict.fromkeys(covered))
    if sorted(covered) != sorted(owners):
        raise SpaceError(
            f"{place}: the lines are for {listed(covered) or 'no algorithm'}, "
            f"and must name each of {listed(owners)} once"
        )
    return read


def _read_line(name: str, line: object, place: str, whole: bool) -> Hyperparameter:
    domain, owners = KNOWN[name]
    if not isinstance(line, dict):
        raise SpaceError(
            f"{place} is {show(line)}, and must be a mapping such as "
            "{algorithms: all, distribution: choice, values: [...], source: ...}"
        )
    if "distribution" not in line:
        present = listed(line)
        raise SpaceError(f"{place} has the keys {present}; it lacks distribution: {listed(PARAMETERS)}")
    kind = line["distribution"]
    if not isinstance(kind, str) or kind not in PARAMETERS:
        did_you_mean = hint(kind, PARAMETERS)
        raise SpaceError(
            f"{place}: distribution is {show(kind)}, and must be one of {listed(PARAMETERS)}{did_you_mean}"
        )
    needed = ("algorithms", "distribution", *PARAMETERS[kind], "source")
    keys = ("algorithms", "distribution", *ALL_PARAMETERS[kind], "source", "when", *BOUNDS)
    for key in line:
        if key not in keys:
            raise SpaceError(
                f"{place}: {show(key)} is no key of distribution {kind}{hint(key, keys)}: allowed are {listed(keys)}"
            )
    missing = [key for key in needed if key not in line]
    if missing:
        raise SpaceError(f"{place} lacks {listed(missing)}, and the line must have {listed(needed)}")
    distribution = read_distribution(line, domain, place)
    algorithms = _read_algorithms(line["algorithms"], owners, f"{place}: algorithms", whole)
    source = line["source"]
    if not isinstance(source, str) or not source.strip():
        raise SpaceError(f"{place}: source is {show(source)}, and must be text that says where the interval is from")
    return Hyperparameter(
        name,
        algorithms,
        distribution,
        source,
        when=_read_condition(line["when"], f"{place}: when") if "when" in line else None,
        **{key: _read_name(line[key], f"{place}: {key}") for key in BOUNDS if key in line},
    )


def _read_algorithms(algorithms: object, owners: tuple[str, ...], place: str, whole: bool) -> tuple[str, ...]:
    """Refuse all but the owners, and, on a line that is the `whole` of its hyperparameter, all but exactly these."""
    allowed = "all" if owners == ALGORITHMS else f"[{listed(owners)}]"
    given = list(ALGORITHMS) if algorithms == "all" else algorithms
    if not isinstance(given, list):
        raise SpaceError(f"{place} is {show(algorithms)}, and must be {allowed}")
    for algorithm in given:
        if algorithm not in ALGORITHMS:
            did_you_mean = hint(algorithm, ALGORITHMS)
            raise SpaceError(f"{place} has {show(algorithm)}, and must be {allowed}{did_you_mean}")
        if algorithm not in owners:
            raise SpaceError(
                f"{place} is {show(algorithms)}, but {algorithm} does not have this hyperparameter: "
                f"it must be {allowed}"
            )
    if whole and sorted(given) != sorted(owners):
        raise SpaceError(f"{place} is {show(algorithms)}, and must be {allowed}, each algorithm once")
    return tuple(algorithm for algorithm in owners if algorithm in given)


def _read_condition(when: object, place: str) -> Condition:
    """`{name: value}` or `{name: [values]}`."""
    if not isinstance(when, dict) or len(when) != 1:
        raise SpaceError(f"{place} is {show(when)}, and must name one hyperparameter, such as {{latent_dim: [4, 8]}}")
    [(key, values)] = when.items()
    name = _read_name(key, place)
    domain = KNOWN[name][0]
    read = read_values(values if isinstance(values, list) else [values], domain, f"{place}: {name}")
    return Condition(name, read)


def _read_name(name: object, place: str) -> str:
    if not isinstance(name, str) or name not in KNOWN:
        raise SpaceError(f"{place} names {show(name)}, and must name one of {listed(KNOWN)}{hint(name, KNOWN)}")
    return name
