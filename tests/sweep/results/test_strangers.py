"""What other programs leave in a results folder: hidden files are ignored, second copies and other kinds refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.load import load_evaluations, load_runs
from sweep.errors import ResultsError, SettingsError
from sweep.reports.status import status_frame
from sweep.results.compaction import clean_up
from sweep.results.folder import FILES, FOLDERS, StudyFolder
from sweep.results.plan_file import PlanFile
from sweep.results.tables import Tables
from sweep.results.work.attempt_log import read_attempts
from sweep.results.work.history import History
from sweep.results.work.run_folder import RunFolder
from tests.places import local
from wae_core.run import Run
from wae_core.storage.checkpoint import save_checkpoint
from wae_core.storage.files import Location, delete_folder, write_atomically
from wae_core.storage.objects import ObjectPath

HIDDEN = ["._vae.parquet", ".DS_Store", ".nfs000000001", ".vae.parquet.swp", ".ipynb_checkpoints/vae.parquet"]
COPIES = [
    "vae (conflicted copy).parquet",
    "vae 2.parquet",
    "vae.sync-conflict-20260101-000000-ABCDEFG.parquet",
    "vae-checkpoint.parquet",
    "vae.parquet.bak",
    "vae.parquet~",
    "VAE.parquet",
    "Thumbs.db",
    "backup/vae.parquet",
]


@pytest.fixture
def results(tmp_path: Path) -> Location:
    return tmp_path / "results"


in_both = pytest.mark.parametrize(
    "results", [Path("results"), ObjectPath("memory://", "strangers")], ids=["disk", "store"]
)


@pytest.fixture
def study(
    results: Location,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_run: Callable[..., Run],
    make_result: Callable[..., Any],
) -> StudyFolder:
    """Two runs that have ended, one of them in a record."""
    monkeypatch.chdir(tmp_path)
    folder = StudyFolder(results / tmp_path.name, "test")
    delete_folder(folder.root)
    folder.records.mkdir(parents=True, exist_ok=True)
    runs = [make_run("vae", seed=seed) for seed in range(2)]
    PlanFile(folder).extend(runs)
    folder.publish(*make_result(runs[0]))
    for run in runs:
        RunFolder(folder.work(run.run_id)).begin_attempt(History("2026-01-01T00:00:00+00:00"))
    Tables(folder)
    folder.publish(*make_result(runs[1]))
    return folder


def put(path: Location, data: bytes) -> None:
    if isinstance(path, Path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)


def seen(study: StudyFolder) -> list[Any]:
    """All that is read of the folder."""
    results, name = study.root.parent, study.root.name
    return [
        load_runs(results, name).to_dict("list"),
        load_evaluations(results, name).to_dict("list"),
        status_frame(study).to_dict("list"),
        read_attempts(study).to_pylist(),
        [RunFolder(study.work(f"vae-00000-s{seed}")).attempt_count for seed in range(2)],
        sorted(Tables(study).run_ids()),
    ]


@in_both
def test_hidden_files_are_ignored_anywhere(study: StudyFolder) -> None:
    before = seen(study)
    table = study.table_file("runs", "vae").read_bytes()
    work = study.work("vae-00000-s0")
    folders = [study.root, study.records, study.damaged, work.parent, work, work / "attempt-001", study.root.parent]
    for folder in [*folders, study.root / "runs", study.root / "evaluations"]:
        for name in HIDDEN:
            put(folder / name, table)
    assert str(seen(study)) == str(before)
    with pytest.raises(FileNotFoundError, match=r"there are test$"):
        load_runs(study.root.parent, "other")


@in_both
def test_strangers_beside_the_runs_and_attempts_are_ignored(study: StudyFolder) -> None:
    before = seen(study)
    work = study.work("vae-00000-s0")
    for name in ("notes.txt", "vae-00000-s0 (conflicted copy)/attempt-001/start.json", "vae-00000-s0 2/best.json"):
        put(work.parent / name, b"x")
    for name in ("attempt-001 (conflicted copy)", "attempt-1", "attempt-001.old"):
        put(work / name / "start.json", (work / "attempt-001" / "start.json").read_bytes())
    put(work / "attempt-001" / "step-000000002 (conflicted copy).safetensors", b"x")
    put(work / "attempt-001" / "step-000000002 (conflicted copy).json", b"x")
    assert str(seen(study)) == str(before)
    assert RunFolder(work).resume()[1] is None
    clean_up(study, Tables(study), ["vae-00000-s0"], None)
    assert RunFolder(work).attempt_count == 0


@in_both
@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("table", ["runs", "evaluations"])
def test_a_second_copy_of_a_table_is_refused_by_all_who_read(study: StudyFolder, table: str, name: str) -> None:
    path = study.root / table / name
    put(path, study.table_file(table, "vae").read_bytes())
    read = load_runs if table == "runs" else load_evaluations
    for call in (lambda: read(study.root.parent, "test"), lambda: Tables(study), lambda: study.read_table(table)):
        with pytest.raises(ResultsError, match="not the table of one algorithm") as caught:
            call()
        shown = study.root / table / name.split("/")[0]
        assert str(shown) in str(caught.value) and "\n" not in str(caught.value)
    assert len(list((study.root / "records").glob("*"))) == 1, "nothing was written"


def test_pandas_reads_what_is_not_refused(study: StudyFolder) -> None:
    """The hidden rule is pandas' own, whom people let read the folder of a table."""
    Tables(study)
    for name in HIDDEN:
        put(study.root / "runs" / name, study.table_file("runs", "vae").read_bytes())
    assert pd.read_parquet(local(study.root) / "runs").equals(load_runs(study.root.parent, "test"))


