"""A SQLite database of MLflow, written directly: MLflow's own store takes some 20 times the CPU."""

from __future__ import annotations

import shutil
import sqlite3
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

REVISION = "dc11669786a5"  # of the tables in MLflow 3.17, as its migrations name it
ARTIFACTS = "mlartifacts"  # the folder beside the file
OUR_TAG = "mlflow.sharedViewState.best_fid"  # of an experiment: a view of its runs, which MLflow's pages show
SECONDS_FOR_LOCK = 60.0  # another process, a rebuild say, may be writing
INSERT_RUN = """
    INSERT INTO runs (run_uuid, name, artifact_uri, experiment_id, start_time, status, lifecycle_stage, user_id,
                      source_type, source_name, source_version, entry_point_name)
    SELECT :id, :name, artifact_location || '/' || :id || '/artifacts', experiment_id, :start_time, 'RUNNING',
           'active', 'unknown', 'UNKNOWN', '', '', ''
    FROM experiments WHERE experiment_id = :experiment_id AND lifecycle_stage = 'active'
"""
SELECT_RUNS = """
    SELECT run_uuid, start_time, end_time FROM runs
    WHERE experiment_id = ? AND lifecycle_stage = 'active'
    ORDER BY start_time DESC, run_uuid
"""
INSERT_METRIC = """
    INSERT OR IGNORE INTO metrics (run_uuid, key, value, timestamp, step, is_nan)
    VALUES (?, ?, ?, ?, ?, FALSE)
"""
UPDATE_LATEST_METRIC = """
    INSERT INTO latest_metrics (run_uuid, key, value, timestamp, step, is_nan)
    VALUES (?, ?, ?, ?, ?, FALSE)
    ON CONFLICT (key, run_uuid)
    DO UPDATE SET value = excluded.value, timestamp = excluded.timestamp, step = excluded.step
    WHERE (excluded.step, excluded.timestamp, excluded.value) > (step, timestamp, value)
"""
UPDATE_PLACES = (
    "UPDATE experiments SET artifact_location = :place WHERE experiment_id = :id AND artifact_location <> :place",
    """
    UPDATE runs SET artifact_uri = :place || '/' || run_uuid || '/artifacts'
    WHERE experiment_id = :id AND artifact_uri <> :place || '/' || run_uuid || '/artifacts'
    """,
)


