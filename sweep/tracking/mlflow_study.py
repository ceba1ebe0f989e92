"""One study in MLflow: an experiment per algorithm, an MLflow run per run. The only file that imports MLflow."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

# Read by MLflow when it is imported; a value that the user has set stays.
os.environ.update(
    {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # what it logs as an error, it raises too
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the mirror tries again
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds
    }
    | dict(os.environ)
)

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from sweep.results.folder import StudyFolder
from sweep.results.layout import rows_of
from sweep.results.schema import RunRow
from sweep.tracking.entry import HYPERPARAMETERS, METRICS, Entry, Point, milliseconds
from sweep.tracking.mlflow_sqlite import ARTIFACTS, OUR_TAG, Database
from wae_core.evaluation.selection import Evaluation
from wae_core.storage.files import listed, local_copy

# What MLflow's pages show of an experiment's runs, best run first; by themselves they show no metric.
COLUMNS = ["tags.`status`", "metrics.`fid`", "metrics.`best_fid`", "metrics.`confirmed_fid`"]
COLUMNS += [f"params.`{name}`" for name in HYPERPARAMETERS]
VIEW = {"orderByKey": "metrics.`best_fid`", "orderByAsc": True, "selectedColumns": COLUMNS}
EXPERIMENT_TAGS = {OUR_TAG: json.dumps(VIEW)}


@dataclass
class _Mirrored:
    """What a run's MLflow run has. Times are milliseconds since 1970, as everywhere in MLflow."""

    id: str
    start_time: int
    end_time: int | None  # None while it is running
    params: Mapping[str, str]
    tags: Mapping[str, str]
    steps: set[int] | None  # of its evaluations; None if not asked yet


@dataclass(frozen=True)
class _Experiment:
    id: str
    runs: dict[str, _Mirrored]  # by our run_id


