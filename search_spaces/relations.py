"""What lines say about each other (when, at_least, at_most): checked so that every configuration can be drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from search_spaces.distributions import Choice, Fixed
from search_spaces.hyperparameters import BOUNDS, KNOWN, Hyperparameter
from search_spaces.sentences import listed, show
from wae_core.domains import Text, Value
from wae_core.hyperparameters import IN_DRAWS


def mistakes(lines: Sequence[Hyperparameter], place: str) -> list[str]:
    """A sentence for each relation that cannot hold; with none, every algorithm has one line for every case."""
    named = [f"{place}: {line.name}: {sentence}" for line in lines for sentence in _unusable(line, lines)]
    if named:
        return named
    return [f"{place}: {sentence}" for sentence in dict.fromkeys([*_empty(lines), *_uncovered(lines)])]


def limits(line: Hyperparameter, values: Mapping[str, Value]) -> tuple[float, float]:
    """Between which values of the others, −∞ and ∞ where it names none, the line's own value must lie."""
    low = values[line.at_least] if line.at_least else -math.inf
    high = values[line.at_most] if line.at_most else math.inf
    assert not isinstance(low, str) and not isinstance(high, str)
    return low, high


def lines_of(lines: Sequence[Hyperparameter], name: str, algorithm: str) -> list[Hyperparameter]:
    """The lines of one hyperparameter that are for the algorithm."""
    return [line for line in lines if line.name == name and algorithm in line.algorithms]


def _support(lines: Sequence[Hyperparameter], name: str, algorithm: str) -> list[Value]:
    return [value for line in lines_of(lines, name, algorithm) for value in line.distribution.support]


def _unusable(line: Hyperparameter, lines: Sequence[Hyperparameter]) -> Iterator[str]:
    """Why the line may not depend on what it names: at most one sentence for each of its keys."""
    for key, name in line.depends_on.items():
        domain, owners = KNOWN[name]
        strangers = [algorithm for algorithm in line.algorithms if algorithm not in owners]
        own = [other for algorithm in line.algorithms for other in lines_of(lines, name, algorithm)]
        before = IN_DRAWS[: IN_DRAWS.index(line.name)]
        if name not in before:
            yield (
                f"{key} names {name}, and may name only what is drawn before {line.name}, which is "
                f"{listed(before) or 'nothing'} (what all algorithms share comes first, and stays alike for all)"
            )
        elif strangers:
            yield f"{key} names {name}, which {listed(strangers)} does not have"
        elif key == "when" and not all(isinstance(other.distribution, Choice | Fixed) for other in own):
            yield f"when names {name}, which is drawn from an interval, and must name a choice or a fixed value"
        elif key in BOUNDS and (isinstance(domain, Text) or isinstance(KNOWN[line.name][0], Text)):
            yield f"{key} names {name}, and only numbers can be compared"
        elif key == "at_most" and name == line.at_least:
            yield f"at_least and at_most both name {name}, and must name two hyperparameters"


def _empty(lines: Sequence[Hyperparameter]) -> Iterator[str]:
    """Bounds that could leave a line no value. The worst case decides: any other leaves all that it leaves."""
    for line in lines:
        for algorithm in line.algorithms:
            worst: dict[str, Value] = {}
            for key, name in line.bounds.items():
                ends: Any = _support(lines, name, algorithm)
                worst[name] = max(ends) if key == "at_least" else min(ends)
            if worst and line.distribution.within(*limits(line, worst)) is None:
                said = " and ".join(f"{name} is {show(value)}" for name, value in worst.items())
                own: Any = line.distribution.support
                yield (
                    f"{line.name}: for {algorithm} nothing is left of its values from {min(own)} to {max(own)} where "
                    f"{said}: {listed(f'{key} {name}' for key, name in line.bounds.items())}"
                )


def _uncovered(lines: Sequence[Hyperparameter]) -> Iterator[str]:
    """Cases of an algorithm for which a hyperparameter has no line, or two."""
    for name, (_, owners) in KNOWN.items():
        for algorithm in owners:
            own = lines_of(lines, name, algorithm)
            conditions = [line.when for line in own if line.when]
            if not conditions:
                continue  # one line: the reader has seen to it
            names = list(dict.fromkeys(condition.name for condition in conditions))
            if len(conditions) < len(own) or len(names) > 1:
                yield (
                    f"{name}: the lines for {algorithm} must either be one, or all have a condition (when) on the "
                    "same hyperparameter"
                )
                continue
            drawn = dict.fromkeys(_support(lines, names[0], algorithm))
            named = [value for condition in conditions for value in condition.values]
            for value in dict.fromkeys([*drawn, *named]):
                if value not in drawn:
                    yield (
                        f"{name}: when names {names[0]} {show(value)}, which {algorithm} never has: "
                        f"it is one of {listed(drawn)}"
                    )
                elif named.count(value) != 1:
                    yield (
                        f"{name}: there are {named.count(value)} lines for {algorithm} where {names[0]} is "
                        f"{show(value)}, and there must be one"
                    )
