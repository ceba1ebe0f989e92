"""One study in MLflow: what MLflow lacks of its runs and configurations, and the writing of that."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from sweep.errors import ResultsError
from sweep.results.folder import StudyFolder, confirmation_of, confirmed_study
from sweep.results.judging import FRESH, KEY, configurations
from sweep.results.layout import rows_of
from sweep.results.schema import RunRow
from sweep.tracking.entry import METRICS, Entry, Point, Summary, milliseconds
from sweep.tracking.experiments import Experiment, Experiments
from sweep.tracking.mlflow_sqlite import ARTIFACTS, OUR_TAG, Database
from sweep.tracking.postgres import SCHEME, check_answer
from sweep.tracking.store import Mirrored, Store
from wae_core.evaluation.selection import Evaluation
from wae_core.hyperparameters import DECLARED
from wae_core.run import ALGORITHMS, config_id_of
from wae_core.storage.files import Location, listed, local_copy

IN_GRID = "samples"  # the picture that MLflow's pages show of many runs side by side
COLUMNS = [
    *KEY,
    "config_id",
    "status",
    "best_fid",
    "confirmed_fid",
    "steps_done",
    "started_at",
    "ended_at",
    *DECLARED,
]


class MlflowStudy:
    """The study's experiments. Every method may raise what MLflow raises; the next try needs a new MlflowStudy."""

    def __init__(self, tracking_uri: str, folder: StudyFolder, study: str) -> None:
        """Open a tracking server, or a database, in which tables are made where there are none.

        Artifacts go to the server, to `mlartifacts` beside a SQLite database, or to that of the results folder where
        the database is PostgreSQL's.
        """
        experiments = Experiments.of(folder, study)
        self._folder, self._seeds = folder, experiments.seeds
        self._store = open_store(tracking_uri, folder.root.parent / ARTIFACTS)
        try:
            for algorithm in ALGORITHMS:  # an experiment each, which an earlier version made of the same rows
                self._store.delete_experiment(f"{study}/{algorithm}", OUR_TAG)
            self._runs_id, self._runs = self._open(experiments.runs, is_whole=False)
            self._configurations_id, self._configurations = self._open(experiments.configurations, is_whole=True)
        except BaseException:
            self._store.close()
            raise

    def is_current(self) -> bool:
        """Say whether the database is still the file that was opened: SQLite would write on into a deleted one."""
        return self._store.is_current()

    def close(self) -> None:
        """Close the connections to the database."""
        self._store.close()

    def missing(
        self, run_ids: Collection[str], config_ids: Collection[str], at_most: int | None = None
    ) -> list[Entry | Summary]:
        """Return what the study's tables have of these runs and configurations where MLflow lacks any of it.

        Args:
            at_most: so many of them, the runs first; None for all.

        Raises:
            ResultsError: a file of the results is damaged, or of another version.
        """
        records = self._folder.read_records({*config_ids, *map(config_id_of, run_ids)})
        runs = self._folder.read_table("runs", records)
        ended = rows_of(runs, run_ids)
        pairs = zip(ended["run_id"].to_pylist(), ended["ended_at"].to_pylist(), strict=True)
        lacking = [run_id for run_id, moment in pairs if not self._has_run(run_id, moment)][:at_most]
        left = None if at_most is None else at_most - len(lacking)
        judged = self._summaries(runs, config_ids if left != 0 else ())
        summaries = list(islice((one for one in judged if not self._has_configuration(one)), left))
        if not lacking:
            return [*summaries]
        rows = {row["run_id"]: RunRow(**row) for row in rows_of(ended, lacking).to_pylist()}
        evaluations: dict[str, list[Evaluation]] = {run_id: [] for run_id in rows}
        for row in rows_of(self._folder.read_table("evaluations", records), rows).to_pylist():
            evaluation = Evaluation(**{name: row[name] for name in ("step", *METRICS)})
            evaluations[row["run_id"]].append(evaluation)
        return [*(Entry.of_row(row, evaluations[run_id]) for run_id, row in rows.items()), *summaries]

    def write(self, entry: Entry | Summary) -> None:
        """Write what MLflow lacks of an entry, and end its run if it has ended; to write it again changes nothing."""
        if isinstance(entry, Summary):
            self._write_configuration(entry)
        else:
            self._write_run(entry)

    def _write_run(self, entry: Entry) -> None:
        mirrored = self._find_or_create(entry)
        points = {point.step: point for point in entry.points(mirrored.start_time)}
        new = [] if mirrored.params and mirrored.steps else [Point(0, mirrored.start_time, entry.numbers)]
        if mirrored.steps is None:
            mirrored.steps = self._store.steps(mirrored.id)
        new += [point for step, point in points.items() if step not in mirrored.steps]
        end = entry.end
        tags = entry.tags
        if end is not None:
            new.append(end.best)
            if self._log_pictures(entry, mirrored.id):
                tags = {**tags, "mlflow.loggedImages": "True"}
        self._log(mirrored, new, entry.params, tags)
        mirrored.steps.update(points)
        if mirrored.name != entry.name:
            self._store.rename(mirrored.id, entry.name)
            mirrored.name = entry.name
        if end is not None:
            # Last of all: an MLflow run that has ended is taken to be whole.
            self._store.set_terminated(mirrored.id, end.status, end.time)
            mirrored.end_time = end.time

    def _write_configuration(self, summary: Summary) -> None:
        mirrored = self._configurations.get(summary.config_id)
        if mirrored is not None and mirrored.params not in ({}, summary.params):
            self._store.delete_run(mirrored.id)  # of an earlier study of this name, whose folder is gone
            mirrored = None
        if mirrored is None:
            tags = dict(summary.tags)
            created = self._store.create_run(self._configurations_id, summary.start_time, tags, summary.name)
            mirrored = Mirrored(created, summary.name, summary.start_time, None, {}, tags)
            self._configurations[summary.config_id] = mirrored
        # A mean is gone when a seed diverges. What is left is written at a later moment than before, so that it is
        # the last there is of each metric; all at step 0, of which MLflow draws bars.
        gone = mirrored.metrics.keys() - summary.metrics.keys()
        if gone:
            self._store.drop_metrics(mirrored.id, gone)
        self._log(mirrored, [Point(0, now(), summary.metrics)], summary.params, summary.tags)
        mirrored.metrics = summary.metrics
        if mirrored.name != summary.name:
            self._store.rename(mirrored.id, summary.name)
            mirrored.name = summary.name
        if summary.end_time is not None:
            self._store.set_terminated(mirrored.id, "FINISHED", summary.end_time)
            mirrored.end_time = summary.end_time

    def _log(
        self, mirrored: Mirrored, points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        self._store.log(
            mirrored.id,
            points,
            {name: value for name, value in params.items() if name not in mirrored.params},
            {name: value for name, value in tags.items() if mirrored.tags.get(name) != value},
        )
        mirrored.params, mirrored.tags = params, {**mirrored.tags, **tags}

    def _log_pictures(self, entry: Entry, mlflow_id: str) -> bool:
        """Copy the run's pictures; returns whether one of them is for the grid of many runs."""
        names = []
        for picture in listed(self._folder.work(entry.run_id), "*.png"):
            names.append(picture.stem)
            with local_copy(picture) as file:
                self._store.log_artifact(mlflow_id, str(file), picture.name)
                if picture.stem == IN_GRID and entry.end is not None:
                    # As log_image names them, in which MLflow's own takes 30 ms; it shows no other name in the grid.
                    best = entry.end.best
                    name = f"images/{IN_GRID}+step+{best.step}+timestamp+{best.timestamp}+{mlflow_id}"
                    self._store.log_artifact(mlflow_id, str(file), f"{name}.png")
                    self._store.log_artifact(mlflow_id, str(file), f"{name}+compressed.png")
        return IN_GRID in names

    def _has_run(self, run_id: str, ended_at: datetime) -> bool:
        mirrored = self._runs.get(run_id)
        return mirrored is not None and mirrored.end_time == milliseconds(ended_at)

    def _has_configuration(self, summary: Summary) -> bool:
        mirrored = self._configurations.get(summary.config_id)
        return (
            mirrored is not None
            and (mirrored.name, mirrored.params, mirrored.metrics) == (summary.name, summary.params, summary.metrics)
            and summary.tags.items() <= mirrored.tags.items()
            and summary.end_time in (None, mirrored.end_time)
        )

    def _summaries(self, runs: pa.Table, config_ids: Collection[str]) -> Iterator[Summary]:
        """What the table of configurations has of these."""
        is_own = pc.is_in(runs["config_id"], value_set=pa.array(config_ids, pa.string()))
        own = runs.filter(is_own).select(COLUMNS).to_pandas()
        if len(own):
            times = own.groupby(KEY, sort=True).agg(started=("started_at", "min"), ended=("ended_at", "max"))
            rows: list[dict[str, Any]] = configurations(own).to_dict("records")  # type: ignore[assignment]
            fresh = self._fresh()
            for row, started, ended in zip(rows, times["started"], times["ended"], strict=True):
                yield Summary.of_row(row | fresh.get(row["config_id"], {}), started, ended, self._seeds)

    def _fresh(self) -> dict[str, dict[str, float]]:
        """What fresh seeds say of a configuration, all of them, by config_id; nothing where nothing was confirmed."""
        study = self._folder.root.name
        folder = StudyFolder(self._folder.root.parent, confirmation_of(study))
        if confirmed_study(folder) != study:
            return {}
        try:
            runs = folder.read_table("runs").to_pandas()
        except (OSError, ResultsError):  # of another study, whose launch says so
            return {}
        if runs.empty:
            return {}
        table = configurations(runs)
        whole = table[table["seeds"] == Experiments.of(folder, folder.root.name).seeds].set_index("config_id")
        fresh: dict[str, dict[str, float]] = whole[[*FRESH]].rename(columns=FRESH).to_dict("index")  # type: ignore[assignment]
        return fresh

    def _find_or_create(self, entry: Entry) -> Mirrored:
        mirrored = self._runs.get(entry.run_id)
        if mirrored is not None:
            if mirrored.end_time is None and mirrored.params in ({}, entry.params):
                return mirrored
            self._store.delete_run(mirrored.id)  # of an earlier study of this name, whose folder is gone
        created = self._store.create_run(self._runs_id, entry.start_time, dict(entry.tags), entry.name)
        mirrored = Mirrored(created, entry.name, entry.start_time, None, {}, entry.tags, set())
        self._runs[entry.run_id] = mirrored
        return mirrored

    def _open(self, experiment: Experiment, is_whole: bool) -> tuple[str, dict[str, Mirrored]]:
        """Find the experiment and the runs that it has, by our names, or create it; returns its id too."""
        experiment_id = self._store.open_experiment(experiment.name, experiment.tags)
        found: dict[str, Mirrored] = {}
        for key, mirrored in self._store.runs(experiment_id, experiment.identity, is_whole):
            if key in found:  # created by two processes at once
                self._store.delete_run(mirrored.id)
            else:
                found[key] = mirrored
        return experiment_id, found


def open_store(tracking_uri: str, artifacts: Location) -> Store:
    """Open a tracking server, a PostgreSQL database, or a SQLite database, which is created where there is none.

    MLflow, whose import takes seconds, is not needed for tables of SQLite that are known.

    Args:
        artifacts: the folder of a PostgreSQL database's artifacts.
    """
    if not tracking_uri.startswith("sqlite:"):
        is_postgres = tracking_uri.startswith(SCHEME)
        if is_postgres:
            check_answer(tracking_uri)
        from sweep.tracking.mlflow_client import Client

        return Client(tracking_uri, artifacts if is_postgres else None)
    file = Path(tracking_uri.removeprefix("sqlite:///"))
    database = Database(file)
    if not database.is_known():
        _make_tables(tracking_uri, str(file.parent / ARTIFACTS))
        if not database.is_known():
            from sweep.tracking.mlflow_client import Client

            database.close()
            return Client(tracking_uri)
    database.mend_places()
    return database


def _make_tables(tracking_uri: str, artifacts: str) -> None:
    """Let MLflow create its tables, in a process of its own: here it would take seconds from the start of Ray.

    Raises:
        RuntimeError: it cannot, for the reason that it gives.
    """
    command = [sys.executable, "-m", "sweep.tracking.mlflow_client", tracking_uri, artifacts]
    # A session of its own: Ctrl-C leaves no half of the tables.
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True)
    if done.returncode:
        raise RuntimeError(done.stdout.strip() or f"MLflow's tables were not made: exit code {done.returncode}")


def now() -> int:
    """Return the time in milliseconds since 1970."""
    return round(1000 * time.time())
