"""A results folder that was moved, copied or tampered with: pictures go beside the database that names them."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported

import pytest
from mlflow import MlflowClient

from sweep.command import main
from sweep.results.folder import StudyFolder
from sweep.results.tables import Tables
from sweep.tracking.mirror import Mirror, default_uri, rebuild
from sweep.tracking.mlflow_sqlite import Database
from sweep.tracking.mlflow_study import MlflowStudy
from tests.places import local
from wae_core.run import Run

Publish = Callable[[Path, int], None]


@pytest.fixture(scope="module")
def publish(make_run: Callable[..., Run], make_result: Callable[..., Any]) -> Publish:
    """publish(results, seed): a run with a picture."""

    def publish(results: Path, seed: int) -> None:
        folder, run = StudyFolder(results, "digits"), make_run("vae", study="digits", seed=seed)
        folder.records.mkdir(parents=True, exist_ok=True)
        folder.publish(*make_result(run))
        samples = local(folder.work(run.run_id)) / "samples.png"
        samples.parent.mkdir(parents=True)
        samples.write_bytes(b"png %d" % seed)
        Tables(folder)

    return publish


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, publish: Publish) -> Path:
    """A results folder and a mirrored run; MLflow takes seconds to make a database."""
    made = tmp_path_factory.mktemp("made")
    publish(made, 0)
    assert rebuild(made, "digits", default_uri(made)) == 1
    return made


@pytest.fixture
def old(made: Path, tmp_path: Path) -> Path:
    """A copy of it, with what a URI escapes in its name, that has its own place."""
    old = tmp_path / "résults of 2025"
    shutil.copytree(made, old)
    with closing(Database(old / "mlflow.db")) as database:
        database.mend_places()
    assert places(old) == {old.as_uri()}
    return old


def pictures(results: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in (results / "mlartifacts").rglob("samples.png"))


def places(results: Path) -> set[str]:
    """The places of our experiments and their runs, up to the experiment."""
    with closing(sqlite3.connect(results / "mlflow.db")) as connection:
        found = connection.execute("SELECT artifact_location FROM experiments WHERE name LIKE 'digits%'").fetchall()
        found += connection.execute("SELECT artifact_uri FROM runs").fetchall()
    return {uri.partition("/mlartifacts")[0] for (uri,) in found}


@pytest.mark.slow
@pytest.mark.parametrize("is_copied", [False, True])
def test_a_moved_or_copied_folder_has_its_pictures_beside_it(
    old: Path, tmp_path: Path, publish: Publish, is_copied: bool
) -> None:
    new = tmp_path / "elsewhere" / "results"
    new.parent.mkdir()
    shutil.copytree(old, new) if is_copied else old.rename(new)
    publish(new, 1)
    assert rebuild(new, "digits", default_uri(new)) == 1
    assert pictures(new) == [b"png 0", b"png 1"]
    assert places(new) == {new.as_uri()}
    client = MlflowClient(default_uri(new))
    (experiment,) = client.search_experiments(filter_string="name = 'digits'")
    for run in client.search_runs([experiment.experiment_id]):
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["images", "samples.png"]
    if is_copied:
        assert pictures(old) == [b"png 0"] and places(old) == {old.as_uri()}
    else:
        assert not old.exists(), "the old place is not made again"


def test_opening_for_the_pages_mends_the_places_too(old: Path, tmp_path: Path, publish: Publish) -> None:
    new = tmp_path / "new"
    old.rename(new)
    with closing(Database(new / "mlflow.db")) as database:
        database.mend_places()
    assert places(new) == {new.as_uri()}


def test_others_experiments_keep_their_places(old: Path) -> None:
    client = MlflowClient(default_uri(old))
    others = client.create_experiment("theirs", "file:///somewhere/else")
    MlflowStudy(default_uri(old), StudyFolder(old, "digits"), "digits").close()
    assert client.get_experiment(others).artifact_location == "file:///somewhere/else"


@pytest.mark.parametrize(
    "uri", ["file://{there}", "{there}", "s3://bucket/x", "file://{here}/mlartifacts/../../there", "file://{link}"]
)
def test_a_picture_is_never_written_elsewhere(old: Path, tmp_path: Path, uri: str) -> None:
    there, link, picture = tmp_path / "there", old / "mlartifacts" / "link", tmp_path / "samples.png"
    picture.write_bytes(b"png")
    link.symlink_to(there)
    with closing(Database(old / "mlflow.db")) as database:
        ((run_id,),) = database._connection.execute(
            "SELECT run_uuid FROM runs WHERE name = 'vae-00000-s0'"
        ).fetchall()
        with database._connection as connection:
            place = uri.format(there=there, here=old, link=link)
            connection.execute("UPDATE runs SET artifact_uri = ?", [place])
        with pytest.raises(ValueError, match=run_id):
            database.log_artifact(run_id, str(picture), "samples.png")
    assert not there.exists()


def test_pictures_may_lie_on_another_disk_by_a_link_of_the_users(old: Path, tmp_path: Path, publish: Publish) -> None:
    (old / "mlartifacts").rename(tmp_path / "large")
    (old / "mlartifacts").symlink_to(tmp_path / "large")
    publish(old, 1)
    assert rebuild(old, "digits", default_uri(old)) == 1
    assert len(list((tmp_path / "large").rglob("samples.png"))) == 2


@pytest.mark.parametrize("command", ["ui", "mlflow-rebuild"])
@pytest.mark.parametrize("kind", ["words", "folder"])
def test_another_file_in_the_databases_place_is_one_sentence(
    tmp_path: Path, publish: Publish, command: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(tmp_path, 0)
    database = tmp_path / "mlflow.db"
    database.mkdir() if kind == "folder" else database.write_text("just words, and many of them" * 100)
    assert main([command, "--results", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and str(database) in said and len(said.splitlines()) == 1


def test_the_mirror_does_not_bring_back_a_folder_that_is_gone(tmp_path: Path, publish: Publish) -> None:
    results = tmp_path / "results"
    publish(results, 0)
    problems: list[str] = []
    mirror = Mirror(default_uri(results), StudyFolder(results, "digits"), "digits", problems.append)
    results.rename(tmp_path / "renamed")
    mirror.start()
    mirror.catch_up()
    assert not mirror.wait_ready(30)
    mirror.close(30)
    assert not results.exists()
    assert len(problems) == 1 and "is gone" in problems[0]
