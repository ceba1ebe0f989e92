"""`bigwae ui` and `bigwae mlflow-rebuild`: browse the results in MLflow, or write its database again."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from sweep.errors import SettingsError
from sweep.places import check_tracking, results_location
from sweep.tracking.mirror import default_uri, rebuild
from sweep.tracking.mlflow_sqlite import ARTIFACTS, Database
from sweep.tracking.postgres import SCHEME, check_answer, check_driver
from wae_core.storage.files import Location, listed
from wae_core.storage.objects import ObjectPath

SHARED_VIEW = "mlflow.sharedViewState."  # prefix of MLflow's tags of an experiment that hold a view of its runs
PORTS_TRIED = 20


def ui(words: Sequence[str]) -> int:
    """Serve MLflow's pages of the results until Ctrl-C, or say where a server has them; returns the exit code.

    Raises:
        SettingsError: there is no database, the database or the server does not answer, or no port is free.
    """
    arguments = ui_parser().parse_args(words)
    results = results_location(arguments.results)
    tracking_uri = _tracking_uri(results, arguments.tracking)
    if tracking_uri.startswith("http"):
        _show(_tables_of_server(tracking_uri))
        return 0
    if tracking_uri.startswith(SCHEME):
        with _told_of(tracking_uri, "read"):
            check_answer(tracking_uri)
        return serve(tracking_uri, results / ARTIFACTS, arguments.host, arguments.port)
    file = Path(tracking_uri.removeprefix("sqlite:///"))
    if not file.exists():
        raise SettingsError(f"no MLflow database in {file.parent}: run make sweep first")
    try:
        with closing(Database(file)) as opened:
            opened.mend_places()
    except sqlite3.Error as error:
        raise SettingsError(f"{file} cannot be used: it is not an MLflow database ({error})") from error
    return serve(tracking_uri, file.parent / ARTIFACTS, arguments.host, arguments.port)


def rebuild_mirror(words: Sequence[str]) -> None:
    """Write to the MLflow database what it lacks of the Parquet files.

    Raises:
        ValueError: there is no such study, one of its files is damaged, or MLflow cannot be written.
    """
    parser = _parser("mlflow-rebuild", "write to the MLflow database what it lacks of the Parquet files")
    parser.add_argument("--study", help="a study of the results folder (default: all of them)")
    arguments = parser.parse_args(words)
    results = results_location(arguments.results)
    tracking_uri = _tracking_uri(results, arguments.tracking)
    for study in _studies(results, arguments.study):
        with _told_of(tracking_uri, "written"):
            written = rebuild(results, study, tracking_uri)
        print(f"{study}: {written} run{'s' * (written != 1)} written, MLflow has them all")


def ui_parser() -> argparse.ArgumentParser:
    """The words of `bigwae ui`."""
    parser = _parser("ui", "serve MLflow's pages of the results folder, configurations first, until Ctrl-C")
    parser.add_argument(
        "--port", type=int, default=5000, help="the next free one from here on (default: %(default)s)"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine only)"
    )
    return parser


def serve(database: str, artifacts: Location, host: str, port: int) -> int:
    """Run MLflow's server of a database until Ctrl-C or SIGTERM; returns the exit code.

    It prints where the table of each experiment is, a study's configurations before its runs, and opens the first of
    them in a browser where a person is in front of one.

    Raises:
        SettingsError: there is no free port.
    """
    free_port = _free_port(host, port)
    if free_port != port:
        print(f"port {port} is taken: using {free_port}")
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", host, "--port", str(free_port)]
    command += ["--artifacts-destination", str(artifacts), "--uvicorn-opts", "--log-level warning"]
    environment = {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # half a GB for jobs of language models
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "ERROR",
        "PYTHONWARNINGS": "ignore",
    }
    # No words: every user of the machine sees those of every process, and there may be a password in it.
    given = {"MLFLOW_BACKEND_STORE_URI": database, "MLFLOW_REGISTRY_STORE_URI": database}
    print("MLflow is starting", flush=True)
    server = subprocess.Popen(command, env=environment | os.environ | given, stdout=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _show(_tables_when_up(f"http://{host}:{free_port}", server))
        print("Ctrl-C ends it", flush=True)
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        server.terminate()
        server.wait()


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"bigwae {command}", description=description)
    parser.add_argument("--results", default="results", help="the results folder (default: %(default)s)")
    parser.add_argument(
        "--tracking", help="MLflow's URI, if the sweep was given one (default: sqlite, mlflow.db in the results)"
    )
    return parser


def _tracking_uri(results: Location, given: str | None) -> str:
    if given is None and isinstance(results, ObjectPath):
        raise SettingsError(
            f"MLflow's database is not in {results}: give --tracking, as the sweep was given tracking="
        )
    if given is None:
        return default_uri(results)
    check_driver(check_tracking(given))
    return given


@contextmanager
def _told_of(tracking_uri: str, what_not: str) -> Iterator[None]:
    """Turn what MLflow raises meanwhile into a sentence; what is ours or the disk's stays."""
    try:
        yield
    except (ValueError, OSError):
        raise
    except Exception as error:  # MLflow's, SQLAlchemy's, SQLite's and psycopg's have nothing else in common
        reason = " ".join(str(error).split())[:300]
        raise SettingsError(f"MLflow at {tracking_uri} cannot be {what_not}: {reason}") from error


