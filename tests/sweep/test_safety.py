"""What lies in a results folder runs no code and leads nowhere else; servers stay on this machine, secrets unsaid."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from sweep import command
from sweep.errors import ResultsError, without_credentials
from sweep.events import Raised, Task, WorkerContext
from sweep.results import study_file
from sweep.results.compaction import clean_up
from sweep.results.folder import TABLES, StudyFolder, read_runs
from sweep.results.layout import RECORD_FILE
from sweep.results.parquet import parse, write_table
from sweep.results.schema import RECORD
from sweep.results.tables import Tables
from sweep.running import worker
from sweep.running.publishing import publish_failure
from sweep.settings.settings import FailurePolicy
from sweep.tracking.command import ui_parser
from sweep.tracking.mirror import Mirror
from tests.places import local
from wae_core.data.images import data_sha256
from wae_core.model_file import load_model
from wae_core.run import Run
from wae_core.storage import checkpoint
from wae_core.storage.checkpoint import CheckpointError, load_checkpoint, valid_checkpoints

ROOT = Path(__file__).parents[2]
SOURCES = [
    path for name in ("search_spaces", "wae_core", "sweep", "analysis") for path in (ROOT / name).rglob("*.py")
]
UNPICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
HARMLESS = {"cpu_count"}  # what joblib has beside its unpickling
PASSWORD = "hunter2-and-more"


# --- no code is run


def reads_that_run_code(source: str) -> Iterator[str]:
    """Imports and calls in the source that would run what a file says."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            named = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            harmless = isinstance(node, ast.ImportFrom) and {alias.name for alias in node.names} <= HARMLESS
            yield from (name for name in named if name.split(".")[0] in UNPICKLERS and not harmless)
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        is_unsafe = (
            call in ("eval", "exec", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all")
            or call.endswith("read_pickle")
            or (call == "torch.load" and given.get("weights_only") != "True")
            or (call == "yaml.load" and given.get("Loader") not in ("_PlainLoader", "yaml.SafeLoader"))
            or given.get("allow_pickle", "False") != "False"
        )
        if is_unsafe:
            yield ast.unparse(node)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from dill import load",
        "from joblib import cpu_count, load",
        "torch.load(f)",
        "torch.load(f, weights_only=False)",
        "eval(x)",
        "np.load(f, allow_pickle=True)",
        "yaml.load(f)",
        "yaml.load(f, Loader=yaml.Loader)",
        "pd.read_pickle(f)",
    ],
)
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert list(reads_that_run_code(source))


def test_no_source_file_unpickles_or_evaluates() -> None:
    assert len(SOURCES) > 50
    found = {str(path.relative_to(ROOT)): list(reads_that_run_code(path.read_text())) for path in SOURCES}
    assert {path: lines for path, lines in found.items() if lines} == {}


class Crafted:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._marker),)


@pytest.mark.parametrize("manifest", ["none", "one that fits", "a pickle"])
def test_a_pickle_under_a_checkpoint_s_name_is_refused_and_not_run(tmp_path: Path, manifest: str) -> None:
    marker, path = tmp_path / "marker", tmp_path / "best.safetensors"
    data = pickle.dumps(Crafted(marker))
    path.write_bytes(data)
    if manifest == "one that fits":
        body = {
            "format": checkpoint.FORMAT,
            "tensors_sha256": hashlib.sha256(data).hexdigest(),
            "content": {},
        }
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        path.with_suffix(".json").write_text(json.dumps({"sha256": digest, "body": body}, indent=1))
    elif manifest == "a pickle":
        path.with_suffix(".json").write_bytes(data)
    for load in (load_checkpoint, load_model):
        with pytest.raises(
            CheckpointError, match="not a safetensors file" if manifest == "one that fits" else "manif"
        ):
            load(path)
    assert list(valid_checkpoints([path])) == []
    assert not marker.exists()
    pickle.loads(data)
    assert marker.exists(), "it would have"


# --- no path leads out of the folder

ESCAPES = [
    "../../x",
    "/tmp/x",
    "vae-00000-s0/../../../x",
    "..",
    "",
    "vae-00000-s0\n",
    "vae-00000-s0\0",
    "vae-٠٠٠٠٠-s0",
]


@pytest.mark.parametrize("run_id", ESCAPES)
def test_a_run_id_that_is_none_reaches_no_path(folder: StudyFolder, run_id: str) -> None:
    outside = local(folder.root.parent) / "x" / "attempt-001"
    outside.mkdir(parents=True)
    with pytest.raises(ResultsError, match="is of the form wae-mmd-00012-s2"):
        folder.work(run_id)
    with pytest.raises(ResultsError):
        clean_up(folder, Tables(folder), [run_id], None)
    assert outside.exists()


def test_a_crafted_record_is_set_aside_and_touches_nothing_outside(
    folder: StudyFolder, make_run: Callable[..., Run], make_result: Callable[..., Any]
) -> None:
    outside = local(folder.root.parent) / "x"
    (outside / "attempt-001").mkdir(parents=True)
    row, evaluations = make_result(make_run("vae"))
    folder.publish(row, evaluations)
    path = folder.records / f"{row.run_id}.parquet"
    crafted = parse(path.read_bytes(), RECORD_FILE, path, "").to_pylist()[0] | {"run_id": "../../x"}
    write_table(path, pa.Table.from_pylist([crafted], schema=RECORD))
    tables = Tables(folder)
    assert "'../../x'" in tables.problems[0]
    assert tables.run_ids() == set()
    clean_up(folder, tables, tables.run_ids(), None)
    assert [path.name for path in outside.iterdir()] == ["attempt-001"]
    assert {path.name for path in outside.parent.iterdir()} == {"test", "x"}


