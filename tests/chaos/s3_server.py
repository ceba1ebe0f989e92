"""An S3 server on loopback, moto's: `with s3_bucket() as url`. It keeps its objects in memory."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BUCKET = "chaos"
SECONDS_TO_START = 120.0


@contextmanager
def s3_bucket() -> Iterator[str]:
    """Serve an empty bucket in a process of its own, with the environment that S3 clients need; yields s3://bucket."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.s3_server", str(port)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _create_bucket(f"http://127.0.0.1:{port}", server)
        os.environ.update(
            AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
            AWS_ALLOW_HTTP="true",
            AWS_REGION="us-east-1",
            AWS_ACCESS_KEY_ID="any",
            AWS_SECRET_ACCESS_KEY="any",
        )
        yield f"s3://{BUCKET}"
    finally:
        server.kill()
        server.wait()


def _create_bucket(endpoint: str, server: subprocess.Popen[bytes]) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy reaches this machine's loopback
    until = time.monotonic() + SECONDS_TO_START
    while server.poll() is None and time.monotonic() < until:
        try:
            opener.open(urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT"), timeout=SECONDS_TO_START)
            return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("moto's S3 server did not start: is moto installed? make setup does it")


def serve(port: int) -> None:
    """Answer one request at a time: moto looks whether an object is there and then writes it, in two steps."""
    from moto.server import DomainDispatcherApplication, create_backend_app  # type: ignore[attr-defined]
    from werkzeug.serving import run_simple

    run_simple("127.0.0.1", port, DomainDispatcherApplication(create_backend_app), threaded=False)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
