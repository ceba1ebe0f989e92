"""What ASHA and fewer seeds would have found: on hand-made studies whose answer is plain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.counterfactual import summary
from analysis.strategies import (
    FRESH,
    SHARE,
    UNSEEN,
    Finished,
    Sweep,
    asha,
    compare,
    drawn_sweeps,
    finished,
    seeds_alone,
)
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
            best = min(own, default=np.nan)
            runs.append(run | figures | {"best_fid": best, "confirmed_fid": best + 0.5})
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
    assert own.best.tolist() == [[3.0, 4.0], [1.0, np.inf]]
    assert own.confirmed.tolist() == [[3.5, 4.5], [1.5, np.inf]]


def test_configurations_that_lack_a_seed_or_failed_are_left_out() -> None:
    runs, evaluations = tables({0: [[5.0], [4.0]], 1: [[3.0]], 2: [[2.0], [1.0]]})
    runs.loc[runs["config_index"] == 2, "status"] = "failed"
    assert finished(runs, evaluations, "wae-mmd").best.tolist() == [[5.0, 4.0]]


def test_a_study_that_was_stopped_early_itself_is_refused() -> None:
    runs, evaluations = tables({0: [[5.0, 4.0, 3.0]], 1: [[6.0]]})
    runs.loc[1, "steps_done"] = 10
    with pytest.raises(ValueError, match="was stopped early itself"):
        finished(runs, evaluations, "wae-mmd")


def in_order(*order: int, seen: tuple[int, ...] = (0,), judge: int | None = None) -> Sweep:
    return Sweep(np.array(order), seen, judge)


def test_asha_stops_what_is_behind_and_what_it_stops_costs_the_steps_to_the_rung() -> None:
    """Rungs of η = 2: 10 (7.5) and 20 (15)."""
    own = study([8.0, 8.0, 8.0], [9.0, 1.0, 1.0], [7.0, 7.0, 7.0], [6.0, 6.0, 6.0])
    outcome = asha(own, 2, [in_order(0, 1, 2, 3), in_order(3, 2, 1, 0)])
    assert outcome.spent.tolist() == [[30, 10, 30, 30], [30, 10, 10, 10]]
    assert outcome.picked_by.tolist() == [[8, np.inf, 7, 6], [6, np.inf, np.inf, np.inf]]


def test_a_configuration_that_has_diverged_is_stopped_even_where_it_comes_first() -> None:
    runs, evaluations = tables({0: [[5.0]], 1: [[9.0, 8.0, 7.0]]}, {(0, 0): 10})
    outcome = asha(finished(runs, evaluations, "wae-mmd"), 2, [in_order(0, 1)])
    assert outcome.spent.tolist() == [[10, 30]]
    assert outcome.picked_by.tolist() == [[np.inf, 7.0]]


def test_a_strategy_picks_by_what_it_sees_and_is_judged_by_what_it_does_not() -> None:
    own = finished(*tables({0: [[9.0], [1.0], [5.0]], 1: [[4.0], [4.0], [4.0]]}), "wae-mmd")
    one = seeds_alone(own, 1, [in_order(0, 1, seen=(1, 0), judge=2), in_order(0, 1, seen=(0, 2), judge=1)])
    assert one.picked_by.tolist() == [[1, 4], [9, 4]]
    assert one.picks(60)[1].tolist() == [5.0, 4.0] and one.judge == UNSEEN
    all_seeds = seeds_alone(own, 3, [in_order(0, 1, seen=(0, 1, 2))])
    assert all_seeds.judge == FRESH and all_seeds.value.tolist() == [[5.5, 4.5]]  # 0.5 more on fresh samples


def test_at_equal_steps_fewer_seeds_come_to_more_configurations() -> None:
    own = finished(*tables({i: [[100.0 - i] * 3] * 3 for i in range(48)}), "wae-mmd")
    table = summary(compare(own, reductions=())).set_index("strategy")
    assert table.loc[["3 seeds", "2 seeds", "1 seed"], "configurations"].tolist() == [4, 6, 12]
    assert table.loc[["3 seeds", "2 seeds", "1 seed"], "saved"].tolist() == pytest.approx([0, 1 / 3, 2 / 3])
    assert table["judged_by"].tolist() == [FRESH, UNSEEN, UNSEEN]


def test_what_is_picked_is_no_better_for_having_been_picked() -> None:
    """Of configurations that differ by nothing but luck, the pick is worth what all are: the median of one seed."""
    generator = np.random.default_rng(0)
    fids = {i: [[float(fid)] for fid in np.exp(5 + 0.2 * generator.standard_normal(3))] for i in range(300)}
    table = summary(compare(finished(*tables(fids), "wae-mmd"), reductions=())).set_index("strategy")
    for strategy in ("1 seed", "2 seeds"):
        assert table.loc[strategy, "fid"] == pytest.approx(np.exp(5), rel=0.07)
    assert table.loc["3 seeds", "fid"] < 0.85 * np.exp(5), "its own seeds flatter it, as its column judged_by says"


@pytest.mark.slow
@pytest.mark.parametrize(("count", "between", "within"), [(24, 0.3, 0.1), (60, 0.3, 0.03), (60, 0.1, 0.2)])
def test_the_band_holds_four_fifths_of_other_sweeps_of_the_space(count: int, between: float, within: float) -> None:
    """Of 60 studies, each says with its band what other sweeps' picks, by one seed, are worth by another one."""
    held = []
    for number in range(60):
        generator = np.random.default_rng(number)

        def draw(size: int, generator: np.random.Generator = generator) -> np.ndarray:
            effects = 5 + between * generator.standard_normal(size)
            return np.asarray(np.exp(effects[:, None] + within * generator.standard_normal((size, 3))))

        best = draw(count)
        steps = np.full((count, 3, 1), 30)
        own = Finished(steps=np.array([30]), fids=best[:, :, None], spent=steps, best=best, confirmed=best)
        row = summary([seeds_alone(own, 1, drawn_sweeps(own))]).iloc[0]
        for other in (draw(count // SHARE) for _ in range(100)):
            held.append(row["low"] <= other[other[:, 0].argmin(), 1] <= row["high"])
    assert 0.7 <= np.mean(held) <= 0.9


@pytest.mark.slow
def test_few_configurations_are_refused_and_the_next_algorithm_is_gone_on_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = StudyFolder(tmp_path, "digits")
    folder.records.mkdir(parents=True)

    def publish(algorithm: str, count: int) -> None:
        for index in range(count):
            for seed in range(2):
                row = run_row(algorithm, index, seed, 10.0 + index)
                folder.publish(row, [evaluation_row(row, 100, 10.0 + index)])

    publish("wae-mmd", 2)
    words = ["counterfactual", "--results", str(tmp_path), "--out", str(tmp_path / "new" / "asha.png")]
    assert main(words) == 2
    assert (
        "wae-mmd needs at least 24 configurations that ended with all their seeds, and has 2"
        in capsys.readouterr().err
    )
    publish("vae", 24)
    assert main(words) == 0
    output = capsys.readouterr()
    assert "vae: 24 configurations × 2 seeds" in output.out and "wae-mmd needs at least 24" in output.err
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["asha-vae.png"], "and no empty axes"


@pytest.mark.slow
def test_command_prints_a_table_draws_a_picture_and_refuses_what_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(0)
    fids = {i: [sorted(generator.uniform(i, 10 + i, 3), reverse=True) for _ in range(3)] for i in range(24)}
    folder = StudyFolder(tmp_path, "digits")
    folder.records.mkdir(parents=True)
    for index, seeds in fids.items():
        for seed, own in enumerate(seeds):
            row = run_row("wae-mmd", index, seed, min(own), steps_planned=30, steps_done=30)
            folder.publish(row, [evaluation_row(row, int(step), fid) for step, fid in zip(STEPS, own, strict=True)])
    assert main(["counterfactual", "--results", str(tmp_path), "--out", str(tmp_path / "new" / "asha.png")]) == 0
    output = capsys.readouterr().out
    assert "wae-mmd: 24 configurations × 3 seeds, 2,160 steps" in output
    assert "ASHA, η = 3" in output
    assert (tmp_path / "new" / "asha-wae-mmd.png").stat().st_size > 10_000
    assert main(["counterfactual", "--results", str(tmp_path), "--study", "nosuch"]) == 2
    assert "no study 'nosuch'" in capsys.readouterr().err
