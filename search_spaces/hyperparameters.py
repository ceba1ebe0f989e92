"""The lines of a search space, one or more a hyperparameter: each line's form is checked here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from search_spaces.distributions import ALL_PARAMETERS, PARAMETERS, Distribution, read_distribution
from search_spaces.sentences import SpaceError, hint, listed, show
from search_spaces.values import read_values
from wae_core.algorithms.registry import ALGORITHMS, owners
from wae_core.domains import LONGEST_LIST, Value
from wae_core.hyperparameters import DECLARED, IN_TABLES, deciding

KNOWN = {name: (DECLARED[name].domain, owners(name)) for name in IN_TABLES}  # its domain, the algorithms that have it
COSTS = deciding("cost")
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
    def depends_on(self) -> dict[str, str]:
        """The other hyperparameters that the line names, by the key that names them."""
        named = {"when": self.when.name if self.when else None, "at_least": self.at_least, "at_most": self.at_most}
        return {key: name for key, name in named.items() if name is not None}

    @cached_property
    def bounds(self) -> dict[str, str]:
        """`depends_on` without the condition."""
        return {key: self.depends_on[key] for key in BOUNDS if key in self.depends_on}

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


def offered(data: Mapping[Any, object]) -> tuple[str, ...]:
    """The algorithms that the lines of a space are for; `all` in a line means these.

    They are those that some line names, and, where a line says `all`, those that have but what all share. An
    algorithm that no line names is left out of the space. Where the lines are for none, they lack those for all.
    """
    words: set[str] = set()
    for lines in data.values():
        for line in lines if isinstance(lines, list) else [lines]:
            said = line.get("algorithms") if isinstance(line, dict) else None
            words.update(word for word in (said if isinstance(said, list) else [said]) if isinstance(word, str))
    found = (
        name
        for name, algorithm in ALGORITHMS.items()
        if name in words or ("all" in words and not algorithm.hyperparameters)
    )
    return tuple(found) or tuple(ALGORITHMS)


def having(name: str, algorithms: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the algorithms that have the hyperparameter."""
    return tuple(algorithm for algorithm in KNOWN[name][1] if algorithm in algorithms)


def read_lines(name: str, lines: object, place: str, algorithms: tuple[str, ...]) -> list[Hyperparameter]:
    """One line for all of the algorithms that have the hyperparameter, or a list of lines that share out the cases.

    Args:
        algorithms: those that the space offers.

    Raises:
        SpaceError: a line is not valid, or no line is for one of the algorithms; the sentences start with `place`.
    """
    if not isinstance(lines, list):
        return [_read_line(name, lines, place, algorithms, whole=True)]
    if name in COSTS:
        raise SpaceError(
            f"{place} is a list, and must be one line: it decides what a run costs, which is equal for all algorithms"
        )
    if len(lines) > LONGEST_LIST:
        raise SpaceError(f"{place} has {len(lines)} lines, and must have at most {LONGEST_LIST}")
    read = [_read_line(name, line, place, algorithms, whole=False) for line in lines]
    covered = [algorithm for h in read for algorithm in h.algorithms]
    if any(h.when for h in read):  # how often is a matter of the conditions: checked with them
        covered = list(dict.fromkeys(covered))
    needed = having(name, algorithms) or KNOWN[name][1]
    if sorted(covered) != sorted(needed):
        raise SpaceError(
            f"{place}: the lines are for {listed(covered) or 'no algorithm'}, "
            f"and must name each of {listed(needed)} once"
        )
    return read


def _read_line(name: str, line: object, place: str, algorithms: tuple[str, ...], *, whole: bool) -> Hyperparameter:
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
    distribution = read_distribution(line, KNOWN[name][0], place)
    own = _read_algorithms(line["algorithms"], name, algorithms, f"{place}: algorithms", whole)
    source = line["source"]
    if not isinstance(source, str) or not source.strip():
        raise SpaceError(f"{place}: source is {show(source)}, and must be text that says where the interval is from")
    return Hyperparameter(
        name,
        own,
        distribution,
        source,
        when=_read_condition(line["when"], f"{place}: when") if "when" in line else None,
        **{key: _read_name(line[key], f"{place}: {key}") for key in BOUNDS if key in line},
    )


def _read_algorithms(
    said: object, name: str, algorithms: tuple[str, ...], place: str, whole: bool
) -> tuple[str, ...]:
    """Refuse all but those of the algorithms that have the hyperparameter.

    On a line that is the `whole` of its hyperparameter, refuse all but exactly these.
    """
    needed = having(name, algorithms) or KNOWN[name][1]
    allowed = "all" if needed == algorithms else f"[{listed(needed)}]"
    given = list(algorithms) if said == "all" else said
    if not isinstance(given, list):
        raise SpaceError(f"{place} is {show(said)}, and must be {allowed}")
    for algorithm in given:
        if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
            did_you_mean = hint(algorithm, ALGORITHMS)
            raise SpaceError(f"{place} has {show(algorithm)}, and must be {allowed}{did_you_mean}")
        if algorithm not in needed:
            raise SpaceError(
                f"{place} is {show(said)}, but {algorithm} does not have this hyperparameter: it must be {allowed}"
            )
    if whole and sorted(given) != sorted(needed):
        raise SpaceError(f"{place} is {show(said)}, and must be {allowed}, each algorithm once")
    return tuple(algorithm for algorithm in needed if algorithm in given)


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
