"""One study in MLflow: an experiment per algorithm, an MLflow run per run. The only file that imports MLflow."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
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

import pyarrow as pa
import pyarrow.compute as pc
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from sweep.results.folder import StudyFolder
from sweep.results.schema import FAILED, RunRow
from sweep.tracking.mlflow_sqlite import Database
from wae_core.evaluation.selection import Evaluation
from wae_core.hyperparameters import DECLARED
from wae_core.run import Run
from wae_core.storage.files import local_copy

HYPERPARAMETERS = list(DECLARED)
FIGURES = [column.name for column in fields(Evaluation) if column.name != "step"]
BEST_FIGURES = ["best_fid", "confirmed_fid", "fid_infinity", "best_sharpness", "best_reconstruction_error"]
# What MLflow's pages show of an experiment's runs, best run first; by themselves they show no figure.
COLUMNS = ["tags.`status`", "metrics.`fid`", "metrics.`best_fid`", "metrics.`confirmed_fid`"]
COLUMNS += [f"params.`{name}`" for name in HYPERPARAMETERS]
VIEW = {"orderByKey": "metrics.`best_fid`", "orderByAsc": True, "selectedColumns": COLUMNS}
EXPERIMENT_TAGS = {"mlflow.sharedViewState.best_fid": json.dumps(VIEW)}


@dataclass
class _Mirrored:
    """What a run's MLflow run has. Times are milliseconds since 1970, as everywhere in MLflow."""

    id: str
    start_time: int
    end_time: int | None  # None while it is running
    params: dict[str, str]
    tags: dict[str, str]
    steps: set[int] | None  # of its evaluations; None if not asked yet


@dataclass(frozen=True)
class _Experiment:
    id: str
    runs: dict[str, _Mirrored]  # by our run_id


class MlflowStudy:
    """The study's experiments. Every method may raise what MLflow raises; the next try needs a new MlflowStudy."""

    def __init__(self, tracking_uri: str, folder: StudyFolder, study: str) -> None:
        """Open a tracking server, or a SQLite database, which is created where there is none.

        Artifacts go to the server, or to `mlartifacts` beside the database.
        """
        self._database: Database | None = None
        self._artifact_root: Path | None = None  # a server has its own
        if tracking_uri.startswith("sqlite:"):
            file = Path(tracking_uri.removeprefix("sqlite:///"))
            self._database = Database(file)
            self._artifact_root = file.parent / "mlartifacts"
            self._engine = SqlAlchemyStore(tracking_uri, str(self._artifact_root)).engine  # type: ignore[no-untyped-call]
        self._client = MlflowClient(tracking_uri)
        self._client.search_experiments(max_results=1)  # raises if the server cannot be reached
        self._writer: Database | MlflowClient = self._client
        if self._database is not None and self._database.is_known():
            self._writer = self._database
        self._folder, self._study = folder, study
        self._experiments: dict[str, _Experiment] = {}

    def is_current(self) -> bool:
        """Whether the database is still the file that was opened: SQLite itself would write on into a deleted one."""
        return self._database is None or self._database.is_current()

    def close(self) -> None:
        """Close the connections to the database."""
        if self._database is not None:
            self._database.close()
            self._engine.dispose()

    def missing(self, run_ids: Collection[str]) -> list[tuple[RunRow, list[Evaluation]]]:
        """What the study's tables have of these runs, row and evaluations, where MLflow lacks any of it."""
        records = self._folder.read_records()
        runs = _only(self._folder.read_table("runs", records), run_ids)
        columns = (runs[name].to_pylist() for name in ("run_id", "algorithm", "ended_at"))
        lacking = [run_id for run_id, *ended in zip(*columns, strict=True) if not self._has(run_id, *ended)]
        if not lacking:
            return []
        rows = {row["run_id"]: RunRow(**row) for row in _only(runs, lacking).to_pylist()}
        evaluations: dict[str, list[Evaluation]] = {run_id: [] for run_id in rows}
        for figures in _only(self._folder.read_table("evaluations", records), rows).to_pylist():
            evaluation = Evaluation(**{name: figures[name] for name in ("step", *FIGURES)})
            evaluations[figures["run_id"]].append(evaluation)
        return [(row, evaluations[run_id]) for run_id, row in rows.items()]

    def write(self, run: Run | RunRow, evaluations: Sequence[Evaluation]) -> None:
        """Write what MLflow lacks of a run and these evaluations; a RunRow that is `missing` ends it as well."""
        mirrored = self._find_or_create(run, evaluations)
        if mirrored.steps is None:
            history = self._client.get_metric_history(mirrored.id, "train_seconds")
            mirrored.steps = {metric.step for metric in history}
        new = {evaluation.step: evaluation for evaluation in evaluations if evaluation.step not in mirrored.steps}
        metrics = []
        for evaluation in new.values():
            timestamp = mirrored.start_time + round(1000 * evaluation.train_seconds)
            metrics += _metrics(evaluation, FIGURES, timestamp, evaluation.step)
        if isinstance(run, RunRow):
            metrics += _metrics(run, BEST_FIGURES, _milliseconds(run.ended_at), run.best_step or 0)
        params, tags = _params(run), _tags(run)
        self._writer.log_batch(
            mirrored.id,
            metrics,
            [Param(key, value) for key, value in params.items() if key not in mirrored.params],
            [RunTag(key, value) for key, value in tags.items() if mirrored.tags.get(key) != value],
        )
        mirrored.params, mirrored.tags = params, tags
        mirrored.steps.update(new)
        if isinstance(run, RunRow):
            for picture in self._folder.work(run.run_id).glob("*.png"):
                with local_copy(picture) as file:
                    self._writer.log_artifact(mirrored.id, str(file))
            # Last of all: an MLflow run that has ended is taken to be whole.
            status = "FAILED" if run.status == FAILED else "FINISHED"
            self._writer.set_terminated(mirrored.id, status, _milliseconds(run.ended_at))
            mirrored.end_time = _milliseconds(run.ended_at)

    def _has(self, run_id: str, algorithm: str, ended_at: datetime) -> bool:
        mirrored = self._experiment(algorithm).runs.get(run_id)
        return mirrored is not None and mirrored.end_time == _milliseconds(ended_at)

    def _find_or_create(self, run: Run | RunRow, evaluations: Sequence[Evaluation]) -> _Mirrored:
        experiment = self._experiment(run.algorithm)
        mirrored = experiment.runs.get(run.run_id)
        if mirrored is not None:
            if mirrored.end_time is None and mirrored.params in ({}, _params(run)):
                return mirrored
            self._client.delete_run(mirrored.id)  # of an earlier study of this name, whose folder is gone
        start_time, tags = _start_time(run, evaluations), _tags(run)
        created = self._writer.create_run(experiment.id, start_time, tags, run.run_id)
        mlflow_id = created if isinstance(created, str) else created.info.run_id
        experiment.runs[run.run_id] = _Mirrored(mlflow_id, start_time, None, {}, tags, set())
        return experiment.runs[run.run_id]

    def _experiment(self, algorithm: str) -> _Experiment:
        if algorithm not in self._experiments:
            self._experiments[algorithm] = self._open_experiment(algorithm)
        return self._experiments[algorithm]

    def _open_experiment(self, algorithm: str) -> _Experiment:
        """Find the experiment and the runs that it has, or create it."""
        name = f"{self._study}/{algorithm}"
        found = self._client.get_experiment_by_name(name)
        if found is None:
            root = self._artifact_root
            location = None if root is None else (root / f"{self._study}-{algorithm}").as_uri()
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


