"""A study's results folder as a launch has it: locked, claimed, its tables read, what others left settled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console

from sweep.errors import SettingsError
from sweep.results import study_file
from sweep.results.attempt_log import note_dropped_rows
from sweep.results.compaction import TableKeeper, clean_up
from sweep.results.folder import StudyFolder
from sweep.results.lock import Check, results_lock
from sweep.results.plan_file import extend_plan
from sweep.results.schema import FAILED, RunRow
from sweep.results.tables import Tables
from sweep.settings.settings import Settings
from wae_core.data.images import image_shape
from wae_core.run import Run
from wae_core.storage.files import probe, probe_creation


@dataclass(frozen=True)
class OpenStudy:
    """The folder of a study whose lock this process holds.

    Attributes:
        check: raises LockLost where another driver may hold the lock.
    """

    folder: StudyFolder
    tables: Tables
    check: Check
    keep_best: int | None
    console: Console

    def rows(self) -> list[RunRow]:
        """Return the ended runs."""
        return self.tables.rows()

    def keep_tables(self) -> TableKeeper:
        """Return a context in which records become rows of the tables every few seconds."""

        def say(problem: str) -> None:
            self.console.print(problem, style="yellow")

        return TableKeeper(self.folder, self.tables, self.keep_best, self.check, say)


@contextmanager
def open_study(settings: Settings, drawn: Sequence[Run], console: Console) -> Iterator[OpenStudy]:
    """Lock the study's folder, and bring it into the state from which a launch goes on.

    Args:
        drawn: the runs of this launch's budget, which enter the plan unless they are proposed later.

    Raises:
        SettingsError: the folder cannot be written, is another driver's, or of another version of the study.
        ResultsError: the plan or a table is damaged, or of another version.
    """
    study, folder = settings.study, _make_folder(settings)
    with results_lock(folder.root / "lock") as check:
        shape = image_shape(study.protocol.dataset, settings.data)
        for difference in study_file.claim(folder, study, settings.failures, shape):
            console.print(f"the search space is wider than this folder's was: {difference}")
        extend_plan(folder, drawn if study.is_planned_ahead else [])
        tables = Tables(folder, check)
        clean_up(folder, tables, tables.run_ids(), settings.keep_best)
        if settings.retry_failed:
            failed = [row.run_id for row in tables.rows() if row.status == FAILED]
            console.print(f"failed runs that are tried again: {tables.drop_failed()}")
            note_dropped_rows(folder, failed)
        yield OpenStudy(folder, tables, check, settings.keep_best, console)
        for problem in tables.problems:
            console.print(problem, style="yellow")


def _make_folder(settings: Settings) -> StudyFolder:
    folder = StudyFolder(settings.results.absolute(), settings.study.name)
    folder.check_kinds()
    try:
        folder.records.mkdir(parents=True, exist_ok=True)
        probe(folder.root)
        probe_creation(folder.records)
    except OSError as error:
        reason = error.strerror or error
        raise SettingsError(f"results folder {settings.results} cannot be written: {reason}") from error
    return folder
