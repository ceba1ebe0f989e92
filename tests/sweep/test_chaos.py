"""What `make chaos` would find: each kind of difference is named, and blows wait until the sweep can bear them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest

from sweep.reports.ledger import ledger_frame
from sweep.results.folder import StudyFolder, read_evaluations, read_runs
from sweep.results.parquet import write_table
from sweep.results.plan_file import plan_table
from sweep.results.tables import Tables
from tests.chaos.compare import differences, ledger_errors
from tests.chaos.killer import Blow, Killer, random_blows
from tests.chaos.progress import left_behind, milestones, most_barren, names
from wae_core.run import Run

MakeRun = Callable[..., Run]
Frames = tuple[pd.DataFrame, pd.DataFrame]


@pytest.fixture
def frames(folder: StudyFolder, make_run: MakeRun, make_result: Callable[..., Any]) -> Frames:
    """The runs and evaluations of two ended runs, one of which diverged before its first evaluation."""
    write_table(folder.plan_file, plan_table([make_run("vae", seed=seed) for seed in range(2)]))
    folder.publish(*make_result(make_run("vae")))
    folder.publish(*make_result(make_run("vae", seed=1), status="diverged", fids=()))
    Tables(folder)
    results = folder.root.parent
    return read_runs(results, "test"), read_evaluations(results, "test")


def test_equal_tables_do_not_differ_whatever_their_order_and_timings(frames: Frames) -> None:
    runs, evaluations = frames
    again = runs.iloc[::-1].assign(train_seconds=99.0, attempts=7, host="there")
    assert differences("runs", runs, again) == []
    assert differences("evaluations", evaluations, evaluations.iloc[::-1].assign(train_seconds=0.0)) == []


def test_last_bit_of_a_figure_is_a_difference(frames: Frames) -> None:
    runs, evaluations = frames
    other = evaluations.assign(fid=evaluations["fid"] + [0, 2**-50])
    (found,) = differences("evaluations", evaluations, other)
    assert found.startswith("evaluations.fid differs in vae-00000-s0 step 20; first: 7.5 and 7.5000000000000")
    (found,) = differences("runs", runs, runs.assign(best_fid=runs["best_fid"].fillna(1.0)))
    assert found.startswith("runs.best_fid differs in vae-00000-s1; first: nan and ")


def test_rows_that_are_missing_or_doubled_are_named(frames: Frames) -> None:
    runs, evaluations = frames
    assert differences("runs", runs, runs[:1]) == ["runs: missing vae-00000-s1"]
    assert differences("runs", runs[:1], runs) == ["runs: too many vae-00000-s1"]
    assert differences("runs", runs, pd.concat([runs, runs[:1]])) == ["runs: vae-00000-s0 there twice"]
    assert differences("evaluations", evaluations, evaluations[:1]) == ["evaluations: missing vae-00000-s0 step 20"]
    assert differences("runs", runs, runs.drop(columns="best_fid")) == ["runs: only one has the column best_fid"]


def test_ledger_names_what_is_missing(folder: StudyFolder, frames: Frames, make_run: MakeRun) -> None:
    assert ledger_errors(folder) == []
    write_table(folder.plan_file, plan_table([make_run("vae", seed=seed) for seed in range(3)]))
    (found,) = ledger_errors(folder)
    assert found.endswith("3 planned, 1 completed, 1 diverged, 0 failed, 1 missing")


def test_ledger_that_counts_other_than_the_rows_is_named(
    folder: StudyFolder, frames: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_less = ledger_frame(folder).assign(steps=lambda frame: frame["steps"] - 1)
    monkeypatch.setattr("tests.chaos.compare.ledger_frame", lambda folder: one_less)
    assert ledger_errors(folder) == ["the ledger of vae has 19 steps, but its rows 20"]


def test_attempts_and_records_are_left_over(folder: StudyFolder, make_run: MakeRun, make_result: Any) -> None:
    folder.publish(*make_result(make_run("vae")))
    (folder.work("vae-00000-s0") / "attempt-001").mkdir(parents=True)
    assert left_behind(names(str(folder.root))) == {"records/vae-00000-s0.parquet", "work/vae-00000-s0/attempt-001"}


def test_attempts_since_the_newest_checkpoint_are_counted() -> None:
    found = {f"test/work/a/attempt-00{number}" for number in (1, 2, 3)}
    assert most_barren(found) == 3
    found |= {"test/work/a/attempt-002/step-000000006.json", "test/work/b/attempt-001"}
    assert most_barren(found) == 1
    assert milestones(found) == {"test/work/a/attempt-002/step-000000006.json"}


def test_blow_waits_for_a_checkpoint_and_for_a_run_that_could_fail(tmp_path: Path) -> None:
    kinds: list[str] = []

    def hit() -> bool:
        kinds.append("worker")
        return True

    def checkpoint(attempt: int) -> None:
        (tmp_path / "work" / "a" / f"attempt-00{attempt}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "work" / "a" / f"attempt-00{attempt}" / f"step-00000000{attempt}.json").touch()

    killer = Killer(str(tmp_path), iter([Blow("worker")] * 3), {"worker": hit})
    assert killer.strike_if_due() is None
    checkpoint(1)
    assert killer.strike_if_due() == "worker"
    assert killer.strike_if_due() is None
    for attempt in (2, 3, 4):
        (tmp_path / "work" / "a" / f"attempt-00{attempt}").mkdir()
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "b.parquet").touch()
    assert killer.strike_if_due() is None
    checkpoint(4)
    assert killer.strike_if_due() == "worker"
    assert killer.kills == {"worker": 2}


def test_blow_waits_for_its_pause_and_for_a_victim(tmp_path: Path) -> None:
    victims = iter([False, True])
    killer = Killer(str(tmp_path), iter([Blow("driver", 0.2, at_start=True)]), {"driver": lambda: next(victims)})
    assert killer.strike_if_due() is None
    time.sleep(0.25)
    assert killer.strike_if_due() is None
    assert killer.strike_if_due() == "driver"
    assert killer.strike_if_due() is None


def test_blows_are_those_of_the_seed() -> None:
    def draw(seed: int) -> list[Blow]:
        blows = random_blows(Random(seed), {"worker": 3, "driver": 1}, mean_pause=2.0)
        return [next(blows) for _ in range(50)]

    assert draw(0) == draw(0) != draw(1)
    assert {blow.kind for blow in draw(0)} == {"worker", "driver"}
