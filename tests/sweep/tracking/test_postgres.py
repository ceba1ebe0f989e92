"""A real PostgreSQL: mirrored to directly, served by `make ui`, behind MLflow's server; absent, stopped, refused."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported

import psutil
import pytest

from sweep.command import main
from sweep.events import Ended, Evaluated
from sweep.results.folder import StudyFolder
from sweep.results.tables import Tables
from sweep.tracking import mirror
from sweep.tracking.mirror import Mirror, rebuild
from tests.chaos.faulty_proxy import faulty_bucket
from tests.chaos.mlflow_server import MlflowServer
from tests.chaos.postgres_server import PASSWORD, PostgresServer, missing, postgres_server
from tests.places import local
from wae_core.run import Run
from wae_core.storage.files import listed, location, write_atomically

MakeRun = Callable[..., Run]
MakeResult = Callable[..., Any]
needs_postgres = pytest.mark.skipif(bool(missing()), reason=missing())
QUOTED = quote(PASSWORD, safe="")
SMALL = (
    *("cluster=inprocess", "alg=vae", "budget=1", "study.seeds=1", "study.width=4", "study.steps=4"),
    *("study.evaluation_steps=[4]", "study.fid_samples=200", "study.evaluation_images=50"),
)


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "FLUSH_SECONDS", 0.1)
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")


def publish(folder: StudyFolder, run: Run, result: Any) -> Any:
    """Publish a run with a picture; returns its row."""
    folder.records.mkdir(parents=True, exist_ok=True)
    samples = local(folder.work(run.run_id)) / "samples.png"
    samples.parent.mkdir(parents=True)
    samples.write_bytes(run.run_id.encode())
    assert folder.publish(*result)
    return result[0]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@needs_postgres
@pytest.mark.slow
def test_a_study_is_mirrored_to_a_database_and_to_the_server_in_front_of_it(
    postgres: PostgresServer,
    folder: StudyFolder,
    make_run: MakeRun,
    make_result: MakeResult,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended, results = make_run("wae-mmd"), folder.root.parent
    publish(folder, ended, make_result(ended))
    Tables(folder)
    assert main(["mlflow-rebuild", "--results", str(results), "--tracking", postgres.uri]) == 0
    assert capsys.readouterr().out == "test: 1 run written, MLflow has them all\n"
    assert rebuild(results, "test", postgres.uri) == 0, "the database has it all"
    (picture,) = (local(results) / "mlartifacts" / "test").glob("*/artifacts/samples.png")
    assert picture.read_bytes() == ended.run_id.encode()

    port = free_port()
    words = ["ui", "--results", str(results), "--tracking", postgres.uri, "--port", str(port)]
    with subprocess.Popen(
        [sys.executable, "-m", "sweep.command", *words], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            printed = []
            for line in process.stdout:
                printed.append(line)
                if line.startswith("Ctrl-C"):
                    break
            assert re.findall(r"^ +(\S+) +http://", "".join(printed), re.MULTILINE) == ["test/configurations", "test"]
            started = psutil.Process(process.pid).children(recursive=True)
            assert started and not any(QUOTED in word for one in started for word in one.cmdline())
            server = MlflowServer(f"http://127.0.0.1:{port}")
            (run,) = server.runs("test").values()
            assert server.history(run, "fid") == [(10, 9.0), (20, 7.5)]
            assert server.artifact(run, "samples.png") == ended.run_id.encode()

            other = StudyFolder(results, "other")
            check_mirrored_over_http(server, other, make_run, make_result)
            assert main(["ui", "--results", str(results), "--tracking", f"{server.address}/"]) == 0
            said = capsys.readouterr().out
            assert re.findall(rf"(\S+) +{server.address}/#/experiments/\d+/", said) == [
                *("other/configurations", "other", "test/configurations", "test")
            ]
            assert QUOTED not in said + "".join(printed)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)


def check_mirrored_over_http(
    server: MlflowServer, folder: StudyFolder, make_run: MakeRun, make_result: MakeResult
) -> None:
    problems: list[str] = []
    run = make_run("vae", study=folder.root.name)
    writer = Mirror(server.address, folder, folder.root.name, problems.append)
    folder.records.mkdir(parents=True)
    writer.start()
    writer.note(Evaluated(run, make_result(run)[1][0]))
    writer.note(Ended(run, publish(folder, run, make_result(run))))
    assert writer.close(60) is None
    assert problems == []
    (mirrored,) = server.runs(folder.root.name).values()
    assert mirrored["info"]["status"] == "FINISHED"
    assert server.history(mirrored, "fid") == [(10, 9.0), (20, 7.5)]
    assert server.artifact(mirrored, "samples.png") == run.run_id.encode()
    assert rebuild(folder.root.parent, folder.root.name, server.address) == 0


@needs_postgres
@pytest.mark.slow
def test_pictures_of_results_in_a_store_lie_beside_them(
    postgres: PostgresServer, make_run: MakeRun, make_result: MakeResult
) -> None:
    with faulty_bucket():
        folder, run = StudyFolder(location("s3://chaos/results"), "stored"), make_run("vae", study="stored")
        write_atomically(folder.work(run.run_id) / "samples.png", b"png")
        assert folder.publish(*make_result(run))
        assert rebuild(folder.root.parent, "stored", postgres.uri) == 1
        pictures = listed(location("s3://chaos/results/mlartifacts/stored"), "*/artifacts/samples.png")
        assert [picture.read_bytes() for picture in pictures] == [b"png"]


@needs_postgres
@pytest.mark.slow
def test_a_sweep_shows_its_password_nowhere(
    postgres: PostgresServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", *SMALL, f"results={tmp_path}", f"tracking={postgres.uri}"]) == 0
    said = "".join(capfd.readouterr())
    assert f"TRACKING={postgres.uri.replace(f'mlflow:{QUOTED}', '***')}" in said
    assert rebuild(tmp_path, "digits", postgres.uri) == 0, "the sweep has written it all"
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "study.yaml" for path in files)
    shown = [said.encode(), *(path.read_bytes() for path in files)]
    assert not any(secret.encode() in text for text in shown for secret in (PASSWORD, QUOTED))


@needs_postgres
@pytest.mark.slow
def test_a_database_that_has_stopped_holds_up_nobody_and_is_caught_up_with(
    postgres: PostgresServer, folder: StudyFolder, make_run: MakeRun, make_result: MakeResult
) -> None:
    runs, problems = [make_run("vae", seed=seed) for seed in range(2)], list[str]()
    writer = Mirror(postgres.uri, folder, "test", problems.append)
    writer.start()
    assert writer.wait_ready(60), problems
    postgres.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        for run in runs:
            writer.note(Ended(run, publish(folder, run, make_result(run))))
        assert time.monotonic() - began < 1
        late = Mirror(postgres.uri, folder, "test", problems.append)  # of a launch that finds it so
        late.start()
        assert not late.wait_ready(10)
        assert time.monotonic() - began < 10
        assert late.close(1) == "MLflow is behind by 2 runs: run make mlflow-rebuild"
        assert len(problems) == 1 and "timeout" in problems[0]
    finally:
        postgres.signal(signal.SIGCONT)
    assert writer.close(60) is None
    assert rebuild(folder.root.parent, "test", postgres.uri) == 0


@needs_postgres
@pytest.mark.parametrize("wrong", ["port", "password", "database"])
def test_what_cannot_be_reached_is_told_once_without_the_password(
    postgres: PostgresServer, folder: StudyFolder, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = {
        "port": re.sub(r":\d+/", f":{free_port()}/", postgres.uri),
        "password": postgres.uri.replace(QUOTED, f"{QUOTED}2"),
        "database": f"{postgres.uri}-of-another",
    }[wrong]
    problems: list[str] = []
    writer = Mirror(uri, folder, "test", problems.append)
    writer.start()
    assert not writer.wait_ready(10)
    writer.close(10)
    assert len(problems) == 1 and problems[0].startswith(
        "MLflow cannot be written; the sweep goes on, and tries again"
    )
    (folder.root / "runs").mkdir()
    for command in ("mlflow-rebuild", "ui"):
        assert main([command, "--results", str(folder.root.parent), "--tracking", uri]) == 2
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 2 and said.err.startswith("error: MLflow at postgresql://***@127.0.0.1:")
    assert not any(secret in "".join([*problems, said.err, said.out]) for secret in (QUOTED, PASSWORD))


@pytest.mark.parametrize("words", [["sweep", "tracking={uri}", "results={results}"], ["ui", "--tracking", "{uri}"]])
def test_without_its_driver_it_is_refused_in_a_sentence_that_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    uri = f"postgresql://me:{QUOTED}@127.0.0.1/mlflow"
    assert main([word.format(uri=uri, results=tmp_path / "results") for word in words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: tracking is postgresql://…, which needs the package psycopg: pip install ")
    assert "'.[postgres]'" in said and len(said.splitlines()) == 1 and QUOTED not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "uri",
    [
        *("mlflow.db", "sqlite:///mlflow.db", "mysql://u@host/db", "postgres://u@host/db", "postgresql://u@host"),
        *("postgresql://u:p@ss@host/db", "postgresql://u:p/ss@host/db", "postgresql+asyncpg://u@host/db"),
    ],
)
def test_a_uri_of_another_kind_is_refused_with_what_is_allowed(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["sweep", f"tracking={uri}", "dry_run=true"], ["ui", "--tracking", uri]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1 and "postgresql://host:port/database, http://" in said
        assert "ss@" not in said and "p/ss" not in said
