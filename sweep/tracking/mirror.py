"""The live mirror of a sweep in MLflow: a thread that nothing waits for. The Parquet files are the truth."""

from __future__ import annotations

import math
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from rich.console import Console

from sweep.errors import without_credentials
from sweep.events import Ended, Evaluated, Event
from sweep.results.folder import StudyFolder
from sweep.tracking.entry import Entry, Summary
from wae_core.evaluation.selection import Evaluation
from wae_core.run import Run, config_id_of
from wae_core.storage.files import Location

if TYPE_CHECKING:
    from sweep.tracking.mlflow_study import MlflowStudy

FLUSH_SECONDS = 5.0
SECONDS_TO_WAIT = 60.0  # until MLflow is open, and at the end until it has caught up
LONGEST_PAUSE_SECONDS = 40.0  # between two attempts, as long as MLflow fails
AT_ONCE = 1000  # that are made ready to be written: all that a new database lacks may be more than time allows


class Mirror:
    """A thread that mirrors evaluations and ended runs to MLflow; the caller never waits for it nor sees its errors.

    What cannot be written is tried again. After a lost connection, or when somebody has deleted
    the database, all that the Parquet files have is compared with MLflow and written where it is missing.
    """

    def __init__(
        self,
        tracking_uri: str,
        folder: StudyFolder,
        study: str,
        on_problem: Callable[[str], None],
    ) -> None:
        """Start nothing.

        Args:
            tracking_uri: MLflow's; `default_uri` where the user has given none.
            folder: where the study's results lie.
            study: the study's name, which the experiments begin with.
            on_problem: is told the first problem in one sentence, from the thread, and no other.
        """
        self._open = partial(open_mlflow, tracking_uri, folder, study)
        self._folder = folder
        self._on_problem: Callable[[str], None] | None = on_problem
        self._mlflow: MlflowStudy | None = None
        self._failures: Counter[str] = Counter()  # of each run's writes, in a row
        self._lock = threading.Lock()  # of the next four
        self._live: dict[str, tuple[Run, list[Evaluation]]] = {}  # evaluations to write
        self._to_end: set[str] = set()  # ended runs to write
        self._to_judge: set[str] = set()  # configurations to write, of which a run has ended
        self._ended: set[str] = set()  # ended runs, written or not
        self._catch_up = threading.Event()
        self._tried = threading.Event()
        self._stop = threading.Event()
        self._close_by = math.inf
        # A daemon, so that a request which hangs does not keep the driver from exiting.
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)

    def start(self) -> None:
        """Start the thread; it imports MLflow and creates the database, which takes seconds."""
        self._thread.start()

    def wait_ready(self, timeout: float = SECONDS_TO_WAIT) -> bool:
        """Wait, at most `timeout` seconds, for the first attempt to open MLflow; returns whether it is open."""
        return self._tried.wait(timeout) and self._mlflow is not None

    def note(self, event: Event) -> None:
        """Queue an evaluation of a run that trains, or the end of a run, to be written soon; returns at once.

        An end is written as the run's published record says, which may be that of another attempt than the event's.
        """
        if isinstance(event, Evaluated):
            run = event.run
            with self._lock:
                if run.run_id not in self._ended:  # the orphan of a worker that was thought dead may go on
                    self._live.setdefault(run.run_id, (run, []))[1].append(event.evaluation)
        elif isinstance(event, Ended):
            self._mark_ended([event.run.run_id])

    def catch_up(self) -> None:
        """Queue a comparison of the study's tables with MLflow, to write what is missing there."""
        self._catch_up.set()

    def close(self, timeout: float) -> str | None:
        """Catch up and stop, within `timeout` seconds; returns a sentence if MLflow is left behind."""
        self._close_by = time.monotonic() + timeout
        self._catch_up.set()
        self._stop.set()
        self._thread.join(timeout)
        with self._lock:
            behind = len(self._to_end | self._live.keys())
            is_behind = bool(behind or self._to_judge or self._catch_up.is_set())
        if not is_behind:
            return None
        runs = "1 run" if behind == 1 else f"{behind or 'some'} runs"
        return f"MLflow is behind by {runs}: run make mlflow-rebuild"

    def _work(self) -> None:
        pause = 0.0
        while not self._stop.wait(pause):
            if self._flush(time.monotonic() + FLUSH_SECONDS):
                pause = FLUSH_SECONDS
            else:
                pause = min(max(2 * pause, FLUSH_SECONDS), LONGEST_PAUSE_SECONDS)
        self._flush(self._close_by)
        self._disconnect()

    def _flush(self, until: float) -> bool:
        """Write what is pending, or as much as there is time for; returns False if MLflow raised."""
        try:
            if self._mlflow is not None and not self._mlflow.is_current():
                self._disconnect()
                self._catch_up.set()
            if self._catch_up.is_set():
                self._catch_up.clear()
                self._mark_ended(self._folder.read_table("runs")["run_id"].to_pylist())
            if self._mlflow is None:
                if not self._folder.root.is_dir():  # a new database would bring back the place of what is gone
                    raise FileNotFoundError(f"{self._folder.root} is gone")
                self._mlflow = self._open()
                self._tried.set()
            while self._write(self._mlflow, until):
                pass
            return True
        except Exception as error:  # of whatever kind: the sweep goes on
            if self._mlflow is not None:
                self._disconnect()
                self._catch_up.set()
            self._tried.set()
            if self._on_problem is not None:
                reason = textwrap.shorten(without_credentials(str(error) or repr(error)), 200, placeholder=" …")
                self._on_problem(f"MLflow cannot be written; the sweep goes on, and tries again: {reason}")
                self._on_problem = None
            return False

    def _disconnect(self) -> None:
        if self._mlflow is not None:
            self._mlflow.close()
            self._mlflow = None

    def _mark_ended(self, run_ids: Collection[str]) -> None:
        with self._lock:
            self._ended.update(run_ids)
            self._to_end.update(run_ids)
            self._to_judge.update(map(config_id_of, run_ids))
            for run_id in run_ids:
                self._live.pop(run_id, None)  # the record has all of the run's evaluations

    def _write(self, mlflow: MlflowStudy, until: float) -> bool:
        """Write what is pending; returns whether there is more, and time for it."""
        with self._lock:
            live = [Entry.of_run(run, evaluations.copy()) for run, evaluations in self._live.values()]
            to_end = self._to_end.copy()
            # Taken out, and what is not written is put back: another of its runs may end meanwhile.
            to_judge, self._to_judge = self._to_judge, set()
        try:
            missing = mlflow.missing(to_end, to_judge, AT_ONCE) if to_end or to_judge else []
            is_all = len(missing) < AT_ONCE
            if is_all:
                to_judge = {entry.key for entry in missing if isinstance(entry, Summary)}
                with self._lock:
                    self._to_end -= to_end - {entry.key for entry in missing}
            # What is live comes first, what has failed last: one run that MLflow refuses holds up no other.
            for entry in sorted([*live, *missing], key=lambda entry: self._failures[entry.key]):
                if time.monotonic() > until:  # there may be thousands, and what is live is to have its turn
                    return False
                self._failures[entry.key] += 1
                mlflow.write(entry)
                del self._failures[entry.key]
                if isinstance(entry, Summary):
                    to_judge.discard(entry.key)
                else:
                    self._mark_written(entry)
            return not is_all
        finally:
            with self._lock:
                self._to_judge |= to_judge

    def _mark_written(self, entry: Entry) -> None:
        with self._lock:
            if entry.end is not None:
                self._to_end.discard(entry.run_id)
            elif entry.run_id in self._live:  # it may have ended meanwhile, or have more evaluations
                evaluations = self._live[entry.run_id][1]
                del evaluations[: len(entry.evaluations)]
                if not evaluations:
                    del self._live[entry.run_id]