class MlflowStudy:
    """The study's experiments. Every method may raise what MLflow raises; the next try needs a new MlflowStudy."""

    def __init__(self, tracking_uri: str, folder: StudyFolder, study: str) -> None:
        """Open a tracking server, or a SQLite database (`sqlite:///…`), which is created where there is none.

        Artifacts go to the server, or to `mlartifacts` beside the database.
        """
        self._database: Database | None = None
        if tracking_uri.startswith("sqlite:"):
            file = Path(tracking_uri.removeprefix("sqlite:///"))
            self._database = Database(file)
            self._engine = SqlAlchemyStore(tracking_uri, str(file.parent / ARTIFACTS)).engine  # type: ignore[no-untyped-call]
            self._database.mend_places()
        self._client = MlflowClient(tracking_uri)
        self._client.search_experiments(max_results=1)  # raises if the server cannot be reached
        self._writer: Database | MlflowClient = self._client
        if self._database is not None and self._database.is_known():
            self._writer = self._database
        self._folder, self._study = folder, study
        self._experiments: dict[str, _Experiment] = {}

    def is_current(self) -> bool:
        """Say whether the database is still the file that was opened: SQLite would write on into a deleted one."""
        return self._database is None or self._database.is_current()

    def close(self) -> None:
        """Close the connections to the database."""
        if self._database is not None:
            self._database.close()
            self._engine.dispose()

    def missing(self, run_ids: Collection[str]) -> list[Entry]:
        """Return what the study's tables have of these runs where MLflow lacks any of it.

        Raises:
            ResultsError: a file of the results is damaged, or of another version.
        """
        records = self._folder.read_records()
        runs = rows_of(self._folder.read_table("runs", records), run_ids)
        columns = (runs[name].to_pylist() for name in ("run_id", "algorithm", "ended_at"))
        lacking = [run_id for run_id, *ended in zip(*columns, strict=True) if not self._has(run_id, *ended)]
        if not lacking:
            return []
        rows = {row["run_id"]: RunRow(**row) for row in rows_of(runs, lacking).to_pylist()}
        evaluations: dict[str, list[Evaluation]] = {run_id: [] for run_id in rows}
        for row in rows_of(self._folder.read_table("evaluations", records), rows).to_pylist():
            evaluation = Evaluation(**{name: row[name] for name in ("step", *METRICS)})
            evaluations[row["run_id"]].append(evaluation)
        return [Entry.of_row(row, evaluations[run_id]) for run_id, row in rows.items()]

    def write(self, entry: Entry) -> None:
        """Write what MLflow lacks of an entry, and end its run if it has ended; to write it again changes nothing."""
        mirrored = self._find_or_create(entry)
        if mirrored.steps is None:
            history = self._client.get_metric_history(mirrored.id, "train_seconds")
            mirrored.steps = {metric.step for metric in history}
        points = {point.step: point for point in entry.points(mirrored.start_time)}
        new = [point for step, point in points.items() if step not in mirrored.steps]
        end = entry.end
        self._writer.log_batch(
            mirrored.id,
            [metric for point in [*new, *([end.best] if end else [])] for metric in _metrics(point)],
            [Param(key, value) for key, value in entry.params.items() if key not in mirrored.params],
            [RunTag(key, value) for key, value in entry.tags.items() if mirrored.tags.get(key) != value],
        )
        mirrored.params, mirrored.tags = entry.params, entry.tags
        mirrored.steps.update(points)
        if end is not None:
            for picture in listed(self._folder.work(entry.run_id), "*.png"):
                with local_copy(picture) as file:
                    self._writer.log_artifact(mirrored.id, str(file))
            # Last of all: an MLflow run that has ended is taken to be whole.
            self._writer.set_terminated(mirrored.id, end.status, end.time)
            mirrored.end_time = end.time

    def _has(self, run_id: str, algorithm: str, ended_at: datetime) -> bool:
        mirrored = self._experiment(algorithm).runs.get(run_id)
        return mirrored is not None and mirrored.end_time == milliseconds(ended_at)

    def _find_or_create(self, entry: Entry) -> _Mirrored:
        experiment = self._experiment(entry.algorithm)
        mirrored = experiment.runs.get(entry.run_id)
        if mirrored is not None:
            if mirrored.end_time is None and mirrored.params in ({}, entry.params):
                return mirrored
            self._client.delete_run(mirrored.id)  # of an earlier study of this name, whose folder is gone
        created = self._writer.create_run(experiment.id, entry.start_time, dict(entry.tags), entry.run_id)
        mlflow_id = created if isinstance(created, str) else created.info.run_id
        experiment.runs[entry.run_id] = _Mirrored(mlflow_id, entry.start_time, None, {}, entry.tags, set())
        return experiment.runs[entry.run_id]

    def _experiment(self, algorithm: str) -> _Experiment:
        if algorithm not in self._experiments:
            self._experiments[algorithm] = self._open_experiment(algorithm)
        return self._experiments[algorithm]

    def _open_experiment(self, algorithm: str) -> _Experiment:
        """Find the experiment and the runs that it has, or create it."""
        name = f"{self._study}/{algorithm}"
        found = self._client.get_experiment_by_name(name)
        if found is None:
            location = None if self._database is None else self._database.place_of(name)  # a server has its own
            return _Experiment(self._client.create_experiment(name, location, EXPERIMENT_TAGS), {})
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        runs: dict[str, _Mirrored] = {}
        for mlflow_id, start_time, end_time, params, tags in self._runs(found.experiment_id):
            run_id = tags.get("run_id")
            if run_id in runs:  # created by two processes at once
                self._client.delete_run(mlflow_id)
            elif run_id is not None:
                runs[run_id] = _Mirrored(mlflow_id, start_time, end_time, params, tags, None)
        return _Experiment(found.experiment_id, runs)

    def _runs(self, experiment_id: str) -> list[tuple[str, int, int | None, dict[str, str], dict[str, str]]]:
        """The MLflow runs of an experiment: (id, start, end, params, tags)."""
        if isinstance(self._writer, Database):  # MLflow's own search takes 20 s for 10,000 runs
            return list(self._writer.runs(experiment_id))
        found = {}
        token: str | None = None
        while token != "":
            page = self._client.search_runs([experiment_id], page_token=token)
            found.update({run.info.run_id: run for run in page})
            token = page.token or ""
        return [
            (mlflow_id, run.info.start_time, run.info.end_time, run.data.params, run.data.tags)
            for mlflow_id, run in found.items()
        ]


def _metrics(point: Point) -> list[Metric]:
    return [Metric(name, value, point.timestamp, point.step) for name, value in point.metrics.items()]