@pytest.mark.parametrize("name", FOLDERS)
def test_a_file_in_the_place_of_a_folder_is_refused(study: StudyFolder, name: str) -> None:
    path = local(study.root) / name
    if path.exists():
        shutil.rmtree(path)
    path.write_text("x")
    with pytest.raises(ResultsError, match="not a folder; move it away") as caught:
        load_runs(study.root.parent, "test")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
@pytest.mark.parametrize("name", [*FILES, "runs/vae.parquet", "records/vae-00000-s0.parquet"])
def test_another_kind_in_the_place_of_a_file_is_refused(
    study: StudyFolder, name: str, make: Callable[[Path], None]
) -> None:
    """A pipe would hang whoever reads it, and a device never end."""
    path = local(study.root) / name
    path.unlink(missing_ok=True)
    make(path)
    with pytest.raises((ResultsError, SettingsError), match="not a file") as caught:
        load_runs(study.root.parent, "test")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        "", "null", "[]", "1", "{}", "[" * 100_000, '{"started_at": "x"}',
        *(f'{{"started_at": "2026-01-01", "step": {step}, "seconds": {seconds}}}' for step, seconds in (
            ("null", "0"), ("[]", "0"), ('"1"', "0"), ("-1", "0"), ("1e3", "0"), (2**70, "0"), ("true", "0"),
            ("0", "null"), ("0", "[]"), ("0", "NaN"), ("0", "1e999"), ("0", 10**400),
        )),
        *(f'{{"started_at": {at}, "step": 0, "seconds": 0}}' for at in ("0", "null", '"then"', r'"\ud800"')),
    ],
)  # fmt: skip
def test_a_note_of_another_shape_is_no_attempt_that_had_begun(study: StudyFolder, content: str) -> None:
    note = study.work("vae-00000-s0") / "attempt-001" / "start.json"
    assert len(read_attempts(study)) == 2
    write_atomically(note, content.encode())
    assert len(read_attempts(study)) == 1
    clean_up(study, Tables(study), ["vae-00000-s0"], None)


OWNER = {"run_id": "vae-00000-s0", "run_sha256": "", "data_sha256": ""}
GOOD = {"started_at": "2026-01-01T00:00:00+00:00", "step": 2, "evaluations": []}


@pytest.mark.parametrize(
    "history",
    [
        {},
        [],
        None,
        GOOD | {"evaluations": None},
        GOOD | {"evaluations": [{"step": 1}]},
        GOOD | {"step": "2"},
        GOOD | {"step": None},
        GOOD | {"train_seconds": "1"},
        GOOD | {"started_at": 0},
        GOOD | {"mine": 1},
    ],
)
def test_a_checkpoint_of_something_else_is_none_of_the_run(study: StudyFolder, history: Any) -> None:
    work = RunFolder(study.work("vae-00000-s0"))
    before = read_attempts(study).to_pylist()
    path = work.path / "attempt-001" / "step-000000002.safetensors"
    for content in ({}, {"owner": OWNER, "history": history}, {"owner": history, "history": GOOD}):
        save_checkpoint(path, {}, content)
        assert work.resume()[1] is None
        assert work.newest() is None
        assert read_attempts(study).to_pylist() == before
    save_checkpoint(path, {}, {"owner": OWNER, "history": GOOD})
    assert work.resume()[0].step == 2 and len(read_attempts(study)) == len(before)


def test_a_pipe_in_a_checkpoints_place_hangs_nobody(study: StudyFolder) -> None:
    work = RunFolder(study.work("vae-00000-s0"))
    for name in ("step-000000002.safetensors", "step-000000002.json"):
        os.mkfifo(local(work.path) / "attempt-001" / name)
    assert work.resume()[1] is None and work.newest() is None
    assert len(read_attempts(study)) == 2
