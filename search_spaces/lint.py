"""Remarks on a valid search space: what is allowed and yet most likely not meant. Mistakes are refused on reading."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from search_spaces.distributions import Choice, Fixed, Uniform
from search_spaces.hyperparameters import Hyperparameter
from search_spaces.relations import lines_of
from search_spaces.sentences import listed
from search_spaces.space import SearchSpace

WIDE = 1000  # high / low, from which on a uniform draw hardly ever sees the low end
_SOURCE = re.compile(r"[PSO]\b")


def remarks(space: SearchSpace, images: int | None = None) -> list[str]:
    """One sentence a remark; `images` is the number of training images of the data set, where it is known."""
    lines = space.hyperparameters
    found = [f"{_name(line)}: {remark}" for line in lines for remark in _of_line(line)]
    return [*found, *_of_bounds(lines), *_of_space(space, images)]


def _of_line(line: Hyperparameter) -> Iterator[str]:
    distribution = line.distribution
    if not _SOURCE.match(line.source):
        yield (
            f"the source {line.source!r} begins with none of P (the paper or its authors' code), S (a secondary "
            "source) and O (ours)"
        )
    if isinstance(distribution, Choice) and len(distribution.values) == 1:
        yield f"a choice of one value: distribution: fixed, value: {distribution.values[0]} says so"
    if isinstance(distribution, Uniform) and distribution.high >= WIDE * distribution.low:
        tenth = distribution.low + (distribution.high - distribution.low) / 10
        yield (
            f"uniform from {distribution.low:g} to {distribution.high:g} draws nine values in ten above "
            f"{tenth:g}; log_uniform gives each power of ten its share"
        )


def _of_bounds(lines: tuple[Hyperparameter, ...]) -> Iterator[str]:
    for line in lines:
        low, high = _ends(line)
        for key, name in line.bounds.items():
            others = [_ends(o) for a in line.algorithms for o in lines_of(lines, name, a)]
            if all(low >= end if key == "at_least" else high <= start for start, end in others):
                yield f"{_name(line)}: {key} {name} never binds: every value satisfies it"


def _of_space(space: SearchSpace, images: int | None) -> Iterator[str]:
    lines = space.hyperparameters
    distributions = {
        tuple(line.distribution for line in lines_of(lines, "learning_rate", a)) for a in space.algorithms
    }
    if len(distributions) > 1:
        yield (
            "learning_rate: its lines differ between the algorithms, so their configurations of one index are not "
            "compared at equal learning rates"
        )
    if all(isinstance(line.distribution, Fixed) for line in lines):
        yield "every value is fixed: configurations differ in their random numbers alone, like more seeds of one"
    [batch] = (line for line in lines if line.name == "batch_size")
    if images is not None and _ends(batch)[1] > images:
        yield (
            f"batch_size: it goes up to {_ends(batch)[1]}, but the data set has {images} training images: "
            "a sweep refuses to start"
        )


def _ends(line: Hyperparameter) -> tuple[Any, Any]:
    support: Any = line.distribution.support
    return min(support), max(support)


def _name(line: Hyperparameter) -> str:
    return f"{line.name} ({listed(line.algorithms)})"
