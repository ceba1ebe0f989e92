"""The verdict in one sentence, with its uncertainty; or that it cannot be told at this budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.configurations import fid_matrix
from analysis.report.confirmation import headline
from analysis.report.contents import Contents
from analysis.report.words import listed, show
from analysis.uncertainty import FEWEST, Interval, honest_winner, improvement, median


def verdict(contents: Contents) -> str:
    """Say which algorithm is best, how sure that is, and what its best configuration is worth.

    Where configurations have been confirmed, it begins with what they are worth.
    """
    confirmed, said = headline(contents), _of_all(contents)
    return f"{confirmed} Over all configurations, {said[0].lower()}{said[1:]}" if confirmed else said


def _of_all(contents: Contents) -> str:
    names = contents.with_results
    silent = [name for name in contents.algorithms if name not in names]
    without = f" {listed(silent)} {'has' if len(silent) == 1 else 'have'} no result yet." if silent else ""
    if not names:
        return "No run has ended with an FID yet: nothing can be said." + without
    if len(names) == 1:
        return f"Only {names[0]} has results, so there is nothing to compare.{_worth(contents, names[0])}{without}"
    compared = dict(zip(names, _compared(contents, names), strict=True))
    fewest = min(map(len, compared.values()))
    if fewest < FEWEST:
        kind = "common configurations" if contents.is_paired else "configurations of each algorithm"
        return (
            f"Which algorithm is best cannot be told at this budget: that needs at least {FEWEST} {kind}, and there "
            f"{'is' if fewest == 1 else 'are'} {fewest}.{without}"
        )
    leader, *rivals = sorted(names, key=lambda name: median(compared[name]).value)
    wins = {rival: compare(contents, leader, rival) for rival in rivals}
    said = ", ".join(f"{show(win)} against {rival}" for rival, win in wins.items())
    unsure = [rival for rival, win in wins.items() if win.low <= 0.5]
    if unsure:
        sentence = (
            f"Whether {leader} is better than {listed(unsure, 'or')} cannot be told at this budget: a configuration "
            f"of {leader} beats another algorithm's with probability {said}."
        )
    else:
        sentence = (
            f"{leader} is the best at this budget: a configuration of it beats another algorithm's with probability "
            f"{said}."
        )
    return sentence + _worth(contents, leader) + without


def compare(contents: Contents, algorithm: str, rival: str) -> Interval:
    """Return the probability that a configuration of `algorithm` beats one of `rival`; paired where it can be.

    Raises:
        ValueError: one of them has no configuration that can be judged.
    """
    a, b = _compared(contents, [algorithm, rival])
    return improvement(a, b, paired=contents.is_paired)


def _compared(contents: Contents, names: Sequence[str]) -> list[np.ndarray]:
    """The configurations' mean FIDs: of those that all have where draws are paired."""
    judged = [contents.judged(name) for name in names]
    if contents.is_paired:
        common = sorted(set.intersection(*(set(values.index) for values in judged)))
        judged = [values.loc[common] for values in judged]
    return [values.to_numpy(dtype=float) for values in judged]


def _worth(contents: Contents, algorithm: str) -> str:
    matrix = fid_matrix(contents.runs, algorithm).to_numpy()
    if len(matrix) == 0 or matrix.shape[1] < 2 or headline(contents):
        return ""
    winner = honest_winner(matrix)
    return (
        f" The best configuration that was found with {algorithm} is worth an FID of {show(winner)}, by the seeds "
        "that did not pick it."
    )
