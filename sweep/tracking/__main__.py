"""`python -m sweep.tracking ui|rebuild`: browse the results in MLflow, or write its database again."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweep.errors import without_credentials
from sweep.tracking.mirror import default_uri, rebuild
from wae_core.storage.files import Location, location
from wae_core.storage.objects import ObjectPath

SHARED_VIEW = "mlflow.sharedViewState."  # prefix of MLflow's tags of an experiment that hold a view of its runs
PORTS_TRIED = 20


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 the server failed, 2 bad input."""
    arguments = _parser().parse_args(words)
    try:
        results: Location = location(arguments.results)
        if arguments.tracking is None and isinstance(results, ObjectPath):
            raise ValueError(
                f"MLflow's database is not in {results}: give --tracking, as the sweep was given tracking="
            )
        tracking_uri = arguments.tracking or default_uri(results)
        if arguments.command == "ui":
            return serve(tracking_uri, arguments.host, arguments.port)
        for study in _studies(results, arguments.study):
            written = rebuild(results, study, tracking_uri)
            print(f"{study}: {written} run{'s' * (written != 1)} written, MLflow has them all")
    except ValueError as error:
        print(f"error: {without_credentials(str(error))}", file=sys.stderr)
        return 2
    return 0


def serve(database: str, host: str, port: int) -> int:
    """Run MLflow's server of a `sqlite:///` database until Ctrl-C or SIGTERM; returns the exit code.

    It prints where each experiment's runs are.

    Raises:
        ValueError: there is no database, or no free port.
    """
    file = Path(database.removeprefix("sqlite:///"))
    if not file.exists():
        raise ValueError(f"no MLflow database in {file.parent}: run make sweep first")
    free_port = _free_port(host, port)
    if free_port != port:
        print(f"port {port} is taken: using {free_port}")
    artifacts = str(file.parent / "mlartifacts")
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", host, "--port", str(free_port)]
    command += ["--backend-store-uri", database, "--registry-store-uri", database]
    command += ["--artifacts-destination", artifacts, "--uvicorn-opts", "--log-level warning"]
    environment = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # half a GB for jobs of language models
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "ERROR",
        "PYTHONWARNINGS": "ignore",
    }
    print("MLflow is starting", flush=True)
    server = subprocess.Popen(command, env=environment | os.environ, stdout=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for name, url in _tables(f"http://{host}:{free_port}", server):
            print(f"  {name:20s} {url}")
        print("Ctrl-C ends it", flush=True)
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        server.terminate()
        server.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sweep.tracking", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    ui = commands.add_parser("ui", help="serve MLflow's pages of the results folder until Ctrl-C")
    ui.add_argument("--port", type=int, default=5000, help="the next free one from here on (default: %(default)s)")
    ui.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine only)"
    )
    again = commands.add_parser("rebuild", help="write to the MLflow database what it lacks of the Parquet files")
    again.add_argument("--study", help="a study of the results folder (default: all of them)")
    for command in (ui, again):
        command.add_argument("--results", default="results", help="the results folder (default: %(default)s)")
        command.add_argument(
            "--tracking", help="MLflow's URI, if the sweep was given one (default: sqlite, mlflow.db in the results)"
        )
    return parser


def _studies(results: Location, study: str | None) -> list[str]:
    found = sorted(path.parent.name for path in results.glob("*/runs"))
    if study is None and found:
        return found
    if study in found:
        return [study]
    there = f"it has {', '.join(found)}" if found else "it has none"
    raise ValueError(f"no study {'' if study is None else study + ' '}in results folder {results}: {there}")


def _free_port(host: str, wanted: int) -> int:
    if not 1 <= wanted <= 65535:
        raise ValueError(f"port is {wanted}; allowed: 1 to 65535")
    problem = ""
    for port in range(wanted, min(wanted + PORTS_TRIED, 65536)):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, port))
                return port
            except OSError as error:
                problem = error.strerror or str(error)
    raise ValueError(f"cannot listen on {host}, ports {wanted} to {port}: {problem}")


def _tables(address: str, server: subprocess.Popen[bytes]) -> list[tuple[str, str]]:
    """Wait for the server; returns our experiments by name, each with the URL of the table of its runs."""
    search = urllib.request.Request(
        f"{address}/api/2.0/mlflow/experiments/search",
        data=json.dumps({"max_results": 1000, "order_by": ["name"]}).encode(),
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy reaches this machine's loopback
    experiments: list[dict[str, Any]] | None = None
    while experiments is None and server.poll() is None:
        try:
            with opener.open(search, timeout=10) as answer:
                experiments = json.load(answer)["experiments"]
        except OSError:
            time.sleep(0.2)
    # Without these two, MLflow opens its view for language models, or a table without a single figure.
    return [
        (
            experiment["name"],
            f"{address}/#/experiments/{experiment['experiment_id']}/runs?workflowType=machine_learning"
            f"&viewStateShareKey={tag['key'].removeprefix(SHARED_VIEW)}",
        )
        for experiment in experiments or []
        for tag in experiment.get("tags", [])
        if tag["key"].startswith(SHARED_VIEW)
    ]


if __name__ == "__main__":
    sys.exit(main())
