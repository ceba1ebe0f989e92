"""MLflow's server on loopback, and its REST interface: `with mlflow_server(database, artifacts) as server`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

SECONDS_TO_START = 120.0  # on a machine under load
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy reaches loopback


def fetch(url: str, body: dict[str, Any] | None = None) -> bytes:
    """Return what is answered to a GET, or to a POST of `body`."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with OPENER.open(request, timeout=10) as answer:
        content: bytes = answer.read()
    return content


@dataclass(frozen=True)
class MlflowServer:
    """A server that runs, asked without MLflow's own client.

    Attributes:
        pid: the leader of the group of its processes; None where somebody else has started it.
    """

    address: str
    pid: int | None = None

    def runs(self, experiment: str) -> dict[str, dict[str, Any]]:
        """The runs of the experiment, by name; empty while there is no such experiment."""
        try:
            found = json.loads(fetch(f"{self._api}/experiments/get-by-name?experiment_name={experiment}"))
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return {}
        body = {"experiment_ids": [found["experiment"]["experiment_id"]]}
        runs = json.loads(fetch(f"{self._api}/runs/search", body)).get("runs", [])
        return {run["info"]["run_name"]: run for run in runs}

    def history(self, run: dict[str, Any], metric: str) -> list[tuple[int, float]]:
        """The steps and values of a run's metric."""
        url = f"{self._api}/metrics/get-history?run_id={run['info']['run_id']}&metric_key={metric}"
        points = json.loads(fetch(url)).get("metrics", [])
        return [(int(point["step"]), float(point["value"])) for point in points]

    def metrics(self, run: dict[str, Any]) -> dict[str, float]:
        """The last value of each of a run's metrics."""
        return {metric["key"]: float(metric["value"]) for metric in run["data"]["metrics"]}

    def artifact(self, run: dict[str, Any], path: str) -> bytes:
        """One of a run's artifacts."""
        return fetch(f"{self.address}/get-artifact?path={path}&run_uuid={run['info']['run_id']}")

    @property
    def _api(self) -> str:
        return f"{self.address}/api/2.0/mlflow"


@contextmanager
def mlflow_server(database: str, artifacts: str) -> Iterator[MlflowServer]:
    """Serve a database, whose tables MLflow makes where there are none, and take in artifacts; at a free port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--artifacts-destination", artifacts]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment |= {"MLFLOW_BACKEND_STORE_URI": database, "MLFLOW_REGISTRY_STORE_URI": database}
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(
        command, env=os.environ | environment, stdout=quiet, stderr=quiet, start_new_session=True
    )
    server = MlflowServer(f"http://127.0.0.1:{port}", process.pid)
    try:
        until = time.monotonic() + SECONDS_TO_START
        while True:
            with suppress(OSError):
                if fetch(f"{server.address}/health") == b"OK":
                    break
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.2)
        yield server
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
