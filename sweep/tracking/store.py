"""The place that mirrored runs are written to, as the mirror sees it: MLflow's database, or its server."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sweep.tracking.entry import Point


@dataclass
class Mirrored:
    """What an MLflow run has. Times are milliseconds since 1970, as everywhere in MLflow.

    Attributes:
        end_time: None while it is running.
        steps: of its evaluations; None if not asked yet.
        metrics: the last value of each that is a number, as far as they were asked for.
    """

    id: str
    name: str
    start_time: int
    end_time: int | None
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    steps: set[int] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


class Store(Protocol):
    """Where MLflow keeps experiments and runs. Every method may raise what MLflow, HTTP or SQLite raise."""

    def is_current(self) -> bool:
        """Say whether it is still what was opened: SQLite would write on into a deleted file."""

    def close(self) -> None:
        """Close the connections."""

    def open_experiment(self, name: str, tags: Mapping[str, str]) -> str:
        """Return the id of the experiment, which is created with these tags, or restored, where it is not there."""

    def delete_experiment(self, name: str, tag: str) -> None:
        """Delete an experiment, as MLflow does, which can restore it, if it is there and has this tag."""

    def runs(self, experiment_id: str, identity: str, is_whole: bool) -> Iterator[tuple[str, Mirrored]]:
        """Read the runs that are not deleted, the last begun first, each behind its tag `identity`.

        Args:
            is_whole: whether metrics are wanted, and params and tags of runs that have ended too.
        """

    def steps(self, run_id: str) -> set[int]:
        """Return the steps of the run's evaluations."""

    def create_run(self, experiment_id: str, start_time: int, tags: Mapping[str, str], name: str) -> str:
        """Create a run and return its id."""

    def delete_run(self, run_id: str) -> None:
        """Delete a run, as MLflow does, which can restore it."""

    def log(self, run_id: str, points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Add to a run; a param is new, a tag may be there."""

    def drop_metrics(self, run_id: str, names: Collection[str]) -> None:
        """Take metrics away: the pages show no number of them any more."""

    def log_artifact(self, run_id: str, local_path: str, name: str) -> None:
        """Copy a file to the run's artifacts, under a name that may have folders, in the place of what has it."""

    def rename(self, run_id: str, name: str) -> None:
        """Give a run another name."""

    def set_terminated(self, run_id: str, status: str, end_time: int) -> None:
        """End a run.

        Args:
            status: MLflow's, FINISHED or FAILED.
            end_time: milliseconds since 1970.
        """