@pytest.mark.parametrize("column", ["run_id", "algorithm"])
def test_a_crafted_table_is_refused(
    folder: StudyFolder, make_run: Callable[..., Run], make_result: Callable[..., Any], column: str
) -> None:
    folder.publish(*make_result(make_run("vae")))
    Tables(folder)
    for name, layout in TABLES.items():
        path = local(folder.root) / name / "vae.parquet"
        good = path.read_bytes()
        rows = [row | {column: "../../x"} for row in parse(good, layout, path, "").to_pylist()]
        write_table(path, pa.Table.from_pylist(rows, schema=layout.schema))
        with pytest.raises(ResultsError, match=r"run_id '.*' is not that of"):
            Tables(folder)
        with pytest.raises(ResultsError, match=r"run_id '.*' is not that of"):
            folder.read_table("evaluations")
        path.write_bytes(good)


@pytest.mark.parametrize("study", ["../x", "/etc", "..", ".", "", "a/b", ".hidden"])
def test_a_study_s_name_is_that_of_a_folder_in_the_results(
    tmp_path: Path, study: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ResultsError, match="name of a folder"):
        read_runs(tmp_path, study)
    if study:  # no word at all asks for every study
        assert command.main(["status", "--results", str(tmp_path / "results"), "--study", study]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
        assert command.main(["mlflow-rebuild", "--results", str(tmp_path), "--study", study]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["study.name=../x", "study=../x", "study.dataset=../x", "space=../../etc/passwd"])
def test_a_word_of_the_command_that_leads_elsewhere_is_refused(
    tmp_path: Path, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["sweep", word, f"results={tmp_path / 'results'}"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


# --- servers and secrets


def test_the_server_of_make_ui_listens_on_this_machine_alone() -> None:
    assert ui_parser().parse_args([]).host == "127.0.0.1"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:password@host:5000/api failed", "http://***@host:5000/api failed"),
        ("s3://key:a@b@bucket/x and https://t0ken@host", "s3://***@bucket/x and https://***@host"),
        ("url 'http://host/a@b', mail a@b.c", "url 'http://host/a@b', mail a@b.c"),
        ("no postgresql://u:it's/p@ss@host:5432/db", "no postgresql://***@host:5432/db"),
        ("postgresql://host/db?password=p&user=u: down", "postgresql://host/db?password=***&user=u: down"),
        (f"denied for key {PASSWORD}.", "denied for key ***."),
        ("it is true", "it is true"),
    ],
)
def test_credentials_are_taken_out_of_a_text(monkeypatch: pytest.MonkeyPatch, text: str, shown: str) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", PASSWORD)
    monkeypatch.setenv("A_TOKEN", "true")
    assert without_credentials(text) == shown


def test_a_failed_run_s_row_and_files_hold_no_secret(
    folder: StudyFolder, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)

    def refused(*_: object) -> Iterator[None]:
        raise OSError(f"PUT http://user:secret@host/bucket: denied for {PASSWORD}")

    monkeypatch.setattr(worker, "_train", refused)
    folder.work("vae-00000-s0").mkdir(parents=True)
    root = local(folder.root)
    context = WorkerContext(root.parent, root, data_sha256("digits"), None, "cpu", "unknown", 1000)
    (event,) = worker.run_task(Task((make_run("vae"),)), context)
    assert isinstance(event, Raised)
    publish_failure(event.run, context, event.reason, "host")
    assert event.reason == "OSError: PUT http://***@host/bucket: denied for ***"
    tell_tale = [path for path in root.rglob("*") if path.is_file() and has_secret(path)]
    assert tell_tale == []
    assert "***@host" in local(folder.work("vae-00000-s0") / "traceback.txt").read_text()
    assert PASSWORD not in str(folder.read_table("runs").to_pylist())


def has_secret(path: Path) -> bool:
    return any(secret in path.read_bytes() for secret in (PASSWORD.encode(), b"user:secret"))


def test_study_yaml_holds_nothing_of_the_environment(
    folder: StudyFolder, study: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.setenv(name, f"http://user:secret@{PASSWORD}")
    study_file.claim(folder, study, FailurePolicy(tries=3, worker_deaths=5))
    assert not has_secret(local(folder.study_file))


def test_a_server_that_cannot_be_reached_is_told_without_its_password(folder: StudyFolder) -> None:
    problems: list[str] = []
    uri = "http://user:hunter2@127.0.0.1:9"  # the port of the discard protocol: nobody listens
    mirror = Mirror(uri, folder, "test", problems.append)
    mirror.start()
    assert not mirror.wait_ready(60)
    mirror.close(60)
    assert len(problems) == 1
    assert "127.0.0.1" in problems[0]
    assert "hunter2" not in problems[0]


def test_a_wrong_word_with_a_password_is_told_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["sweep", "trackign=http://user:hunter2@host"]) == 2
    assert command.main(["sweep", "http://user:hunter2@host"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 2
    assert "hunter2" not in said