class Database:
    """The tables that `mlflow.store.tracking` has made, at the revision that is written here.

    The methods are those of MlflowClient, and raise as it does where a run is not there, or is deleted.
    """

    def __init__(self, path: Path) -> None:
        """Open the file; the tables are not needed before the first write."""
        self._path = path
        self._artifacts = path.absolute().parent / ARTIFACTS
        path.parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, timeout=SECONDS_FOR_LOCK)
        # The write-ahead log stays switched on in the file: commits are cheaper, and readers never wait.
        self._connection.execute("PRAGMA journal_mode = WAL")
        # Commits do not wait for the disk: a power cut may cost the mirror its last seconds, never its consistency.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._file = self._identity()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def is_current(self) -> bool:
        """Say whether this is still the file that was opened: SQLite itself would write on into a deleted one."""
        return self._identity() == self._file

    def is_known(self) -> bool:
        """Say whether the tables are of the revision that is known here; another one is MLflow's to write."""
        return self._connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(REVISION,)]

    def runs(self, experiment_id: str) -> Iterator[tuple[str, int, int | None, dict[str, str], dict[str, str]]]:
        """Read the experiment's runs that are not deleted, the last begun first: (id, start, end, params, tags)."""
        values: dict[str, defaultdict[str, dict[str, str]]] = {"params": defaultdict(dict), "tags": defaultdict(dict)}
        for table, by_run in values.items():
            select = f"SELECT run_uuid, key, value FROM {table} JOIN runs USING (run_uuid) WHERE experiment_id = ?"
            for mlflow_id, key, value in self._connection.execute(select, [int(experiment_id)]):
                by_run[mlflow_id][key] = value
        for mlflow_id, start_time, end_time in self._connection.execute(SELECT_RUNS, [int(experiment_id)]):
            yield mlflow_id, start_time, end_time, values["params"][mlflow_id], values["tags"][mlflow_id]

    def create_run(self, experiment_id: str, start_time: int, tags: Mapping[str, str], run_name: str) -> str:
        """Create an MLflow run and return its id.

        Args:
            start_time: milliseconds since 1970.

        Raises:
            LookupError: the experiment is not there, or is deleted.
        """
        mlflow_id = uuid.uuid4().hex
        values = {"id": mlflow_id, "name": run_name, "start_time": start_time, "experiment_id": int(experiment_id)}
        with self._connection as connection:
            _check(connection.execute(INSERT_RUN, values), f"experiment {experiment_id}")
            self._set_tags(mlflow_id, {**tags, "mlflow.runName": run_name})
        return mlflow_id

    def log_batch(self, run_id: str, metrics: Sequence[Any], params: Sequence[Any], tags: Sequence[Any]) -> None:
        """Add MLflow's Metric, Param and RunTag objects to a run; metric values are finite."""
        points = [(run_id, metric.key, metric.value, metric.timestamp, metric.step) for metric in metrics]
        with self._connection as connection:
            connection.executemany(INSERT_METRIC, points)
            connection.executemany(UPDATE_LATEST_METRIC, points)
            connection.executemany(
                "INSERT INTO params (run_uuid, key, value) VALUES (?, ?, ?)",
                [(run_id, param.key, param.value) for param in params],
            )
            self._set_tags(run_id, {tag.key: tag.value for tag in tags})

    def mend_places(self) -> None:
        """Let the artifacts of our experiments, and of all their runs, lie beside the file, where `place_of` says.

        MLflow stores absolute places, so a results folder that was moved or copied has those of its old one.
        """
        ours = "SELECT experiment_id, name FROM experiments JOIN experiment_tags USING (experiment_id) WHERE key = ?"
        with self._connection as connection:
            for experiment_id, name in connection.execute(ours, [OUR_TAG]).fetchall():
                values = {"id": experiment_id, "place": self.place_of(name)}
                for update in UPDATE_PLACES:
                    connection.execute(update, values)

    def place_of(self, experiment: str) -> str:
        """Return the URI of the folder in which the artifacts of an experiment of this name lie."""
        return (self._artifacts / experiment.replace("/", "-")).as_uri()

    def log_artifact(self, run_id: str, local_path: str) -> None:
        """Copy a file to the run's artifacts, in the place of one of the same name.

        Raises:
            ValueError: the run's artifacts lie elsewhere than beside the database.
        """
        uri = self._connection.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", [run_id]).fetchone()[0]
        parts = urlsplit(uri)
        folder = Path(url2pathname(parts.path))
        if parts.scheme != "file" or not folder.resolve().is_relative_to(self._artifacts.resolve()):
            raise ValueError(f"MLflow's run {run_id} has its artifacts at {uri}, and not in {self._artifacts}")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(local_path, folder)

    def set_terminated(self, run_id: str, status: str, end_time: int) -> None:
        """End a run.

        Args:
            status: MLflow's, FINISHED or FAILED.
            end_time: milliseconds since 1970.

        Raises:
            LookupError: the run is not there, or is deleted.
        """
        update = "UPDATE runs SET status = ?, end_time = ? WHERE run_uuid = ? AND lifecycle_stage = 'active'"
        with self._connection as connection:
            _check(connection.execute(update, [status, end_time, run_id]), f"run {run_id}")

    def _set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        self._connection.executemany(
            "INSERT OR REPLACE INTO tags (run_uuid, key, value) VALUES (?, ?, ?)",
            [(run_id, key, value) for key, value in tags.items()],
        )

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino


def _check(cursor: sqlite3.Cursor, what: str) -> None:
    if cursor.rowcount != 1:
        raise LookupError(f"MLflow's {what} is not there, or is deleted")
