"""A SQLite database of MLflow, written directly: MLflow's own store takes some 20 times the CPU."""

from __future__ import annotations

import shutil
import sqlite3
import time
import uuid
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from sweep.tracking.entry import Point
from sweep.tracking.store import Mirrored

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
    SELECT run_uuid, tags.value, name, start_time, end_time FROM runs JOIN tags USING (run_uuid)
    WHERE experiment_id = ? AND lifecycle_stage = 'active' AND tags.key = ?
    ORDER BY start_time DESC, run_uuid
"""
INSERT_EXPERIMENT = """
    INSERT INTO experiments (name, artifact_location, lifecycle_stage, creation_time, last_update_time)
    VALUES (?, ?, 'active', ?, ?)
"""
RESTORE_EXPERIMENT = (
    "UPDATE experiments SET lifecycle_stage = 'active' WHERE experiment_id = ?",
    "UPDATE runs SET lifecycle_stage = 'active', deleted_time = NULL WHERE experiment_id = ?",
)
DELETE_EXPERIMENT = """
    UPDATE experiments SET lifecycle_stage = 'deleted'
    WHERE name = ? AND experiment_id IN (SELECT experiment_id FROM experiment_tags WHERE key = ?)
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
    """A `Store` in the tables that `mlflow.store.tracking` has made, at the revision that is written here.

    The methods do what MLflow's do, and raise where a run is not there, or is deleted.
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
        """Say whether the tables are there, and of the revision that is known here; another is MLflow's to write."""
        versions = "SELECT name FROM sqlite_master WHERE name = 'alembic_version'"
        if not self._connection.execute(versions).fetchall():
            return False
        return self._connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(REVISION,)]

    def open_experiment(self, name: str, tags: Mapping[str, str]) -> str:
        """Return the id of the experiment, which is created with these tags, or restored, where it is not there."""
        select = "SELECT experiment_id, lifecycle_stage FROM experiments WHERE name = ?"
        found = self._connection.execute(select, [name]).fetchone()
        with self._connection as connection:
            if found is None:
                now = round(1000 * time.time())
                cursor = connection.execute(INSERT_EXPERIMENT, [name, self.place_of(name), now, now])
                insert = "INSERT INTO experiment_tags (experiment_id, key, value) VALUES (?, ?, ?)"
                connection.executemany(insert, [(cursor.lastrowid, *tag) for tag in tags.items()])
                return str(cursor.lastrowid)
            if found[1] == "deleted":
                for update in RESTORE_EXPERIMENT:
                    connection.execute(update, [found[0]])
        return str(found[0])

    def delete_experiment(self, name: str, tag: str) -> None:
        """Delete an experiment, as MLflow does, which can restore it, if it is there and has this tag."""
        with self._connection as connection:
            connection.execute(DELETE_EXPERIMENT, [name, tag])

    def runs(self, experiment_id: str, identity: str, is_whole: bool) -> Iterator[tuple[str, Mirrored]]:
        """Read the runs that are not deleted, the last begun first, each behind its tag `identity`.

        Args:
            is_whole: whether metrics are wanted, and params and tags of runs that have ended too.
        """
        which = "" if is_whole else "AND end_time IS NULL"
        params, tags = (self._values(table, which, experiment_id) for table in ("params", "tags"))
        metrics = self._values("latest_metrics", "AND NOT is_nan", experiment_id) if is_whole else {}
        for run_id, key, name, *times in self._connection.execute(SELECT_RUNS, [int(experiment_id), identity]):
            has = [values.get(run_id, {}) for values in (params, tags, metrics)]
            yield key, Mirrored(run_id, name, times[0], times[1], has[0], has[1], None, has[2])

    def steps(self, run_id: str) -> set[int]:
        """Return the steps of the run's evaluations."""
        select = "SELECT step FROM metrics WHERE run_uuid = ? AND key = 'train_seconds'"
        return {step for (step,) in self._connection.execute(select, [run_id])}

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

    def delete_run(self, run_id: str) -> None:
        """Delete a run, as MLflow does, which can restore it."""
        update = "UPDATE runs SET lifecycle_stage = 'deleted', deleted_time = ? WHERE run_uuid = ?"
        with self._connection as connection:
            connection.execute(update, [round(1000 * time.time()), run_id])

    def log(self, run_id: str, points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Add to a run, all of it or nothing; metric values are finite, a param is new, a tag may be there."""
        metrics = [
            (run_id, name, value, point.timestamp, point.step)
            for point in points
            for name, value in point.metrics.items()
        ]
        insert = "INSERT INTO params (run_uuid, key, value) VALUES (?, ?, ?)"
        with self._connection as connection:
            connection.executemany(INSERT_METRIC, metrics)
            connection.executemany(UPDATE_LATEST_METRIC, metrics)
            connection.executemany(insert, [(run_id, key, value) for key, value in params.items()])
            self._set_tags(run_id, tags)

    def drop_metrics(self, run_id: str, names: Collection[str]) -> None:
        """Take metrics away, with all their history."""
        with self._connection as connection:
            for table in ("metrics", "latest_metrics"):
                delete = f"DELETE FROM {table} WHERE run_uuid = ? AND key = ?"
                connection.executemany(delete, [(run_id, name) for name in names])

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

    def log_artifact(self, run_id: str, local_path: str, name: str) -> None:
        """Copy a file to the run's artifacts, under a name that may have folders, in the place of what has it.

        Raises:
            ValueError: the run's artifacts lie elsewhere than beside the database.
        """
        uri = self._connection.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", [run_id]).fetchone()[0]
        parts = urlsplit(uri)
        folder = Path(url2pathname(parts.path))
        if parts.scheme != "file" or not folder.resolve().is_relative_to(self._artifacts.resolve()):
            raise ValueError(f"MLflow's run {run_id} has its artifacts at {uri}, and not in {self._artifacts}")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(local_path, folder / name)

    def rename(self, run_id: str, name: str) -> None:
        """Give a run another name."""
        with self._connection as connection:
            connection.execute("UPDATE runs SET name = ? WHERE run_uuid = ?", [name, run_id])
            self._set_tags(run_id, {"mlflow.runName": name})

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

    def _values(self, table: str, which: str, experiment_id: str) -> dict[str, dict[str, Any]]:
        """The key-value pairs of an experiment's runs, by run."""
        by_run: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        select = (
            f"SELECT run_uuid, key, value FROM {table} JOIN runs USING (run_uuid) WHERE experiment_id = ? {which}"
        )
        for run_id, key, value in self._connection.execute(select, [int(experiment_id)]):
            by_run[run_id][key] = value
        return by_run

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino


def _check(cursor: sqlite3.Cursor, what: str) -> None:
    if cursor.rowcount != 1:
        raise LookupError(f"MLflow's {what} is not there, or is deleted")