def _only(table: pa.Table, run_ids: Collection[str]) -> pa.Table:
    return table.filter(pc.is_in(table["run_id"], value_set=pa.array(run_ids, pa.string())))


def _milliseconds(moment: datetime) -> int:
    return round(1000 * moment.timestamp())


def _start_time(run: Run | RunRow, evaluations: Sequence[Evaluation]) -> int:
    if isinstance(run, RunRow):
        return _milliseconds(run.started_at)
    trained = max(evaluation.train_seconds for evaluation in evaluations)
    return round(1000 * (time.time() - trained))


def _params(run: Run | RunRow) -> dict[str, str]:
    hyperparameters = run.hyperparameters if isinstance(run, Run) else run
    values = {name: getattr(hyperparameters, name) for name in HYPERPARAMETERS}
    values |= {"seed": run.seed, "config_index": run.config_index}
    # A whole number that was drawn as an int comes back from a float column of Parquet as a float.
    return {name: str(value).removesuffix(".0") for name, value in values.items() if value is not None}


def _tags(run: Run | RunRow) -> dict[str, str]:
    names = ["run_id", "config_id", "config_index", "seed", "study", "algorithm"]
    values = {name: getattr(run, name) for name in names} | {"status": "running"}
    if isinstance(run, RunRow):
        values |= {name: getattr(run, name) for name in ("status", "status_reason", "best_step")}
    return {name: str(value) for name, value in values.items() if value is not None}


def _metrics(figures: Evaluation | RunRow, names: Sequence[str], timestamp: int, step: int) -> list[Metric]:
    """The finite figures: MLflow stores an infinity as 1.8e308 and hides a metric whose last value is NaN."""
    values = {name: getattr(figures, name) for name in names}
    return [
        Metric(name, value, timestamp, step)
        for name, value in values.items()
        if value is not None and math.isfinite(value)
    ]
