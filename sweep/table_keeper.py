"""While a sweep runs: every few seconds, records become rows of the tables, and ended attempts are deleted."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from sweep.attempts import record_attempts
from sweep.results import StudyFolder, Tables
from sweep.run_folder import RunFolder

SECONDS_BETWEEN_TABLES = 5.0


class TableKeeper:
    """A thread that, every few seconds, absorbs records into the tables and deletes the attempts of ended runs."""

    def __init__(self, folder: StudyFolder, tables: Tables) -> None:
        self._folder, self._tables = folder, tables
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tables", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._absorb()

    def _run(self) -> None:
        while not self._stop.wait(SECONDS_BETWEEN_TABLES):
            try:
                self._absorb()
            except OSError:
                continue  # a full disk, say: the records stay, and the last call in __exit__ raises

    def _absorb(self) -> None:
        delete_attempts(self._folder, self._tables.absorb())


def delete_attempts(folder: StudyFolder, run_ids: Iterable[str]) -> None:
    """Ended runs need their training checkpoints no more; how far their attempts came stays on record."""
    run_ids = list(run_ids)
    record_attempts(folder, run_ids)
    for run_id in run_ids:
        RunFolder(folder.work(run_id)).delete_attempts()
