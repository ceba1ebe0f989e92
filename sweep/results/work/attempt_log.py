"""attempts.parquet: how far each attempt at a run came, kept when its folder goes; the ledger reads waste from it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict

import pyarrow as pa
import pyarrow.compute as pc

from sweep.results.folder import StudyFolder
from sweep.results.layout import Layout
from sweep.results.parquet import read_table, write_table
from sweep.results.work.run_folder import RunFolder, runs_with_attempts

ATTEMPTS = pa.schema(
    [
        ("run_id", pa.string()),
        ("attempt", pa.string()),
        ("started_at", pa.string()),
        ("from_step", pa.int64()),
        ("to_step", pa.int64()),
        ("from_seconds", pa.float64()),
        ("to_seconds", pa.float64()),
        ("row_dropped", pa.bool_()),  # its run failed, and was given up for a new one
    ]
)
ATTEMPT_LOG = Layout(ATTEMPTS)  # without a key: there may be several of a run


def record_attempts(folder: StudyFolder, run_ids: Iterable[str]) -> None:
    """Take the attempts at these runs into attempts.parquet; idempotent. Only the results lock's holder may.

    Raises:
        ResultsError: the file is damaged, or of another version.
        OSError: it cannot be written.
    """
    new = _living(folder, run_ids)
    if len(new):
        recorded = _recorded(folder)
        write_table(folder.attempts_file, pa.concat_tables([_without(recorded, new), new]))


def note_dropped_rows(folder: StudyFolder, run_ids: Collection[str]) -> None:
    """Note that the rows of these runs are gone, so that the ledger counts their attempts as waste.

    Raises:
        ResultsError: the file is damaged, or of another version.
        OSError: it cannot be written.
    """
    recorded = _recorded(folder)
    dropped = pc.or_(recorded["row_dropped"], pc.is_in(recorded["run_id"], value_set=pa.array(run_ids, pa.string())))
    if len(recorded):
        column = ATTEMPTS.get_field_index("row_dropped")
        write_table(folder.attempts_file, recorded.set_column(column, "row_dropped", dropped))


def read_attempts(folder: StudyFolder) -> pa.Table:
    """Return all attempts, those whose folders are still there included, a row each; the columns are ATTEMPTS.

    Raises:
        ResultsError: attempts.parquet is damaged, or of another version.
    """
    living = _living(folder, sorted(runs_with_attempts(folder.root / "work")))
    return pa.concat_tables([_without(_recorded(folder), living), living])


def _recorded(folder: StudyFolder) -> pa.Table:
    if not folder.attempts_file.exists():
        return ATTEMPTS.empty_table()
    return read_table(folder.attempts_file, ATTEMPT_LOG, "delete it: the ledger then shows less waste")


def _living(folder: StudyFolder, run_ids: Iterable[str]) -> pa.Table:
    rows = [
        {"run_id": run_id, **asdict(record), "row_dropped": False}
        for run_id in run_ids
        for record in RunFolder(folder.work(run_id)).attempt_records()
    ]
    return pa.Table.from_pylist(rows, schema=ATTEMPTS)


def _without(recorded: pa.Table, newer: pa.Table) -> pa.Table:
    """The recorded attempts that `newer` does not know better: an orphan's may continue after it was recorded."""
    key = ["run_id", "attempt", "started_at"]
    return recorded.join(newer.select(key), key, join_type="left anti").select(ATTEMPTS.names)
