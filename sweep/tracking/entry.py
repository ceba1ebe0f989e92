"""What MLflow is to have of a run, in MLflow's terms: of one that trains, or of the row of one that has ended."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sweep.results.schema import FAILED, RunRow
from wae_core.evaluation.selection import Evaluation
from wae_core.run import Hyperparameters, Run

HYPERPARAMETERS = [column.name for column in fields(Hyperparameters)]
METRICS = [column.name for column in fields(Evaluation) if column.name != "step"]
BEST_METRICS = ["best_fid", "confirmed_fid", "fid_infinity", "best_sharpness", "best_reconstruction_error"]


@dataclass(frozen=True)
class Point:
    """Metrics of one moment, all of them finite: MLflow stores an infinity as 1.8e308, and hides a metric at a NaN.

    Attributes:
        step: the training step.
        timestamp: milliseconds since 1970, as are all times here.
        metrics: value by name.
    """

    step: int
    timestamp: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class End:
    """How a run has ended.

    Attributes:
        time: milliseconds since 1970.
        status: MLflow's, FINISHED or FAILED.
        best: the figures of its best checkpoint.
    """

    time: int
    status: str
    best: Point


@dataclass(frozen=True)
class Entry:
    """One run, with the evaluations that are to be written.

    Attributes:
        start_time: milliseconds since 1970.
        evaluations: by step; of a run that has ended all of them, of one that trains the latest.
        end: None while it trains.
    """

    run_id: str
    algorithm: str
    start_time: int
    params: Mapping[str, str]
    tags: Mapping[str, str]
    evaluations: Sequence[Evaluation]
    end: End | None = None

    @classmethod
    def of_run(cls, run: Run, evaluations: Sequence[Evaluation]) -> Entry:
        """Describe a run that trains by its latest evaluations, of which there is at least one."""
        trained = max(evaluation.train_seconds for evaluation in evaluations)
        start_time = round(1000 * (time.time() - trained))
        tags = _tags(run) | {"status": "running"}
        return cls(run.run_id, run.algorithm, start_time, _params(run, run.hyperparameters), tags, evaluations)

    @classmethod
    def of_row(cls, row: RunRow, evaluations: Sequence[Evaluation]) -> Entry:
        """Describe a run that has ended by its row and all its evaluations."""
        tags = _tags(row) | _texts({name: getattr(row, name) for name in ("status", "status_reason", "best_step")})
        ended = milliseconds(row.ended_at)
        best = Point(row.best_step or 0, ended, _finite({name: getattr(row, name) for name in BEST_METRICS}))
        end = End(ended, "FAILED" if row.status == FAILED else "FINISHED", best)
        start_time = milliseconds(row.started_at)
        return cls(row.run_id, row.algorithm, start_time, _params(row, row), tags, evaluations, end)

    def points(self, start_time: int) -> list[Point]:
        """Return the metrics of the evaluations, timed by the seconds of training since `start_time`."""
        return [
            Point(
                evaluation.step,
                start_time + round(1000 * evaluation.train_seconds),
                _finite({name: getattr(evaluation, name) for name in METRICS}),
            )
            for evaluation in self.evaluations
        ]


def milliseconds(moment: datetime) -> int:
    """Return a time as MLflow counts it: milliseconds since 1970."""
    return round(1000 * moment.timestamp())


def _params(run: Run | RunRow, hyperparameters: Hyperparameters | RunRow) -> dict[str, str]:
    values = {name: getattr(hyperparameters, name) for name in HYPERPARAMETERS}
    texts = _texts(values | {"seed": run.seed, "config_index": run.config_index})
    # A whole number that was drawn as an int comes back from a float column of Parquet as a float.
    return {name: text.removesuffix(".0") for name, text in texts.items()}


def _tags(run: Run | RunRow) -> dict[str, str]:
    names = ["run_id", "config_id", "config_index", "seed", "study", "algorithm"]
    return _texts({name: getattr(run, name) for name in names})


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


def _finite(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