def _studies(results: Location, study: str | None) -> list[str]:
    found = sorted(path.parent.name for path in listed(results, "*/runs"))
    if study is None and found:
        return found
    if study in found:
        return [study]
    there = f"it has {', '.join(found)}" if found else "it has none"
    raise SettingsError(f"no study {'' if study is None else study + ' '}in results folder {results}: {there}")


def _free_port(host: str, wanted: int) -> int:
    if not 1 <= wanted <= 65535:
        raise SettingsError(f"port is {wanted}; allowed: 1 to 65535")
    problem = ""
    for port in range(wanted, min(wanted + PORTS_TRIED, 65536)):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, port))
                return port
            except OSError as error:
                problem = error.strerror or str(error)
    raise SettingsError(f"cannot listen on {host}, ports {wanted} to {port}: {problem}")


def _show(tables: Sequence[tuple[str, str]]) -> None:
    """Print the tables' addresses, and open the first in a browser where a person is in front of one."""
    for name, url in tables:
        print(f"  {name:24s} {url}", flush=True)
    if tables and _has_screen():
        webbrowser.open(tables[0][1])


def _tables_of_server(tracking_uri: str) -> list[tuple[str, str]]:
    """What `_tables` returns of a tracking server, which is asked through MLflow's client, for its ways to log in."""
    from sweep.tracking.mlflow_client import experiments

    with _told_of(tracking_uri, "read"):
        found = experiments(tracking_uri)
    parts = urlsplit(tracking_uri)
    return _tables(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/"), found)


def _tables_when_up(address: str, server: subprocess.Popen[bytes]) -> list[tuple[str, str]]:
    """What `_tables` returns of the server that is starting; nothing where it ends."""
    search = urllib.request.Request(
        f"{address}/api/2.0/mlflow/experiments/search",
        data=json.dumps({"max_results": 1000, "order_by": ["name"]}).encode(),
        headers={"Content-Type": "application/json"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy reaches this machine's loopback
    while server.poll() is None:
        try:
            with opener.open(search, timeout=10) as answer:
                found = json.load(answer)["experiments"]
        except OSError:
            time.sleep(0.2)
        else:
            return _tables(
                address,
                [(one["name"], one["experiment_id"], [tag["key"] for tag in one.get("tags", [])]) for one in found],
            )
    return []


def _tables(address: str, experiments: Sequence[tuple[str, str, Sequence[str]]]) -> list[tuple[str, str]]:
    """Our experiments, of all by name, id and tags' keys, with the URL of each one's table; configurations first."""
    # Without these two, MLflow opens its view for language models, or a table without a single figure.
    tables = [
        (
            name,
            f"{address}/#/experiments/{experiment_id}/runs?workflowType=machine_learning"
            f"&viewStateShareKey={key.removeprefix(SHARED_VIEW)}",
        )
        for name, experiment_id, keys in experiments
        for key in keys
        if key.startswith(SHARED_VIEW)
    ]
    return sorted(tables, key=lambda table: (table[0].partition("/")[0], "/" not in table[0]))


def _has_screen() -> bool:
    """Whether a browser would open in front of whoever typed the command, and not in the terminal or nowhere."""
    has_display = sys.platform in ("darwin", "win32") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())
    return has_display and sys.stdout.isatty()
