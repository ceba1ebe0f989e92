"""A search space: read from YAML, checked, and sampled as a pure function of algorithm, index, study seed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from search_spaces.distributions import Distribution
from search_spaces.hyperparameters import KNOWN, Hyperparameter, having, offered, read_lines
from search_spaces.plain_yaml import read_yaml
from search_spaces.relations import limits, mistakes
from search_spaces.sentences import SpaceError, hint, listed, show
from wae_core.domains import Value
from wae_core.hyperparameters import IN_DRAWS
from wae_core.names import NAME
from wae_core.run import ALGORITHMS

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class SearchSpace:
    """The hyperparameters of the algorithms that it offers, always in the same order, whatever the file's."""

    name: str
    hyperparameters: tuple[Hyperparameter, ...]

    @cached_property
    def algorithms(self) -> tuple[str, ...]:
        """The algorithms that it offers: those that its lines are for."""
        named = {algorithm for line in self.hyperparameters for algorithm in line.algorithms}
        return tuple(algorithm for algorithm in ALGORITHMS if algorithm in named)

    def sample(self, algorithm: str, index: int, study_seed: int) -> dict[str, Value]:
        """Configuration `index` of `algorithm`: a value for each hyperparameter that the algorithm has.

        A pure function, the same on every machine. Each hyperparameter has a stream of its own, which does
        not know the algorithm: those that algorithms share are equal for all of them at the same index.

        Raises:
            SpaceError: an algorithm that the space does not offer, index or study_seed not an int, or index below 0.
        """
        if algorithm not in self.algorithms:
            did_you_mean = hint(algorithm, self.algorithms)
            raise SpaceError(
                f"algorithm is {show(algorithm)}, and must be one of {listed(self.algorithms)}{did_you_mean}"
            )
        if not isinstance(index, int) or isinstance(index, bool) or index < 0:
            raise SpaceError(f"index is {show(index)}, and must be a whole number, at least 0")
        if not isinstance(study_seed, int) or isinstance(study_seed, bool):
            raise SpaceError(f"study_seed is {show(study_seed)}, and must be a whole number")
        return self.configure(
            algorithm, lambda name, distribution: distribution.draw(_uniform_number(study_seed, name, index))
        )

    def configure(self, algorithm: str, choose: Callable[[str, Distribution], Value]) -> dict[str, Value]:
        """A value for each hyperparameter that the algorithm has, as `choose` answers its name and distribution.

        One that depends on others is asked for after them, with the distribution that they leave it: that of the line
        that holds, within its bounds. So it never moves the value of another one, which the algorithms may share.
        """
        values: dict[str, Value] = {}
        own = [line for line in self.hyperparameters if algorithm in line.algorithms]
        for line in sorted(own, key=lambda line: IN_DRAWS.index(line.name)):
            if line.when and values[line.when.name] not in line.when.values:
                continue
            distribution = line.distribution.within(*limits(line, values)) if line.bounds else line.distribution
            assert distribution is not None, "a space whose bounds could leave nothing is refused"
            values[line.name] = choose(line.name, distribution)
        return {line.name: values[line.name] for line in own}

    def as_dict(self) -> dict[str, Any]:
        """Plain data (dicts, lists, numbers, text) from which `from_dict` makes an equal space."""
        lines: dict[str, list[dict[str, Any]]] = {}
        for h in self.hyperparameters:
            lines.setdefault(h.name, []).append(h.as_dict())
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
            f"the search space {text!r} cannot be read: {error.strerror}{hint(Path(text).stem, shipped)}; "
            f"allowed are {listed(shipped)}, and the path of a YAML file (with a / in it or ending in .yaml)"
        ) from error
    return _read_space(path.stem, data, str(path))


def _uniform_number(study_seed: int, name: str, index: int) -> float:
    """In [0, 1), from the top 53 bits of the key's SHA-256: all that a float can hold."""
    digest = hashlib.sha256(f"{study_seed}/{name}/{index}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def _read_space(name: object, data: object, place: str) -> SearchSpace:
    """Read everything before refusing anything, so that all mistakes are seen at once."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise SpaceError(
            f"{place}: the name {show(name)} becomes part of a folder's name, and must have only "
            "a-z, 0-9, _ and -, the first a letter or a digit"
        )
    if not isinstance(data, dict):
        raise SpaceError(f"{place} holds {show(data)}, and must be a mapping with the keys {listed(KNOWN)}")
    sentences = [
        f"{place}: {show(key)} is no hyperparameter{hint(key, KNOWN)}: allowed are {listed(KNOWN)}"
        for key in data
        if key not in KNOWN
    ]
    algorithms = offered(data)
    needed = [key for key in KNOWN if having(key, algorithms)]
    missing = [key for key in needed if key not in data]
    if missing:
        sentences.append(f"{place} lacks {listed(missing)}, and each of {listed(needed)} must have its line")
    lines: list[Hyperparameter] = []
    for key in KNOWN:
        try:
            lines += read_lines(key, data[key], f"{place}: {key}", algorithms) if key in data else []
        except SpaceError as error:
            sentences += error.sentences
    sentences = sentences or mistakes(lines, place)
    if sentences:
        raise SpaceError(*sentences)
    return SearchSpace(name, tuple(lines))
