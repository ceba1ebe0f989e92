"""The table of models that were scored again in one way: a row a run, however often the work is interrupted."""

from __future__ import annotations

import time
from dataclasses import asdict

import pyarrow as pa

from sweep.results.folder import StudyFolder, read_rescore_table
from sweep.results.layout import rows_without
from sweep.results.lock import Check
from sweep.results.parquet import serialise
from sweep.results.schema import RESCORES, RescoreRow
from wae_core.storage.files import TEMPORARIES
from wae_core.storage.own import own

SECONDS_BETWEEN_WRITES = 5.0


class RescoreTable:
    """One kind's file and its content in memory. Only the holder of the rescoring lock has one.

    The file is replaced whole every few seconds and at the end, so a death costs the scores of these seconds, which
    are computed again. A row takes the place of an earlier one of its run.
    """

    def __init__(self, folder: StudyFolder, kind: str, check: Check) -> None:
        """Read the file, if there is one.

        Args:
            check: asked before each write; raises LockLost where another driver may hold the lock.

        Raises:
            ResultsError: the file is damaged, of another version or another kind.
        """
        self.path = folder.rescore_file(kind)
        self._file, self._check = own(self.path), check
        self._table = RESCORES.empty_table()
        for left_over in self.path.parent.glob(TEMPORARIES):
            left_over.unlink(missing_ok=True)
        if self.path.exists():
            self._table = read_rescore_table(self.path)
            self._file.read()
        self._new: dict[str, RescoreRow] = {}  # by run_id: not written yet
        self._written = time.monotonic()

    def steps(self) -> dict[str, int]:
        """Return the step of the model that was scored, by run_id."""
        return dict(zip(self._table["run_id"].to_pylist(), self._table["step"].to_pylist(), strict=True))

    def add(self, row: RescoreRow) -> None:
        """Take in a row, and write the file if that was last done some seconds ago.

        Raises:
            OSError: it cannot be written; the row waits for the next call.
        """
        self._new[row.run_id] = row
        if time.monotonic() - self._written > SECONDS_BETWEEN_WRITES:
            self.write()

    def write(self) -> None:
        """Write what is not written yet.

        Raises:
            OSError: it cannot be written.
        """
        if not self._new:
            return
        new = pa.Table.from_pylist([asdict(row) for row in self._new.values()], schema=RESCORES)
        table = pa.concat_tables([rows_without(self._table, new["run_id"]), new]).combine_chunks()
        self._check()
        self.path.parent.mkdir(exist_ok=True)
        self._file.put(serialise(table))
        self._table, self._written = table, time.monotonic()
        self._new.clear()
