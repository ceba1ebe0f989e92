"""The ledger: finished work is the rows' sums exactly, and waste what attempts did that no row counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from sweep.command import main
from sweep.errors import ResultsError, SettingsError
from sweep.events import Event, Task, WorkerContext
from sweep.reports.ledger import ledger_frame
from sweep.results import study_file
from sweep.results.compaction import clean_up
from sweep.results.folder import StudyFolder
from sweep.results.plan_file import plan_table
from sweep.results.tables import Tables
from sweep.results.work.attempt_log import note_dropped_rows, read_attempts
from sweep.running.worker import run_task
from sweep.search.plan import plan_runs
from sweep.settings.settings import FailurePolicy, Study
from tests.places import local
from wae_core.data.images import data_sha256
from wae_core.flops import run_flops, step_flops
from wae_core.run import Run

SHAPE = (1, 28, 28)
TINY = {"width": 4, "steps": 6, "evaluation_steps": (2, 4, 6), "fid_samples": 100}

POLICY = FailurePolicy(tries=3, worker_deaths=5)


def attempt(folder: StudyFolder, run: Run) -> Iterator[Event]:
    """A worker that begins with the run."""
    context = WorkerContext(
        folder.root.parent,
        local(folder.root),
        data_sha256=data_sha256("digits"),
        inception=None,
        device="cpu",
        git_commit="unknown",
        checkpoint_steps=1000,
    )
    return run_task(Task((run,)), context)


def train(folder: StudyFolder, run: Run, evaluations: int | None = None) -> None:
    """Train the run to its row, or until so many evaluations are reported; then the worker is gone."""
    events = attempt(folder, run)
    for _ in events if evaluations is None else range(evaluations):
        if evaluations is not None:
            next(events)
    events.close()  # type: ignore[attr-defined]


def entry(folder: StudyFolder, algorithm: str) -> dict[str, Any]:
    frame = ledger_frame(folder)
    (row,) = frame[frame["algorithm"] == algorithm].to_dict("records")
    return {str(name): value for name, value in row.items()}


def assert_equals_the_rows(folder: StudyFolder) -> None:
    ledger = ledger_frame(folder).set_index("algorithm")
    for algorithm, rows in folder.read_table("runs").to_pandas().groupby("algorithm"):
        own = ledger.loc[algorithm]
        assert own["runs"] == len(rows)
        assert own["configurations"] == rows["config_index"].nunique()
        assert own["steps"] == rows["steps_done"].sum()
        assert own["images"] == rows["images_seen"].sum()
        assert own["train_seconds"] == rows["train_seconds"].sum()
        assert own["eval_seconds"] == rows["eval_seconds"].sum()


@pytest.fixture
def tiny(folder: StudyFolder, study: Study, make_run: Callable[..., Run]) -> Run:
    """A planned run of a claimed folder."""
    run = make_run("vae", **TINY)
    study_file.claim(folder, replace(study, protocol=run.protocol), POLICY, SHAPE)
    pq.write_table(plan_table([run]), folder.plan_file)
    return run


def test_finished_work_is_the_sum_of_the_rows_whatever_their_status(
    folder: StudyFolder, study: Study, make_result: Callable[..., Any]
) -> None:
    study_file.claim(folder, study, POLICY, SHAPE)
    mmd, vae = plan_runs(study, "wae-mmd", 6), plan_runs(study, "vae", 3)
    pq.write_table(plan_table([*mmd, *vae]), folder.plan_file)
    assert ledger_frame(folder).empty
    folder.publish(*make_result(mmd[0]))
    folder.publish(*make_result(mmd[1], "diverged", fids=(5.0,)))
    Tables(folder)
    folder.publish(*make_result(mmd[3], "failed", fids=()))
    folder.publish(*make_result(vae[0], fids=(3.0, 2.0, 1.0)))
    assert_equals_the_rows(folder)
    row = entry(folder, "wae-mmd")
    assert (row["runs"], row["configurations"], row["steps"]) == (3, 2, 30)
    assert row["wasted_steps"] == row["attempts"] == 0


@pytest.mark.slow
def test_flops_are_those_of_the_whole_run_and_unknown_without_the_study_file(folder: StudyFolder, tiny: Run) -> None:
    train(folder, tiny)
    assert entry(folder, "vae")["flops"] == run_flops(tiny, SHAPE)
    folder.study_file.unlink()
    assert pd.isna(entry(folder, "vae")["flops"])
    assert_equals_the_rows(folder)


@pytest.mark.slow
def test_flops_of_what_no_run_can_be_are_unknown(folder: StudyFolder, tiny: Run) -> None:
    """They are counted in networks that are built: images of 10⁹ pixels a side took all memory."""
    train(folder, tiny)
    whole = yaml.safe_load(folder.study_file.read_bytes())
    damages = [
        {"image_shape": [3, 10**9, 10**9]},
        {"image_shape": [1]},
        {"protocol": whole["protocol"] | {"steps": -1}},
    ]
    for damage in damages:
        local(folder.study_file).write_text(yaml.safe_dump(whole | damage))
        assert pd.isna(entry(folder, "vae")["flops"])


@pytest.mark.slow
def test_a_kill_that_loses_no_checkpoint_is_an_attempt_and_no_known_waste(folder: StudyFolder, tiny: Run) -> None:
    train(folder, tiny, evaluations=2)
    assert entry(folder, "vae") | {"wasted_seconds": 0} == entry(folder, "vae")
    train(folder, tiny)
    row = entry(folder, "vae")
    assert (row["attempts"], row["wasted_steps"], row["wasted_seconds"], row["steps"]) == (2, 0, 0, 6)
    assert_equals_the_rows(folder)


@pytest.mark.slow
def test_work_after_a_lost_checkpoint_is_waste_and_stays_on_record(folder: StudyFolder, tiny: Run) -> None:
    train(folder, tiny, evaluations=3)
    local(folder.work(tiny.run_id) / "attempt-001" / "step-000000006.safetensors").write_bytes(b"damaged")
    train(folder, tiny, evaluations=1)
    train(folder, tiny)
    row = entry(folder, "vae")
    assert (row["attempts"], row["wasted_steps"], row["wasted_images"]) == (3, 2, 2 * 40)  # steps 5 and 6, once more
    assert row["wasted_flops"] == 2 * step_flops(tiny, SHAPE)
    assert row["wasted_seconds"] > 0
    assert_equals_the_rows(folder)
    for _ in range(2):  # twice is as once
        clean_up(folder, Tables(folder), [tiny.run_id], None)
        assert not list(folder.work(tiny.run_id).glob("attempt-*"))
        assert entry(folder, "vae") == row


@pytest.mark.slow
def test_an_orphan_that_writes_on_after_its_attempt_was_recorded_counts_once(folder: StudyFolder, tiny: Run) -> None:
    orphan = attempt(folder, tiny)
    next(orphan)
    train(folder, tiny)
    assert entry(folder, "vae")["wasted_steps"] == 0
    next(orphan)  # step 4, which the other attempt has reached as well
    assert entry(folder, "vae")["wasted_steps"] == 2
    assert len(read_attempts(folder)) == 2
    list(orphan)
    row = entry(folder, "vae")
    assert (row["runs"], row["steps"], row["wasted_steps"]) == (1, 6, 4)


@pytest.mark.slow
def test_a_failed_run_that_is_tried_again_wastes_what_it_did(
    folder: StudyFolder, tiny: Run, make_result: Callable[..., Any]
) -> None:
    train(folder, tiny, evaluations=2)
    folder.publish(*make_result(tiny, "failed", fids=(9.0, 8.0), steps_done=4))
    tables = Tables(folder)
    clean_up(folder, tables, tables.run_ids(), None)
    assert entry(folder, "vae")["wasted_steps"] == 0  # the failed row counts it
    tables.drop_failed()
    note_dropped_rows(folder, [tiny.run_id])
    assert entry(folder, "vae")["wasted_steps"] == 4
    train(folder, tiny)
    row = entry(folder, "vae")
    assert (row["runs"], row["steps"], row["wasted_steps"], row["attempts"]) == (1, 6, 4, 2)


def test_an_attempt_that_died_at_its_very_start_is_passed_over(folder: StudyFolder, tiny: Run) -> None:
    (folder.work(tiny.run_id) / "attempt-001").mkdir(parents=True)
    train(folder, tiny)
    assert entry(folder, "vae")["attempts"] == 1
    assert entry(folder, "vae")["wasted_steps"] == 0


def test_attempts_that_are_damaged_are_refused_by_their_hash(folder: StudyFolder, tiny: Run) -> None:
    train(folder, tiny)
    clean_up(folder, Tables(folder), [tiny.run_id], None)
    data = folder.attempts_file.read_bytes()
    place = data.index(b"attempt-001") + len("attempt-00")
    local(folder.attempts_file).write_bytes(data[:place] + b"7" + data[place + 1 :])
    with pytest.raises(ResultsError, match=r"attempts\.parquet cannot be used: its hash .*; delete it"):
        read_attempts(folder)


def test_status_shows_the_ledger(folder: StudyFolder, tiny: Run, capsys: pytest.CaptureFixture[str]) -> None:
    train(folder, tiny)
    assert main(["status", "--results", str(folder.root.parent)]) == 0
    output = capsys.readouterr().out
    assert "ledger: what each algorithm has spent" in output
    (line,) = [line for line in output.splitlines() if "FLOP" in line and "vae" in line]
    assert "240" in line  # images


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": 8, "evaluation_steps": (2, 4, 8)}, "protocol.steps is 4 there and 8 in this launch"),
        ({"evaluation_steps": (1, 4)}, "protocol.evaluation_steps is [2, 4] there and [1, 4] in this launch"),
    ],
    ids=["steps", "evaluation steps"],
)
def test_an_algorithm_gets_no_other_steps_or_evaluations_than_the_study_has_given_another(
    folder: StudyFolder, study: Study, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    study_file.claim(folder, study, POLICY, SHAPE)
    pq.write_table(plan_table(plan_runs(study, "wae-mmd", 3)), folder.plan_file)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(SettingsError, match="belongs to another version of study test") as refused:
        study_file.claim(folder, replace(study, protocol=replace(study.protocol, **change)), POLICY, SHAPE)
    assert said in str(refused.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
