"""Rows are written exactly once: whatever races, crashes or reads at the same time."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweep.errors import ResultsError
from sweep.results.folder import StudyFolder, read_evaluations, read_runs
from sweep.results.parquet import serialise
from sweep.results.schema import EVALUATIONS, RUNS
from sweep.results.tables import Tables
from tests import crashes
from tests.places import local
from wae_core.hyperparameters import DECLARED
from wae_core.run import ALGORITHMS, Run

# design.md's lists and fid_infinity, written down a second time: a change of these is a change of the public schema.
RUNS_COLUMNS = re.findall(
    r"\w+",
    """
schema_version study algorithm config_index config_id seed run_id status status_reason latent_dim batch_size
learning_rate adversary_learning_rate kernel_scale wae_lambda decoder_variance architecture encoder steps_planned
steps_done best_step best_fid confirmed_fid fid_infinity best_sharpness best_reconstruction_error fid_features
fid_reference fid_samples fid_warning data_sha256 precision images_seen train_seconds eval_seconds cpu_seconds device
host attempts pack_size git_commit started_at ended_at checkpoint_path
""",
)
EVALUATIONS_COLUMNS = re.findall(
    r"\w+",
    """
run_id algorithm config_index seed step fid sharpness reconstruction_error train_reconstruction_error latent_mmd
loss penalty train_seconds
""",
)


def files(folder: StudyFolder) -> dict[str, bytes]:
    root = local(folder.root)
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def rows_of(folder: StudyFolder) -> Counter[str]:
    """How often each run has a row."""
    return Counter(folder.read_table("runs")["run_id"].to_pylist())


def evaluations_of(folder: StudyFolder) -> Counter[tuple[str, int]]:
    """How often each (run, step) has an evaluation."""
    table = folder.read_table("evaluations")
    return Counter(zip(table["run_id"].to_pylist(), table["step"].to_pylist(), strict=True))


# --- the columns


def test_the_columns_are_the_published_ones_in_their_order(folder: StudyFolder) -> None:
    Tables(folder)
    results = folder.root.parent
    columns = list(read_runs(results, "test").columns)
    assert [name for name in columns if name in RUNS_COLUMNS] == RUNS_COLUMNS
    added = [name for name in columns if name not in RUNS_COLUMNS]  # by other algorithms
    assert set(added) <= set(DECLARED) and columns.index("encoder") + 1 == columns.index("steps_planned")
    assert list(read_evaluations(results, "test").columns) == EVALUATIONS_COLUMNS


def test_what_is_published_is_what_is_read(
    folder: StudyFolder, make_run: Callable[..., Run], make_result: Callable[..., Any]
) -> None:
    row, evaluations = make_result(make_run("vae"), "diverged", fids=(9.0, float("nan")))
    assert folder.publish(row, evaluations)
    for _ in range(2):  # out of the record, then out of the tables
        assert folder.read_table("runs").to_pylist() == [asdict(row)]
        read = folder.read_table("evaluations").to_pylist()
        assert str(read) == str([{name: asdict(e)[name] for name in EVALUATIONS.names} for e in evaluations])
        Tables(folder)
    frame = read_runs(folder.root.parent, "test")
    assert frame["encoder"].isna().all()
    assert frame["kernel_scale"].dtype == "float64"
    assert str(frame["started_at"].dtype) == "datetime64[us, UTC]"


def test_tables_of_the_schema_before_the_warning_are_read(
    folder: StudyFolder, make_run: Callable[..., Run], make_result: Callable[..., Any]
) -> None:
    """A column that lacks in a table of this version is still a damage."""
    row, evaluations = make_result(make_run("vae"), schema_version=3)
    folder.publish(row, evaluations)
    Tables(folder)
    path = local(folder.table_file("runs", "vae"))
    old = pq.read_table(path).drop_columns("fid_warning")
    path.write_bytes(serialise(old))
    assert folder.read_table("runs").to_pylist() == [asdict(row)]
    version = old.schema.get_field_index("schema_version")
    path.write_bytes(serialise(old.set_column(version, old.schema.field(version), pa.array([4]))))
    with pytest.raises(ResultsError, match="it lacks the column fid_warning"):
        folder.read_table("runs")


# --- publish


def test_a_second_result_of_a_run_changes_nothing(
    folder: StudyFolder, make_run: Callable[..., Run], make_result: Callable[..., Any]
) -> None:
    run = make_run("vae")
    assert folder.publish(*make_result(run, host="first")) is True
    before = files(folder)
    assert folder.publish(*make_result(run, fids=(1.0, 2.0, 3.0), host="second")) is False
    assert files(folder) == before
    assert list(before) == ["records/vae-00000-s0.parquet"], "no temporary file stays"


@pytest.mark.slow
def test_of_eight_processes_that_publish_the_same_run_one_wins(
    folder: StudyFolder, make_run: Callable[..., Run], make_result: Callable[..., Any]
) -> None:
    run, barrier, answers = make_run("vae"), crashes.FORK.Barrier(8), crashes.FORK.SimpleQueue()

    def publish(number: int) -> None:
        results = [make_result(make_run("vae", seed=seed), host=f"process {number}") for seed in range(10)]
        barrier.wait(timeout=30)
        answers.put((number, [folder.publish(*result) for result in results]))

    processes = [crashes.FORK.Process(target=publish, args=(number,)) for number in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0] * 8
    created = dict(answers.get() for _ in processes)
    assert len(files(folder)) == 10, "no temporary file stays"
    rows = {row["seed"]: row for row in folder.read_table("runs").to_pylist()}
    assert rows[0]["run_id"] == run.run_id
    for seed in range(10):
        winners = [number for number, answer in created.items() if answer[seed]]
        assert len(winners) == 1
        assert rows[seed]["host"] == f"process {winners[0]}"


def test_a_publisher_that_fails_leaves_no_record(
    folder: StudyFolder,
    make_run: Callable[..., Run],
    make_result: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    result = make_result(make_run("vae"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            folder.publish(*result)
    assert rows_of(folder) == {}
    assert folder.publish(*result)


# --- compact


def test_the_tables_are_there_typed_and_empty_before_the_first_run(folder: StudyFolder) -> None:
    tables = Tables(folder)
    assert tables.run_ids() == set()
    for name, schema in (("runs", RUNS), ("evaluations", EVALUATIONS)):
        names = {path.name for path in local(folder.root / name).iterdir()}
        assert names == {f"{algorithm}.parquet" for algorithm in ALGORITHMS}
        for algorithm in ALGORITHMS:
            table = pq.read_table(folder.root / name / f"{algorithm}.parquet")
            assert (len(table), table.schema.equals(schema)) == (0, True)


def test_records_become_rows_once(
    folder: StudyFolder, make_run: Callable[..., Run], make_result: Callable[..., Any]
) -> None:
    tables = Tables(folder)
    runs = [make_run(algorithm, seed=seed) for algorithm in ALGORITHMS for seed in range(2)]
    for run in runs:
        folder.publish(*make_result(run))
    ids = {run.run_id for run in runs}
    assert sorted(tables.compact()) == sorted(ids)
    assert tables.run_ids() == ids
    assert list(local(folder.records).iterdir()) == []
    after = files(folder)
    assert tables.compact() == []
    assert Tables(folder).run_ids() == ids
    assert files(folder) == after, "compacting again, and opening again, write nothing"
    assert rows_of(folder) == Counter(ids)
    assert evaluations_of(folder) == Counter((run_id, step) for run_id in ids for step in (10, 20))
    for algorithm in ALGORITHMS:
        for name in ("runs", "evaluations"):
            table = pq.read_table(folder.root / name / f"{algorithm}.parquet")
            assert set(table["algorithm"].to_pylist()) == {algorithm}


def test_dropped_failed_runs_are_missing_and_can_have_another_result(
    folder: StudyFolder, make_run: Callable[..., Run], make_result: Callable[..., Any]
) -> None:
    runs = [make_run("vae", seed=seed) for seed in range(3)] + [make_run("wae-gan")]
    for run, status in zip(runs, ("completed", "failed", "diverged", "failed"), strict=True):
        folder.publish(*make_result(run, status, fids=(3.0, 2.0)))
    tables = Tables(folder)
    before = files(folder)
    assert tables.drop_failed() == 2
    assert tables.run_ids() == rows_of(folder).keys() == {runs[0].run_id, runs[2].run_id}
    assert {run_id for run_id, _ in evaluations_of(folder)} == {runs[0].run_id, runs[2].run_id}
    assert files(folder)["runs/wae-mmd.parquet"] == before["runs/wae-mmd.parquet"]
    assert tables.drop_failed() == 0

    folder.publish(*make_result(runs[1], "completed", fids=(1.0,)))
    assert tables.compact() == [runs[1].run_id]
    assert rows_of(folder)[runs[1].run_id] == 1
    assert [step for run_id, step in evaluations_of(folder) if run_id == runs[1].run_id] != []


@pytest.mark.parametrize("first_fids", [(9.0, 8.0), (9.0,), ()], ids=["as many", "fewer", "none"])
def test_the_table_wins_over_a_later_record(
    folder: StudyFolder,
    make_run: Callable[..., Run],
    make_result: Callable[..., Any],
    first_fids: tuple[float, ...],
) -> None:
    """An orphan of a killed driver publishes a run that the tables already have: row and evaluations stay its own."""
    run = make_run("vae")
    folder.publish(*make_result(run, "failed", first_fids))
    tables = Tables(folder)
    before = [folder.read_table(name).to_pylist() for name in ("runs", "evaluations")]
    assert folder.publish(*make_result(run, "completed", (1.0, 2.0))), "there is no record any more"
    assert [folder.read_table(name).to_pylist() for name in ("runs", "evaluations")] == before, "not compacted yet"
    assert tables.compact() == []
    assert [folder.read_table(name).to_pylist() for name in ("runs", "evaluations")] == before, "compacted"
    assert list(local(folder.records).iterdir()) == []


@pytest.mark.slow
def test_a_crash_at_any_point_of_compact_loses_and_doubles_nothing(
    folder: StudyFolder, make_run: Callable[..., Run], make_result: Callable[..., Any], tmp_path: Path
) -> None:
    already = make_run("vae", seed=2)
    folder.publish(*make_result(already))
    Tables(folder)
    runs = [make_run("vae"), make_run("vae", seed=1), make_run("wae-gan")]
    for run in runs:
        folder.publish(*make_result(run))
    folder.publish(*make_result(already, fids=(1.0,)))  # again, from an orphan
    once = Counter(run.run_id for run in [*runs, already])
    evaluations_once = Counter((run_id, step) for run_id in once for step in (10, 20))
    schemas = {"runs": RUNS, "evaluations": EVALUATIONS}

    def crashed_at(moment: int | None) -> tuple[StudyFolder, crashes.Ended | None]:
        crashed = StudyFolder(tmp_path / f"crash-{moment}", "test")
        shutil.copytree(local(folder.root), local(crashed.root))
        return crashed, crashes.run(lambda: Tables(crashed).compact(), local(crashed.root), moment)

    _, ended = crashed_at(None)
    assert ended is not None
    moments = ended.moments
    # Two algorithms have new runs: 2 × 2 tables are written, and 4 records deleted.
    kinds = Counter(moment.split()[0] for moment in moments)
    assert (kinds["open"], kinds["replace"], kinds["unlink"]) == (4, 4, 4)
    assert kinds["write"] >= 4
    for number, moment in enumerate(moments, start=1):
        crashed, passed = crashed_at(number)
        assert passed is None
        # A reader between the crash and the next launch, and the next launch.
        for recover in (lambda: None, lambda crashed=crashed: Tables(crashed)):
            recover()
            assert rows_of(crashed) == once, moment
            assert evaluations_of(crashed) == evaluations_once, moment
        assert list(local(crashed.records).iterdir()) == [], moment
        for name, schema in schemas.items():
            for path in (crashed.root / name).glob("*.parquet"):
                assert pq.read_schema(path).equals(schema), moment


# --- reading while others write


@pytest.mark.slow
def test_readers_see_each_run_once_while_records_come_and_are_compacted(
    folder: StudyFolder, make_run: Callable[..., Run], make_result: Callable[..., Any]
) -> None:
    tables, stop = Tables(folder), threading.Event()
    published: list[str] = []
    errors: list[BaseException] = []

    def guarded(step: Callable[[], object]) -> threading.Thread:
        def loop() -> None:
            try:
                while not stop.is_set():
                    step()
            except BaseException as error:
                errors.append(error)
                stop.set()

        return threading.Thread(target=loop)

    indices = iter(range(10_000))

    def publish() -> None:
        row, evaluations = make_result(make_run("vae", config_index=next(indices)))
        folder.publish(row, evaluations)
        published.append(row.run_id)

    looks = Counter[str]()

    def read() -> None:
        before = len(published)
        rows = rows_of(folder)
        assert set(rows.values()) <= {1}
        assert rows.keys() >= set(published[:before]), "a published run is never missing"
        evaluations = evaluations_of(folder)
        assert set(evaluations.values()) <= {1}
        assert evaluations.keys() >= {(run_id, step) for run_id in rows for step in (10, 20)}
        looks["ours"] += 1

    def read_with_pandas() -> None:
        frame = pd.read_parquet(local(folder.root / "runs"))
        assert frame["run_id"].is_unique
        assert list(frame.columns) == RUNS.names
        looks["pandas"] += 1

    threads = [guarded(step) for step in (publish, tables.compact, read, read_with_pandas)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60  # a machine under load takes its time
    while not stop.wait(0.02) and time.monotonic() < deadline:
        if len(published) >= 15 and min(looks["ours"], looks["pandas"]) >= 8:
            break
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]
    assert len(published) >= 15
    assert min(looks["ours"], looks["pandas"]) >= 8
    tables.compact()
    assert rows_of(folder) == Counter(published)


@pytest.fixture(params=["plain", "a=b", "seed=7", "algorithm=vae"])
def results(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A results folder whose path pyarrow could take for a partition's."""
    return tmp_path / str(request.param)


