"""ASHA's rungs: where it decides and what goes on; for the live schedule and for the counterfactual alike."""

from __future__ import annotations

import math
from collections.abc import Sequence


def rungs(steps: Sequence[int], reduction: float) -> list[int]:
    """The evaluation steps at which ASHA decides: the first at or after steps/η, steps/η², … of the last one.

    Args:
        steps: evaluation steps, ascending.
        reduction: η.
    """
    last, targets = steps[-1], []
    target = last / reduction
    while target > steps[0] / reduction:
        targets.append(target)
        target /= reduction
    return sorted({next(step for step in steps if step >= target) for target in targets} - {last})


def goes_on(score: float, reached: Sequence[float], reduction: float) -> bool:
    """Whether a configuration goes on behind a rung: it is among the best ⌈n/η⌉ there, and has an FID at all.

    The rule of asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel Hyperparameter
    Tuning") in the form that stops: who is not good enough now never comes back, so that its row is final.

    Args:
        score: its own, lower is better.
        reached: the scores of all n that have reached the rung, its own included.
        reduction: η.
    """
    return math.isfinite(score) and sum(other < score for other in reached) < math.ceil(len(reached) / reduction)