@contextmanager
def mirroring(tracking_uri: str | None, folder: StudyFolder, console: Console) -> Iterator[Mirror]:
    """Mirror the study to MLflow meanwhile; at the end, say what could not be written.

    Args:
        tracking_uri: None for the database of the results folder.
    """
    problems: list[str] = []
    mirror = Mirror(tracking_uri or default_uri(folder.root.parent), folder, folder.root.name, problems.append)
    mirror.start()
    mirror.catch_up()
    try:
        yield mirror
    finally:
        behind = mirror.close(SECONDS_TO_WAIT)
    for problem in [*problems, *([behind] if behind else [])]:
        console.print(problem, style="yellow")


def default_uri(results: Location) -> str:
    """Return the URI of the MLflow database of a results folder on a disk."""
    return f"sqlite:///{results.absolute() / 'mlflow.db'}"


def open_mlflow(tracking_uri: str, folder: StudyFolder, study: str) -> MlflowStudy:
    """Open a study in MLflow; only who writes to it pays for the imports, which may take seconds.

    May raise whatever MLflow raises.
    """
    from sweep.tracking.mlflow_study import MlflowStudy

    return MlflowStudy(tracking_uri, folder, study)


def rebuild(results: Location, study: str, tracking_uri: str) -> int:
    """Write what MLflow lacks of the study's ended runs and its configurations; what is right already stays.

    Returns the number of runs that it lacked.


    Raises:
        ResultsError: a file of the results is damaged, or of another version.

    Beside that, it may raise whatever MLflow raises.
    """
    folder = StudyFolder(results, study)
    with closing(open_mlflow(tracking_uri, folder, study)) as mlflow:
        run_ids = folder.read_table("runs")["run_id"].to_pylist()
        missing = mlflow.missing(run_ids, set(map(config_id_of, run_ids)))
        for entry in missing:
            mlflow.write(entry)
    return sum(isinstance(entry, Entry) for entry in missing)
