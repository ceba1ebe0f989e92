"""MLflow's own way to a server, to PostgreSQL, or to SQLite of an unknown revision; no other file imports MLflow."""

from __future__ import annotations

import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

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

from sweep.tracking.entry import Point
from sweep.tracking.store import Mirrored
from wae_core.storage.files import Location, location
from wae_core.storage.objects import ObjectPath


def make_tables(tracking_uri: str, artifacts: str) -> None:
    """Let MLflow create its tables in a database of `sqlite:///`, if they are not there.

    Raises:
        MlflowException: they are of another version.
    """
    SqlAlchemyStore(tracking_uri, artifacts).engine.dispose()  # type: ignore[no-untyped-call]


class Client:
    """A `Store` that is asked through MLflow's client."""

    def __init__(self, tracking_uri: str, artifacts: Location | None = None) -> None:
        """Connect.

        Args:
            artifacts: the folder for those of new experiments; None where a server knows its own.

        Raises:
            Exception: MLflow's, if there is no answer.
        """
        self._artifacts = artifacts
        self._client = MlflowClient(tracking_uri)
        self._client.search_experiments(max_results=1)

    def is_current(self) -> bool:
        """Say yes: a server that has gone raises."""
        return True

    def close(self) -> None:
        """Do nothing: connections last as long as a request."""

    def open_experiment(self, name: str, tags: Mapping[str, str]) -> str:
        """Return the id of the experiment, which is created with these tags, or restored, where it is not there."""
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return str(self._client.create_experiment(name, self._place_of(name), dict(tags)))
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def delete_experiment(self, name: str, tag: str) -> None:
        """Delete an experiment if it is there and has this tag."""
        found = self._client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "active" and tag in found.tags:
            self._client.delete_experiment(found.experiment_id)

    def runs(self, experiment_id: str, identity: str, is_whole: bool) -> Iterator[tuple[str, Mirrored]]:
        """Read the runs that are not deleted; a page holds all there is of each, whatever `is_whole` says."""
        found = {}
        token: str | None = None
        while token != "":
            page = self._client.search_runs([experiment_id], page_token=token)
            found.update({run.info.run_id: run for run in page})
            token = page.token or ""
        for run_id, run in found.items():
            if identity in run.data.tags:
                info, data = run.info, run.data
                metrics = {name: value for name, value in data.metrics.items() if not math.isnan(value)}
                yield (
                    data.tags[identity],
                    Mirrored(
                        run_id, info.run_name, info.start_time, info.end_time, data.params, data.tags, None, metrics
                    ),
                )

    def steps(self, run_id: str) -> set[int]:
        """Return the steps of the run's evaluations."""
        return {metric.step for metric in self._client.get_metric_history(run_id, "train_seconds")}

    def create_run(self, experiment_id: str, start_time: int, tags: Mapping[str, str], name: str) -> str:
        """Create a run and return its id."""
        created = self._client.create_run(experiment_id, start_time, dict(tags), name)
        return str(created.info.run_id)

    def delete_run(self, run_id: str) -> None:
        """Delete a run, as MLflow does, which can restore it."""
        self._client.delete_run(run_id)

    def log(self, run_id: str, points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Add to a run; a param is new, a tag may be there."""
        self._client.log_batch(
            run_id,
            [
                Metric(name, value, point.timestamp, point.step)
                for point in points
                for name, value in point.metrics.items()
            ],
            [Param(key, value) for key, value in params.items()],
            [RunTag(key, value) for key, value in tags.items()],
        )

    def drop_metrics(self, run_id: str, names: Collection[str]) -> None:
        """Log "not a number", since a server forgets nothing."""
        self._client.log_batch(run_id, [Metric(name, math.nan, round(1000 * time.time()), 0) for name in names])

    def log_artifact(self, run_id: str, local_path: str, name: str) -> None:
        """Copy a file to the run's artifacts, under a name that may have folders."""
        if self._artifacts is not None:
            place = location(self._client.get_run(run_id).info.artifact_uri)
            if isinstance(place, ObjectPath):  # as results are written; MLflow would need each store's own package
                (place / name).put(Path(local_path).read_bytes())
                return
        path = PurePosixPath(name)
        folder = None if path.parent == PurePosixPath() else str(path.parent)
        with tempfile.TemporaryDirectory() as temporary:  # the client takes the file's own name
            self._client.log_artifact(run_id, shutil.copy(local_path, Path(temporary) / path.name), folder)

    def rename(self, run_id: str, name: str) -> None:
        """Give a run another name."""
        self._client.update_run(run_id, name=name)

    def set_terminated(self, run_id: str, status: str, end_time: int) -> None:
        """End a run, with MLflow's status and in milliseconds since 1970."""
        self._client.set_terminated(run_id, status, end_time)

    def _place_of(self, experiment: str) -> str | None:
        if self._artifacts is None:
            return None
        place = self._artifacts / experiment.replace("/", "-")
        return place.absolute().as_uri() if isinstance(place, Path) else str(place)


def experiments(tracking_uri: str) -> list[tuple[str, str, list[str]]]:
    """Ask for the name, the id and the tags' keys of each experiment.

    Raises:
        Exception: MLflow's, if there is no answer.
    """
    found = MlflowClient(tracking_uri).search_experiments()
    return [(experiment.name, experiment.experiment_id, [*experiment.tags]) for experiment in found]


if __name__ == "__main__":
    try:
        make_tables(*sys.argv[1:])
    except Exception as error:  # whatever MLflow raises
        print(error)
        sys.exit(1)
