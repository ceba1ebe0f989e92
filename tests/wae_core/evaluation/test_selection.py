"""Which checkpoint is kept, on hand-made evaluations in any order."""

from __future__ import annotations

import itertools
import math

import pytest

from wae_core.evaluation.selection import Evaluation, select_checkpoint


def evaluations(*fid_at_step: tuple[int, float]) -> list[Evaluation]:
    """Every other figure is best where the FID is worst, and must not matter."""
    return [Evaluation(step, fid, -fid, -fid, -fid, -fid, -fid, -fid, -step) for step, fid in fid_at_step]


@pytest.mark.parametrize(
    ("fids", "step"),
    [
        ([(10, 5.0), (20, 3.0), (30, 4.0)], 20),
        ([(10, 3.0), (20, 3.0), (30, 9.0)], 10),  # a tie: the earliest
        ([(5, 9.0), (20, 3.0), (100, 3.0)], 20),  # 20 before 100: steps are numbers, not words
        ([(10, math.nan), (20, 8.0), (30, 7.0)], 30),
        ([(10, 8.0), (20, math.inf), (30, math.nan)], 10),
        ([(10, 8.0), (20, -math.inf)], 10),
        ([(10, 0.0), (20, 1e-300)], 10),
        ([(10, 1e308), (20, math.inf)], 10),
        ([(10, 7.0)], 10),
    ],
)
def test_lowest_finite_fid_and_the_earliest_on_ties(fids: list[tuple[int, float]], step: int) -> None:
    for order in itertools.permutations(evaluations(*fids)):
        selected = select_checkpoint(order)
        assert selected is not None and selected.step == step
        assert any(selected is evaluation for evaluation in order)  # the record itself, not its index


@pytest.mark.parametrize("fids", [[], [(10, math.nan)], [(10, math.inf), (20, math.nan), (30, -math.inf)]])
def test_none_without_a_finite_fid(fids: list[tuple[int, float]]) -> None:
    assert select_checkpoint(evaluations(*fids)) is None
