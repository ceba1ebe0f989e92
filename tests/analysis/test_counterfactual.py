"""What ASHA and fewer seeds would have found: on hand-made studies whose answer is plain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.counterfactual import Finished, asha, compare, fewer_seeds, finished, full, summary
from sweep.command import main
from sweep.results.folder import StudyFolder
from tests.analysis.test_analysis import evaluation_row, run_row

STEPS = np.array([10, 20, 30])


def tables(
    fids: dict[int, list[list[float]]], diverged_at: dict[tuple[int, int], int] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """runs and evaluations of wae-mmd; fids: configuration -> a list of FIDs per seed."""
    runs, evaluations = [], []
    for index, seeds in fids.items():
        for seed, own in enumerate(seeds):
            end = (diverged_at or {}).get((index, seed))
            run = {
                "study": "digits",
                "algorithm": "wae-mmd",
                "config_index": index,
                "seed": seed,
                "run_id": f"wae-mmd-{index:05d}-s{seed}",
            }
            figures = {"status": "diverged" if end else "completed", "steps_planned": 30, "steps_done": end or 30}
            runs.append(run | figures | {"best_fid": min(own, default=np.nan)})
            evaluations += [run | {"step": int(step), "fid": fid} for step, fid in zip(STEPS, own, strict=False)]
    return pd.DataFrame(runs), pd.DataFrame(evaluations)


def study(*configurations: list[float]) -> Finished:
    """One seed each."""
    return finished(*tables({index: [own] for index, own in enumerate(configurations)}), "wae-mmd")


def test_best_so_far_steps_and_divergence() -> None:
    runs, evaluations = tables({0: [[5.0, 7.0, 3.0], [6.0, 4.0, 8.0]], 2: [[9.0, 1.0, 2.0], [8.0]]}, {(2, 1): 20})
    own = finished(runs, evaluations, "wae-mmd")
    assert own.steps.tolist() == [10, 20, 30]
    assert own.fids.tolist() == [
        [[5.0, 5.0, 3.0], [6.0, 4.0, 4.0]],
        [[9.0, 1.0, 1.0], [8.0, np.inf, np.inf]],
    ]
    assert own.spent.tolist() == [[[10, 20, 30]] * 2, [[10, 20, 30], [10, 20, 20]]]
    assert own.value.tolist() == [3.5, np.inf]


def test_configurations_that_lack_a_seed_or_failed_are_left_out() -> None:
    runs, evaluations = tables({0: [[5.0], [4.0]], 1: [[3.0]], 2: [[2.0], [1.0]]})
    runs.loc[runs["config_index"] == 2, "status"] = "failed"
    assert finished(runs, evaluations, "wae-mmd").value.tolist() == [4.5]


def test_a_study_that_was_stopped_early_itself_is_refused() -> None:
    runs, evaluations = tables({0: [[5.0, 4.0, 3.0]], 1: [[6.0]]})
    runs.loc[1, "steps_done"] = 10
    with pytest.raises(ValueError, match="was stopped early itself"):
        finished(runs, evaluations, "wae-mmd")


def test_asha_stops_what_is_behind_and_what_it_stops_costs_the_steps_to_the_rung() -> None:
    """Rungs of η = 2: 10 (7.5) and 20 (15)."""
    own = study([8.0, 8.0, 8.0], [9.0, 1.0, 1.0], [7.0, 7.0, 7.0], [6.0, 6.0, 6.0])
    outcome = asha(own, 2, np.array([[0, 1, 2, 3], [3, 2, 1, 0]]))
    assert outcome.spent.tolist() == [[30, 10, 30, 30], [10, 10, 10, 30]]
    assert outcome.picked_by.tolist() == [[8, np.inf, 7, 6], [np.inf, np.inf, np.inf, 6]]


def test_a_configuration_that_has_diverged_is_stopped_even_where_it_comes_first() -> None:
    runs, evaluations = tables({0: [[5.0]], 1: [[9.0, 8.0, 7.0]]}, {(0, 0): 10})
    outcome = asha(finished(runs, evaluations, "wae-mmd"), 2, np.array([[0, 1]]))
    assert outcome.spent.tolist() == [[10, 30]]
    assert outcome.picked_by.tolist() == [[np.inf, 7.0]]


def test_fewer_seeds_are_every_choice_of_them_judged_by_all() -> None:
    own = finished(*tables({0: [[9.0], [1.0]], 1: [[4.0], [4.0]]}), "wae-mmd")
    outcome = fewer_seeds(own, 1)
    assert outcome.picked_by.tolist() == [[9, 4], [1, 4]]
    row = summary(own, [full(own), outcome]).set_index("strategy").loc["1 seed"]
    assert row["saved"] == 0.5
    assert row["fid"] == (4 + 5) / 2  # the pick's mean over both seeds
    assert row["lost"] == 0.5
    assert row["same_pick"] == 0.5


def test_what_was_done_is_the_measure() -> None:
    own = study([8.0, 7.0, 3.0], [9.0, 1.0, 2.0])
    row = summary(own, compare(own)).set_index("strategy").loc["as it was"]
    assert (row["saved"], row["fid"], row["lost"], row["same_pick"]) == (0, 1.0, 0, 1)


@pytest.mark.slow
def test_command_prints_a_table_draws_a_picture_and_refuses_what_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(0)
    fids = {i: [sorted(generator.uniform(i, 10 + i, 3), reverse=True) for _ in range(3)] for i in range(8)}
    folder = StudyFolder(tmp_path, "digits")
    folder.records.mkdir(parents=True)
    for index, seeds in fids.items():
        for seed, own in enumerate(seeds):
            row = run_row("wae-mmd", index, seed, min(own), steps_planned=30, steps_done=30)
            folder.publish(row, [evaluation_row(row, int(step), fid) for step, fid in zip(STEPS, own, strict=True)])
    assert main(["counterfactual", "--results", str(tmp_path), "--out", str(tmp_path / "new" / "asha.png")]) == 0
    output = capsys.readouterr().out
    assert "wae-mmd: 8 configurations × 3 seeds, 720 steps" in output
    assert "ASHA, η = 3" in output
    assert (tmp_path / "new" / "asha-wae-mmd.png").stat().st_size > 10_000
    assert main(["counterfactual", "--results", str(tmp_path), "--study", "nosuch"]) == 2
    assert "no study 'nosuch'" in capsys.readouterr().err
