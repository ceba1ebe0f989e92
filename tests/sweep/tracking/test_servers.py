"""MLflow's real server on loopback: what the mirror writes to one, and what `make ui` serves."""

from __future__ import annotations

import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from sweep.events import Ended, Evaluated
from sweep.results.folder import StudyFolder
from sweep.results.schema import EvaluationRow, RunRow
from sweep.results.tables import Tables
from sweep.tracking import mirror
from sweep.tracking.mirror import Mirror, default_uri, open_mlflow, rebuild
from tests.chaos.mlflow_server import MlflowServer, fetch, mlflow_server
from tests.places import local
from wae_core.evaluation.selection import Evaluation
from wae_core.run import Run

MakeRun = Callable[..., Run]
MakeResult = Callable[..., tuple[RunRow, list[EvaluationRow]]]
SECONDS = 120.0  # for a server to start, on a machine under load

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def is_listening(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(5)
        return client.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The address of a server with a database and an artifact store of its own."""
    with mlflow_server(f"sqlite:///{tmp_path / 'server.db'}", str(tmp_path / "artifacts")) as started:
        yield started.address


def publish_with_picture(folder: StudyFolder, run: Run, result: tuple[RunRow, list[EvaluationRow]]) -> None:
    samples = local(folder.work(run.run_id)) / "samples.png"
    samples.parent.mkdir(parents=True)
    samples.write_bytes(b"png")
    assert folder.publish(*result)


def rebuild_writes_nothing(folder: StudyFolder, uri: str) -> bool:
    with closing(open_mlflow(uri, folder, folder.root.name)) as mlflow:
        runs = folder.read_table("runs")
        return mlflow.missing(runs["run_id"].to_pylist(), runs["config_id"].to_pylist()) == []


def test_the_mirror_writes_to_a_server_over_http(
    server: str,
    folder: StudyFolder,
    make_run: MakeRun,
    make_result: MakeResult,
    make_evaluation: Callable[[int, float], Evaluation],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mirror, "FLUSH_SECONDS", 0.1)
    ended, live = (make_run("wae-mmd", seed=seed) for seed in range(2))
    row, evaluations = make_result(ended)
    publish_with_picture(folder, ended, (row, evaluations))
    problems: list[str] = []
    writer = Mirror(server, folder, "test", problems.append)
    writer.start()
    writer.note(Evaluated(live, make_evaluation(10, 6.0)))
    writer.note(Ended(ended, row))

    asked = MlflowServer(server)
    until = time.monotonic() + SECONDS
    while {name: run["info"]["status"] for name, run in asked.runs("test").items()} != {
        ended.run_id: "FINISHED",
        live.run_id: "RUNNING",
    }:
        assert not problems, problems
        assert time.monotonic() < until
        time.sleep(0.1)
    runs = asked.runs("test")
    assert asked.history(runs[live.run_id], "fid") == [(10, 6.0)], "seen while its run trains"
    assert asked.history(runs[ended.run_id], "fid") == [(10, 9.0), (20, 7.5)]
    assert asked.history(runs[ended.run_id], "confirmed_fid") == [(20, 8.0)]
    params = {param["key"]: param["value"] for param in runs[ended.run_id]["data"]["params"]}
    assert (params["learning_rate"], params["kernel_scale"], params["seed"]) == ("0.001", "8", "0")
    tags = {tag["key"]: tag["value"] for tag in runs[ended.run_id]["data"]["tags"]}
    assert (tags["run_id"], tags["status"], tags["algorithm"]) == (ended.run_id, "completed", "wae-mmd")
    assert asked.artifact(runs[ended.run_id], "samples.png") == b"png"

    result = make_result(live, fids=(6.0, 5.0))
    publish_with_picture(folder, live, result)
    writer.note(Ended(live, result[0]))
    assert writer.close(SECONDS) is None
    assert problems == []
    runs = asked.runs("test")
    assert runs[live.run_id]["info"]["status"] == "FINISHED"
    assert asked.history(runs[live.run_id], "fid") == [(10, 6.0), (20, 5.0)], "each evaluation once"
    assert rebuild(folder.root.parent, "test", server) == 0, "the server has it all"

    (configuration,) = asked.runs("test/configurations").values()
    assert configuration["info"]["run_name"] == "wae-mmd-00000"
    assert asked.metrics(configuration)["fid_mean"] == (7.5 + 5.0) / 2
    assert [value for _, value in asked.history(configuration, "completed")] in ([1, 2], [2])
    # A server forgets nothing: the mean that is gone is not a number.
    folder.publish(*make_result(make_run("wae-mmd", seed=2), "diverged"))
    assert rebuild(folder.root.parent, "test", server) == 1
    assert rebuild(folder.root.parent, "test", server) == 0
    (configuration,) = asked.runs("test/configurations").values()
    assert configuration["info"]["run_name"] == "wae-mmd-00000 (1 diverged)"
    found = asked.metrics(configuration)
    assert math.isnan(found["fid_mean"]) and (found["completed"], found["diverged"]) == (2, 1)
    assert rebuild_writes_nothing(folder, server)


def test_make_ui_serves_the_printed_pages_until_sigterm(
    folder: StudyFolder, make_run: MakeRun, make_result: MakeResult
) -> None:
    run, results = make_run("vae"), folder.root.parent
    publish_with_picture(folder, run, make_result(run))
    Tables(folder)
    assert rebuild(results, "test", default_uri(results)) == 1
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "sweep.command", "ui", "--results", str(results), "--port", str(port)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line.strip())
            if line.startswith("Ctrl-C"):
                break
        pages = re.findall(r"^(\S+) +(http://\S+)$", "\n".join(printed), re.MULTILINE)
        assert [name for name, _ in pages] == ["test/configurations", "test"], "what is to be looked at first"
        page = pages[1][1]
        address, _, view = page.partition("/#/experiments/")
        assert address == f"http://127.0.0.1:{port}"
        assert b"<html" in fetch(page), "the part behind # is the browser's"
        asked = MlflowServer(address)
        (served,) = asked.runs("test").values()
        assert view.startswith(f"{served['info']['experiment_id']}/runs?")
        assert asked.history(served, "fid") == [(10, 9.0), (20, 7.5)]
        assert asked.artifact(served, "samples.png") == b"png"

        started = psutil.Process(process.pid).children(recursive=True)
        assert started and is_listening(port)
        process.terminate()
        assert process.wait(timeout=60) == 0
        _, alive = psutil.wait_procs(started, timeout=30)
        assert alive == [], "no server outlives it"
        assert not is_listening(port)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
