"""An object store that does what it is asked, and whose answer is lost, doubled or late: real S3 requests to moto."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sweep.errors import LockLost
from sweep.results import lock
from sweep.results.folder import StudyFolder
from sweep.results.lock import results_lock
from sweep.results.tables import Tables
from tests.chaos.faulty_proxy import FaultyProxy, faulty_bucket
from wae_core.run import Run
from wae_core.storage import objects
from wae_core.storage.files import create, location

FAULTS = ["lost", "dropped", "doubled", "unavailable"]
numbers = itertools.count()
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultyProxy]:
    with faulty_bucket() as proxy:
        yield proxy


@pytest.fixture
def study(proxy: FaultyProxy) -> StudyFolder:
    """A folder that no other test has."""
    proxy.rule = lambda method, path: None
    return StudyFolder(f"s3://chaos/results-{next(numbers)}", "digits")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("table", ["evaluations", "runs"])
def test_a_table_has_every_row_whatever_became_of_the_answer_to_its_write(
    study: StudyFolder,
    proxy: FaultyProxy,
    make_run: Callable[..., Run],
    make_result: Callable[..., Any],
    table: str,
    fault: str,
) -> None:
    tables = Tables(study)
    study.publish(*make_result(make_run("vae", seed=0)))
    proxy.once(fault, "PUT", f"/{table}/vae")
    tables.compact()
    study.publish(*make_result(make_run("vae", seed=1)))
    tables.compact()
    assert [path.name for path in study.records.glob("*.parquet")] == []
    assert (len(study.read_table("runs")), len(study.read_table("evaluations"))) == (2, 4)


def test_a_write_whose_fate_is_not_known_is_settled_by_the_next(
    study: StudyFolder, proxy: FaultyProxy, make_run: Callable[..., Run], make_result: Callable[..., Any]
) -> None:
    """The store does the write; then neither its answer nor the reading back comes through."""
    tables = Tables(study)
    study.publish(*make_result(make_run("vae", seed=0)))

    def away_once_written(method: str, path: str) -> str | None:
        if "/evaluations/vae" not in path or "list-type" in path:
            return None
        return "dropped" if method == "PUT" else "unavailable"

    proxy.rule = away_once_written
    with pytest.raises(OSError, match="evaluations/vae"):
        tables.compact()
    proxy.rule = lambda method, path: None
    study.publish(*make_result(make_run("vae", seed=1)))
    tables.compact()
    assert (len(study.read_table("runs")), len(study.read_table("evaluations"))) == (2, 4)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_lease_is_taken_at_once_renewed_and_given_back(
    study: StudyFolder, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(lock, "LEASE_SECONDS", 4.0)
    path, began = study.root / "lock", time.monotonic()
    proxy.once(fault, "PUT", "/lock")
    with results_lock(path) as check:
        assert time.monotonic() - began < 3, "it is ours from the start"
        proxy.once(fault, "PUT", "/lock")
        time.sleep(5)
        check()
        proxy.once(fault, "PUT", "/lock")
    assert b'"host": null' in path.read_bytes()


def test_what_another_has_written_is_still_a_conflict(
    study: StudyFolder, proxy: FaultyProxy, make_run: Callable[..., Run], make_result: Callable[..., Any]
) -> None:
    tables = Tables(study)
    study.publish(*make_result(make_run("vae", seed=0)))
    Tables(study)
    study.publish(*make_result(make_run("vae", seed=1)))
    with pytest.raises(objects.ConflictError):
        tables.compact()


def test_a_lease_that_another_took_is_lost(
    study: StudyFolder, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LEASE_SECONDS", 2.0)
    monkeypatch.setattr(lock, "interrupt", lambda: None)
    path = study.root / "lock"
    with results_lock(path) as check:
        assert not isinstance(path, Path)
        path.put(b'{"host": "there", "pid": 1, "holder": "x", "generation": 1, "renewals": 0}')
        time.sleep(2)
        with pytest.raises(LockLost):
            check()


@pytest.mark.parametrize("fault", FAULTS)
def test_who_creates_a_record_knows_it(study: StudyFolder, proxy: FaultyProxy, fault: str) -> None:
    path = location(f"{study.root}/records/a.parquet")
    proxy.once(fault, "PUT", "/records/")
    assert create(path, b"mine")
    assert not create(path, b"another's")
    assert path.read_bytes() == b"mine"
