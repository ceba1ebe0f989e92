"""The rungs of ASHA: where it decides and which configurations are promoted, live and in the counterfactual."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wae_core.domains import LARGEST_NUMBER, SMALLEST_FACTOR

if TYPE_CHECKING:
    from sweep.settings.settings import Study  # analysis imports this file, and no settings


def rungs_of(study: Study) -> list[int]:
    """Return the steps at which the study's configurations are judged; none where every run gets all its steps."""
    return [] if study.asha is None else rungs(study.protocol.evaluation_steps, study.asha)


def is_reduction(reduction: float) -> bool:
    """Say whether η can be one: a finite number above 1, and not so near to it that the rungs have no end."""
    return SMALLEST_FACTOR <= reduction <= LARGEST_NUMBER


def rungs(steps: Sequence[int], reduction: float) -> list[int]:
    """Return the evaluation steps at which ASHA decides: the first at or after steps/η, steps/η², … of the last one.

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


def is_promoted(score: float, reached: Sequence[float], reduction: float) -> bool:
    """Say whether a configuration is promoted beyond a rung: it is among the best ⌈n/η⌉ there, and its FID is finite.

    The rule of asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel Hyperparameter
    Tuning") in the form that stops: one that is not promoted at once never is, so its rows are final.

    Args:
        score: the configuration's own, lower is better.
        reached: the scores of all n that have reached the rung, its own included, ascending.
        reduction: η.
    """
    return math.isfinite(score) and bisect_left(reached, score) < math.ceil(len(reached) / reduction)
