"""Fixtures of data sets and weights that lie elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sweep.events import WorkerContext
from sweep.running.staging import fetching
from tests.packed import pack_noise
from tests.web_server import WebServer, web_server
from wae_core.data.manifest import Manifest
from wae_core.evaluation.inception import WEIGHTS_NAME
from wae_core.storage import transfer
from wae_core.storage.files import WEB, Location, location

WEIGHTS = b"weights" * 5000


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    return tmp_path / "elsewhere"


@pytest.fixture
def manifest(elsewhere: Path) -> Manifest:
    """Of the set `noise`, which lies elsewhere."""
    return pack_noise(elsewhere)


@pytest.fixture
def weights(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file elsewhere that is taken for Inception's weights, which are not in this repository."""
    elsewhere.mkdir(exist_ok=True)
    (elsewhere / WEIGHTS_NAME).write_bytes(WEIGHTS)
    monkeypatch.setattr(fetching, "WEIGHTS_SHA256", hashlib.sha256(WEIGHTS).hexdigest())
    return elsewhere / WEIGHTS_NAME


@pytest.fixture
def server(elsewhere: Path, manifest: Manifest) -> Iterator[WebServer]:
    with web_server(elsewhere) as server:
        yield server


@pytest.fixture
def source(server: WebServer) -> Location:
    return location(server.url, WEB)


@pytest.fixture(autouse=True)
def _in_no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "SECONDS_TO_PAUSE", 0.0)


@pytest.fixture
def context_of(tmp_path: Path, manifest: Manifest) -> Callable[..., WorkerContext]:
    """context_of(**changes): what a worker of a study of `noise` is told, whose node's data folder is not there."""

    def make(
        data_sha256: str = manifest.sha256, inception: Path | None = None, data_source: Location | None = None
    ) -> WorkerContext:
        return WorkerContext(
            tmp_path / "results",
            tmp_path / "data",
            data_sha256,
            inception,
            "cpu",
            "unknown",
            checkpoint_steps=1000,
            data_source=data_source,
        )

    return make
