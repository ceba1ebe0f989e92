"""While a sweep runs: again and again, records become rows of the tables, and what is not needed any more goes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from sweep.errors import without_credentials
from sweep.results.folder import StudyFolder
from sweep.results.lock import Check
from sweep.results.tables import Tables
from sweep.results.work.attempt_log import record_attempts
from sweep.results.work.run_folder import RunFolder

SECONDS_BETWEEN_TABLES = 5.0  # at least
# As many times the seconds that rewriting took last, which grow with the study: it never costs 5 % of the driver.
TIMES_THE_REWRITING = 20.0


class TableKeeper:
    """A thread that again and again compacts records into the tables and deletes what `clean_up` says.

    Every few seconds, or more rarely where the tables are large: they are rewritten whole.
    """

    def __init__(
        self,
        folder: StudyFolder,
        tables: Tables,
        keep_best: int | None,
        check: Check,
        on_problem: Callable[[str], None],
    ) -> None:
        """Start nothing.

        Args:
            keep_best: as in `clean_up`.
            check: raises LockLost where another driver may hold the lock.
            on_problem: is told, from the thread, why records do not become rows; each reason once.
        """
        self._folder, self._tables, self._keep_best, self._check = folder, tables, keep_best, check
        self._on_problem = on_problem
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tables", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._compact()

    @property
    def pause(self) -> float:
        """Seconds until records become rows again."""
        return max(SECONDS_BETWEEN_TABLES, TIMES_THE_REWRITING * self._tables.rewriting_seconds)

    def _run(self) -> None:
        said: set[str] = set()
        while not self._stop.wait(self.pause):
            try:
                self._compact()
            except Exception as error:  # a full disk, say: the records stay, and the last call in __exit__ raises
                sentence = (
                    "results cannot be taken into the tables now; they wait in records/, and it is tried again: "
                    f"{without_credentials(str(error) or repr(error))}"
                )
                if sentence not in said:
                    self._on_problem(sentence)
                said.add(sentence)

    def _compact(self) -> None:
        self._check()
        clean_up(self._folder, self._tables, self._tables.compact(), self._keep_best)


def clean_up(folder: StudyFolder, tables: Tables, ended: Iterable[str], keep_best: int | None) -> None:
    """Delete the training checkpoints of ended runs, and the weights of all but the `keep_best` models per algorithm.

    Weights go before the row's checkpoint_path: a crash in between leaves a row that the next call finds again.

    Args:
        ended: the run_ids whose checkpoints may go; each of them has a row.
        keep_best: None keeps the weights of all.

    Raises:
        OSError: a table or attempts.parquet cannot be written.
    """
    ended = list(ended)
    record_attempts(folder, ended)  # how far they came stays on record
    for run_id in ended:
        RunFolder(folder.work(run_id)).delete_attempts()
    if keep_best is None:
        return
    beyond = tables.beyond_best(keep_best)
    for run_id in beyond:
        RunFolder(folder.work(run_id)).delete_best()
    tables.forget_checkpoints(beyond)
