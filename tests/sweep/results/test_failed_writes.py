"""A write that fails does not count as done: memory follows the disk, and records wait until their rows are there."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Any

import pytest

from sweep.results import compaction
from sweep.results.compaction import TableKeeper
from sweep.results.folder import StudyFolder
from sweep.results.tables import Tables
from wae_core.run import Run
from wae_core.storage import own
from wae_core.storage.files import Location, write_atomically

TABLES = ["evaluations", "runs"]


@pytest.fixture
def fail_once(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """fail_once(table, error): the next write of that table raises."""

    def arm(table: str, error: BaseException) -> None:
        def write(path: Location, data: bytes, write: Any = write_atomically) -> None:
            if path.parent.name == table:
                monkeypatch.setattr(own, "write_atomically", write)
                raise error
            write(path, data)

        monkeypatch.setattr(own, "write_atomically", write)

    return arm


def full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def counts(folder: StudyFolder) -> tuple[int, int, int]:
    """Rows, evaluations, and records that wait."""
    records = len(list(folder.records.glob("*.parquet")))
    return len(folder.read_table("runs")), len(folder.read_table("evaluations")), records


@pytest.fixture
def tables(folder: StudyFolder, make_run: Callable[..., Run], make_result: Callable[..., Any]) -> Tables:
    """Three runs have published, one of them failed; nothing is compacted yet."""
    tables = Tables(folder)
    for seed, status in enumerate(("completed", "completed", "failed")):
        folder.publish(*make_result(make_run("vae", seed=seed), status))
    return tables


@pytest.mark.parametrize("table", TABLES)
def test_a_record_stays_until_both_its_rows_are_written(
    folder: StudyFolder, tables: Tables, fail_once: Callable[..., None], table: str
) -> None:
    fail_once(table, full())
    with pytest.raises(OSError, match="No space left"):
        tables.compact()
    assert counts(folder) == (3, 6, 3)
    assert len(tables.compact()) == 3
    assert counts(folder) == (3, 6, 0)
    assert len(Tables(folder).run_ids()) == 3


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("error", [full(), KeyboardInterrupt()])
def test_a_failed_run_is_dropped_with_its_evaluations_or_not_at_all(
    folder: StudyFolder,
    tables: Tables,
    fail_once: Callable[..., None],
    make_run: Callable[..., Run],
    make_result: Callable[..., Any],
    table: str,
    error: BaseException,
) -> None:
    tables.compact()
    fail_once(table, error)
    with pytest.raises(type(error)):
        tables.drop_failed()
    again = Tables(folder)
    runs, evaluations, _ = counts(folder)
    assert evaluations == 2 * runs
    again.drop_failed()
    folder.publish(*make_result(make_run("vae", seed=2), fids=(3.0,)))
    again.compact()
    assert counts(folder) == (3, 5, 0), "the new result has the place of the dropped one"


def test_a_row_keeps_its_checkpoint_until_that_is_written(
    folder: StudyFolder, tables: Tables, fail_once: Callable[..., None]
) -> None:
    tables.compact()
    beyond = tables.beyond_best(0)
    fail_once("runs", full())
    with pytest.raises(OSError, match="No space left"):
        tables.forget_checkpoints(beyond)
    assert tables.beyond_best(0) == beyond
    tables.forget_checkpoints(beyond)
    assert folder.read_table("runs")["checkpoint_path"].null_count == 3


@pytest.mark.parametrize("error", [full(), RuntimeError("a fault of ours, password@host")])
def test_the_keeper_says_what_it_meets_and_goes_on(
    folder: StudyFolder,
    tables: Tables,
    fail_once: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    monkeypatch.setattr(compaction, "SECONDS_BETWEEN_TABLES", 0.02)
    said: list[str] = []
    fail_once("evaluations", error)
    with TableKeeper(folder, tables, None, lambda: None, said.append):
        until = time.monotonic() + 20
        while counts(folder)[2] and time.monotonic() < until:
            time.sleep(0.02)
    assert len(said) == 1 and str(error) in said[0]
    assert counts(folder) == (3, 6, 0)
