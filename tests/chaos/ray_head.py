"""A Ray head on loopback that wants a token, in a home that has it: `with ray_head() as head`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.killer import kill_session

SECONDS_TO_START = 120.0
TOKEN = "5ec2e7" * 10


@dataclass(frozen=True)
class RayHead:
    """A head that runs.

    Attributes:
        address: what RAY_ADDRESS is to be.
        jobs: what RAY_API_SERVER_ADDRESS is to be, where it takes jobs.
        folder: where it keeps its logs.
    """

    address: str
    jobs: str
    folder: Path


@contextmanager
def ray_head(takes_jobs: bool = False, cpus: int = 1) -> Iterator[RayHead]:
    """Start a head; HOME is meanwhile a folder that has nothing but the token, whose path is short."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="bw", dir="/tmp", ignore_cleanup_errors=True) as folder:
        token = Path(folder) / ".ray" / "auth_token"
        token.parent.mkdir()
        token.write_text(TOKEN)
        token.chmod(0o644)
        os.environ["HOME"] = folder
        port, dashboard, agent = (_free_port() for _ in range(3))
        quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
        words = ["--node-ip-address=127.0.0.1", f"--port={port}", f"--num-cpus={cpus}"]
        words += ["--object-store-memory=100000000", f"--temp-dir={folder}/r", "--block"]
        if takes_jobs:
            words += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
            words += [f"--dashboard-agent-listen-port={agent}"]
        words.append(f"--include-dashboard={str(takes_jobs).lower()}")
        process = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", *words],
            env=os.environ | quiet,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            for awaited in (port, dashboard) if takes_jobs else (port,):
                until = time.monotonic() + SECONDS_TO_START
                while socket.socket().connect_ex(("127.0.0.1", awaited)) and time.monotonic() < until:
                    assert process.poll() is None
                    time.sleep(0.2)
            yield RayHead(f"127.0.0.1:{port}", f"http://127.0.0.1:{dashboard}", Path(folder) / "r")
        finally:
            kill_session(process.pid)
            process.wait()
            os.environ.clear()
            os.environ.update(before)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port