def test_pandas_reads_the_tables_as_they_lie(
    results: Path, make_run: Callable[..., Run], make_result: Callable[..., Any]
) -> None:
    folder = StudyFolder(results, "test")
    folder.records.mkdir(parents=True)
    tables = Tables(folder)
    empty = pd.read_parquet(results / "test" / "runs")
    assert (len(empty), list(empty.columns)) == (0, RUNS.names)
    assert empty.dtypes["best_fid"] == "float64"
    for algorithm in ("vae", "wae-mmd"):
        folder.publish(*make_result(make_run(algorithm)))
    tables.compact()
    # A table that is being replaced, and one left by a crash.
    local(folder.root / "runs" / ".vae.parquet.123.tmp").write_bytes(b"PAR1 half of a ta")
    runs = pd.read_parquet(results / "test" / "runs")
    assert sorted(runs["run_id"]) == ["vae-00000-s0", "wae-mmd-00000-s0"]
    assert list(runs.columns) == RUNS.names
    assert dict(runs.dtypes) == dict(read_runs(results, "test").dtypes)
    pd.testing.assert_frame_equal(runs, read_runs(results, "test"))
    evaluations = pd.read_parquet(results / "test" / "evaluations")
    pd.testing.assert_frame_equal(evaluations, read_evaluations(results, "test"))


def test_records_of_both_tables_are_of_the_declared_types() -> None:
    assert RUNS.field("config_index").type == pa.int64()
    assert RUNS.field("best_fid").type == pa.float64()
    assert RUNS.field("status_reason").type == pa.string()
    assert RUNS.field("ended_at").type == pa.timestamp("us", tz="UTC")
    assert EVALUATIONS.field("fid").type == pa.float64()
