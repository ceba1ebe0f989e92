"""A search space: read from YAML, checked, and sampled as a pure function of algorithm, index, study seed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search_spaces.distributions import (
    PARAMETERS,
    Distribution,
    Domain,
    PositiveNumber,
    SpaceError,
    Text,
    Value,
    WholeNumber,
    closest,
    read_distribution,
    show,
)
from search_spaces.plain_yaml import read_yaml

ALGORITHMS = ("wae-mmd", "wae-gan", "vae")
_WAE = ("wae-mmd", "wae-gan")
_KNOWN: dict[str, tuple[Domain, tuple[str, ...]]] = {  # the values it may have, the algorithms that have it
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
_COSTS = ("latent_dim", "batch_size", "architecture")  # what decides the cost of a run
_FOLDER = Path(__file__).parent
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True)
class Hyperparameter:
    """One line of a search space, for all or some of the algorithms that have the hyperparameter.

    `source` says where its interval comes from (P, S, O and in words).
    """

    name: str
    algorithms: tuple[str, ...]
    distribution: Distribution
    source: str


@dataclass(frozen=True)
class SearchSpace:
    """The hyperparameters of all algorithms, always in the same order, whatever the file's."""

    name: str
    hyperparameters: tuple[Hyperparameter, ...]

    def sample(self, algorithm: str, index: int, study_seed: int) -> dict[str, Value]:
        """Configuration `index` of `algorithm`: a value for each hyperparameter that the algorithm has.

        A pure function, the same on every machine. Each hyperparameter has a stream of its own, which does
        not know the algorithm: those that algorithms share are equal for all of them at the same index.

        Raises:
            SpaceError: unknown algorithm, index or study_seed not an int, or index below 0.
        """
        if algorithm not in ALGORITHMS:
            hint = closest(algorithm, ALGORITHMS)
            raise SpaceError(f"algorithm is {show(algorithm)}, and must be one of {_listed(ALGORITHMS)}{hint}")
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            raise SpaceError(f"index is {show(index)}, and must be a whole number, at least 0")
        if not isinstance(study_seed, int) or isinstance(study_seed, bool):
            raise SpaceError(f"study_seed is {show(study_seed)}, and must be a whole number")
        return {
            h.name: h.distribution.draw(_uniform_number(study_seed, h.name, index))
            for h in self.hyperparameters
            if algorithm in h.algorithms
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain data (dicts, lists, numbers, text) from which `from_dict` makes an equal space."""
        lines: dict[str, list[dict[str, Any]]] = {}
        for h in self.hyperparameters:
            line = {
                "algorithms": list(h.algorithms),
                "distribution": h.distribution.name,
                **{k: list(v) if isinstance(v, tuple) else v for k, v in vars(h.distribution).items()},
                "source": h.source,
            }
            lines.setdefault(h.name, []).append(line)
        return {name: same[0] if len(same) == 1 else same for name, same in lines.items()}

    @classmethod
    def from_dict(cls, name: str, data: object) -> SearchSpace:
        """The space that `data`, of a file or of `as_dict`, declares; SpaceError where it is not valid."""
        return _read_space(name, data, f"search space {show(name)}")


def load(name_or_path: str | Path) -> SearchSpace:
    """The shipped search space of that name, or the one in the YAML file at that path.

    A word without a path separator and without the ending .yaml is a name.

    Raises:
        SpaceError: no such file, or what it declares is not valid; the sentence says what is allowed.
    """
    if not isinstance(name_or_path, str | Path):
        raise SpaceError(f"the search space is {show(name_or_path)}, and must be a name or the path of a YAML file")
    text = str(name_or_path)
    is_path = text.endswith(".yaml") or Path(text).name != text
    path = Path(text) if is_path else _FOLDER / f"{text}.yaml"
    try:
        data = read_yaml(path)
    except OSError as error:
        shipped = sorted(file.stem for file in _FOLDER.glob("*.yaml"))
        raise SpaceError(
            f"the search space {text!r} cannot be read: {error.strerror}{closest(Path(text).stem, shipped)}; "
            f"allowed are {_listed(shipped)}, and the path of a YAML file (with a / in it or ending in .yaml)"
        ) from error
    return _read_space(path.stem, data, str(path))


def _uniform_number(study_seed: int, name: str, index: int) -> float:
    """In [0, 1), from the top 53 bits of the key's SHA-256: all that a float can hold."""
    digest = hashlib.sha256(f"{study_seed}/{name}/{index}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def _read_space(name: object, data: object, place: str) -> SearchSpace:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise SpaceError(
            f"{place}: the name {show(name)} becomes part of a folder's name, and must have only "
            "a-z, 0-9, _ and -, the first a letter or a digit"
        )
    if not isinstance(data, dict):
        raise SpaceError(f"{place} holds {show(data)}, and must be a mapping with the keys {_listed(_KNOWN)}")
    for key in data:
        if key not in _KNOWN:
            hint = closest(key, _KNOWN)
            raise SpaceError(f"{place}: {show(key)} is no hyperparameter{hint}: allowed are {_listed(_KNOWN)}")
    missing = [key for key in _KNOWN if key not in data]
    if missing:
        raise SpaceError(f"{place} lacks {_listed(missing)}, and each of {_listed(_KNOWN)} must have its line")
    return SearchSpace(name, tuple(h for key in _KNOWN for h in _read_lines(key, data[key], f"{place}: {key}")))


def _read_lines(name: str, lines: object, place: str) -> list[Hyperparameter]:
    """One line for all algorithms that have the hyperparameter, or a list of lines that share them out."""
    if not isinstance(lines, list):
        return [_read_line(name, lines, place, whole=True)]
    if name in _COSTS:
        raise SpaceError(
            f"{place} is a list, and must be one line: it decides what a run costs, which is equal for all algorithms"
        )
    owners = _KNOWN[name][1]
    read = [_read_line(name, line, place, whole=False) for line in lines]
    covered = [algorithm for h in read for algorithm in h.algorithms]
    if sorted(covered) != sorted(owners):
        raise SpaceError(
            f"{place}: the lines are for {_listed(covered) or 'no algorithm'}, "
            f"and must name each of {_listed(owners)} once"
        )
    return read


def _read_line(name: str, line: object, place: str, whole: bool) -> Hyperparameter:
    domain, owners = _KNOWN[name]
    if not isinstance(line, dict):
        raise SpaceError(
            f"{place} is {show(line)}, and must be a mapping such as "
            "{algorithms: all, distribution: choice, values: [...], source: ...}"
        )
    if "distribution" not in line:
        present = _listed(str(key) for key in line)
        raise SpaceError(f"{place} has the keys {present}; it lacks distribution: {_listed(PARAMETERS)}")
    kind = line["distribution"]
    if not isinstance(kind, str) or kind not in PARAMETERS:
        hint = closest(kind, PARAMETERS)
        raise SpaceError(f"{place}: distribution is {show(kind)}, and must be one of {_listed(PARAMETERS)}{hint}")
    keys = ("algorithms", "distribution", *PARAMETERS[kind], "source")
    for key in line:
        if key not in keys:
            raise SpaceError(
                f"{place}: {show(key)} is no key of distribution {kind}{closest(key, keys)}: "
                f"allowed are {_listed(keys)}"
            )
    missing = [key for key in keys if key not in line]
    if missing:
        raise SpaceError(f"{place} lacks {_listed(missing)}, and the line must have {_listed(keys)}")
    distribution = read_distribution(line, domain, place)
    algorithms = _read_algorithms(line["algorithms"], owners, f"{place}: algorithms", whole)
    source = line["source"]
    if not isinstance(source, str) or not source.strip():
        raise SpaceError(f"{place}: source is {show(source)}, and must be text that says where the interval is from")
    return Hyperparameter(name, algorithms, distribution, source)


def _read_algorithms(algorithms: object, owners: tuple[str, ...], place: str, whole: bool) -> tuple[str, ...]:
    """Refuse all but the owners, and, on a line that is the `whole` of its hyperparameter, all but exactly these."""
    allowed = "all" if owners == ALGORITHMS else f"[{_listed(owners)}]"
    given = list(ALGORITHMS) if algorithms == "all" else algorithms
    if not isinstance(given, list):
        raise SpaceError(f"{place} is {show(algorithms)}, and must be {allowed}")
    for algorithm in given:
        if algorithm not in ALGORITHMS:
            hint = closest(algorithm, ALGORITHMS)
            raise SpaceError(f"{place} has {show(algorithm)}, and must be {allowed}{hint}")
        if algorithm not in owners:
            raise SpaceError(
                f"{place} is {show(algorithms)}, but {algorithm} does not have this hyperparameter: "
                f"it must be {allowed}"
            )
    if whole and sorted(given) != sorted(owners):
        raise SpaceError(f"{place} is {show(algorithms)}, and must be {allowed}, each algorithm once")
    return tuple(algorithm for algorithm in owners if algorithm in given)


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)
