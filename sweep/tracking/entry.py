"""What MLflow is to have of a run or a configuration, in MLflow's terms: a name, params, tags and metrics."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sweep.results.schema import COMPLETED, FAILED, STATUSES, RunRow
from wae_core.domains import Text
from wae_core.evaluation.selection import Evaluation
from wae_core.hyperparameters import DECLARED, Hyperparameters
from wae_core.run import Run

NUMBERS = [name for name, declared in DECLARED.items() if not isinstance(declared.domain, Text)]
METRICS = [column.name for column in fields(Evaluation) if column.name != "step"]
# Of a configuration: MLflow's name, and the column of the table of configurations.
CONFIGURATION_METRICS = {
    "fid_mean": "fid_mean",
    "fid_sd": "fid_sd",
    "best_fid": "fid_min",
    "confirmed_mean": "confirmed_mean",
    "fresh_mean": "fresh_mean",  # with seeds that did not pick it, where the study has been confirmed
    "fresh_confirmed_mean": "fresh_confirmed_mean",
}
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
        name: the run_id, and behind it how the run has ended where it has not completed.
        start_time: milliseconds since 1970.
        numbers: its hyperparameters that are numbers: MLflow compares metrics by size, and params as texts.
        evaluations: by step; of a run that has ended all of them, of one that trains the latest.
        end: None while it trains.
    """

    run_id: str
    name: str
    start_time: int
    params: Mapping[str, str]
    numbers: Mapping[str, float]
    tags: Mapping[str, str]
    evaluations: Sequence[Evaluation]
    end: End | None = None

    @property
    def key(self) -> str:
        """The run_id: what tells this from all other runs and configurations."""
        return self.run_id

    @classmethod
    def of_run(cls, run: Run, evaluations: Sequence[Evaluation]) -> Entry:
        """Describe a run that trains by its latest evaluations, of which there is at least one."""
        trained = max(evaluation.train_seconds for evaluation in evaluations)
        start_time = round(1000 * (time.time() - trained))
        tags = _tags(run) | {"status": "running"}
        params, numbers = _params(run, run.hyperparameters), _numbers(run.hyperparameters)
        return cls(run.run_id, run.run_id, start_time, params, numbers, tags, evaluations)

    @classmethod
    def of_row(cls, row: RunRow, evaluations: Sequence[Evaluation]) -> Entry:
        """Describe a run that has ended by its row and all its evaluations."""
        tags = _tags(row) | _texts({name: getattr(row, name) for name in ("status", "status_reason", "best_step")})
        ended = milliseconds(row.ended_at)
        best = Point(row.best_step or 0, ended, _finite({name: getattr(row, name) for name in BEST_METRICS}))
        end = End(ended, "FAILED" if row.status == FAILED else "FINISHED", best)
        return cls(
            row.run_id,
            row.run_id if row.status == COMPLETED else f"{row.run_id} ({row.status})",
            milliseconds(row.started_at),
            _params(row, row),
            _numbers(row),
            tags,
            evaluations,
            end,
        )

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


@dataclass(frozen=True)
class Summary:
    """One configuration, as the runs of it that have ended make it.

    Attributes:
        name: the config_id, and behind it how many of its runs have not completed.
        start_time, end_time: milliseconds since 1970; `end_time` is None while some of its runs have not ended.
        metrics: those of the table of configurations that are finite, and its hyperparameters that are numbers.
    """

    config_id: str
    name: str
    start_time: int
    end_time: int | None
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]

    @property
    def key(self) -> str:
        """The config_id: what tells this from all other runs and configurations."""
        return self.config_id

    @classmethod
    def of_row(cls, row: Mapping[str, Any], started: datetime, ended: datetime, seeds: int | None) -> Summary:
        """Describe a configuration by its row of `sweep.results.judging.configurations`.

        Args:
            row: where the study has been confirmed, with what fresh seeds say.
            started, ended: when the first of its runs began, and the last of those that have ended did.
            seeds: how many runs it will have; None where that is not known.
        """
        row = {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
        counts = {status: int(row[status]) for status in STATUSES}
        not_completed = [f"{count} {name}" for name, count in counts.items() if count and name != COMPLETED]
        to_come = max(0, (seeds or 0) - sum(counts.values()))
        status = [f"{counts[COMPLETED]} completed", *not_completed, *([f"{to_come} to come"] if to_come else [])]
        values = Hyperparameters.pick(row)
        names = ("study", "algorithm", "config_index", "config_id")
        metrics = {ours: row.get(name) for ours, name in CONFIGURATION_METRICS.items()} | counts
        return cls(
            row["config_id"],
            f"{row['config_id']} ({', '.join(not_completed)})" if not_completed else row["config_id"],
            milliseconds(started),
            None if to_come else milliseconds(ended),
            _plain(vars(values) | {"algorithm": row["algorithm"], "config_index": row["config_index"]}),
            _texts({name: row[name] for name in names}) | {"status": ", ".join(status)},
            {name: _rounded(value) for name, value in (_finite(metrics) | _numbers(values)).items()},
        )


def milliseconds(moment: datetime) -> int:
    """Return a time as MLflow counts it: milliseconds since 1970."""
    return round(1000 * moment.timestamp())


def _params(run: Run | RunRow, hyperparameters: Hyperparameters | RunRow) -> dict[str, str]:
    values = {name: getattr(hyperparameters, name) for name in DECLARED}
    return _plain(values | {name: getattr(run, name) for name in ("algorithm", "seed", "config_index")})


def _plain(values: Mapping[str, Any]) -> dict[str, str]:
    # A whole number that was drawn as an int comes back from a float column of Parquet as a float.
    return {name: text.removesuffix(".0") for name, text in _texts(values).items()}


def _numbers(hyperparameters: Hyperparameters | RunRow) -> dict[str, float]:
    return _finite({name: getattr(hyperparameters, name) for name in NUMBERS})


def _rounded(value: float) -> float:
    """What MLflow's table, which rounds nothing, can show in a column: seven digits."""
    return float(f"{value:.7g}")


def _tags(run: Run | RunRow) -> dict[str, str]:
    names = ["run_id", "config_id", "config_index", "seed", "study", "algorithm"]
    return _texts({name: getattr(run, name) for name in names})


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in values.items() if value is not None}


def _finite(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}
