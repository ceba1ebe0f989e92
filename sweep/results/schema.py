"""The columns of the results: one declaration for the run's row, the evaluation's row, and their Parquet schemas."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

import pyarrow as pa

from wae_core.evaluation.selection import Evaluation
from wae_core.hyperparameters import IN_TABLES, Hyperparameters
from wae_core.protocol import Protocol
from wae_core.run import Run

SCHEMA_VERSION = 4  # 3: data_sha256; 4: fid_warning
READABLE = (3, SCHEMA_VERSION)  # versions whose tables are read; a folder is continued in its own alone
ADDED = {"fid_warning": 4}  # column: the version before which tables lack it, and it reads as empty

COMPLETED, DIVERGED, FAILED = "completed", "diverged", "failed"
SEVERAL = " × "  # between a device and how many of them trained a run together
STATUSES = (COMPLETED, DIVERGED, FAILED)


@dataclass(frozen=True)
class _OfRun:
    """Which run it is: the first columns of its row."""

    schema_version: int
    study: str
    algorithm: str
    config_index: int
    config_id: str
    seed: int
    run_id: str


@dataclass(frozen=True)
class _Ended(_OfRun):
    """Which run it is, and how it ended."""

    status: str
    status_reason: str | None


@dataclass(frozen=True, kw_only=True)
class RunRow(Hyperparameters, _Ended):
    """One ended run. A None is a null: a hyperparameter that does not apply, a figure that there is not."""

    steps_planned: int
    steps_done: int
    best_step: int | None
    best_fid: float | None
    confirmed_fid: float | None
    fid_infinity: float | None  # estimate at infinitely many samples
    best_sharpness: float | None
    best_reconstruction_error: float | None
    fid_features: str | None
    fid_reference: str | None
    fid_samples: int
    fid_warning: str | None = None  # why the FIDs mean little: fewer samples or reference images than dimensions
    data_sha256: str  # the identity of the data set, as its manifest has it
    precision: str
    images_seen: int
    train_seconds: float
    eval_seconds: float
    cpu_seconds: float  # CPU time of training and evaluation, all attempts that left a checkpoint
    device: str
    host: str
    attempts: int  # times that a worker took it up: after a death, an exception, or a pause
    pack_size: int
    git_commit: str
    started_at: datetime  # UTC
    ended_at: datetime  # UTC
    checkpoint_path: str | None  # of the best checkpoint, relative to the study's folder

    @property
    def share_done(self) -> float:
        """Of the planned steps; below 1 where the run was stopped early, diverged or failed."""
        return min(1.0, self.steps_done / self.steps_planned)


@dataclass(frozen=True)
class EvaluationRow(Evaluation):
    """One evaluation with the keys of its run."""

    run_id: str
    algorithm: str
    config_index: int
    seed: int


@dataclass(frozen=True)
class RescoreRow(_OfRun):
    """A run's stored model, scored again: by other features, on more samples or against another reference."""

    step: int  # of the model: the run's best_step
    fid: float  # not finite where an image was not
    fid_infinity: float
    fid_features: str
    fid_reference: str
    fid_samples: int
    fid_warning: str | None
    data_sha256: str
    seconds: float  # of the scoring
    device: str
    host: str
    git_commit: str
    scored_at: datetime  # UTC

    @property
    def kind(self) -> str:
        """What was measured, as `kind_of_fid` names it."""
        return kind_of_fid(self.fid_features, self.fid_reference, self.fid_samples)


def kind_of_fid(features: str, reference: str, samples: int) -> str:
    """Name a kind of FID by what the columns say; those of one kind alone can be compared. It may name a file."""
    return f"{features}-{reference.replace('/', '-')}-{samples}"


def device_column(device: str, count: int) -> str:
    """Return what the column `device` says of so many accelerators that trained the run together."""
    return f"{device}{SEVERAL}{count}" if count > 1 else device


def accelerators_of(device: str) -> int:
    """Return how many accelerators the column `device` names."""
    _, several, count = device.partition(SEVERAL)
    return int(count) if several else 1


def columns_of(run: Run) -> dict[str, Any]:
    """Return the first columns of a run's row, which say which run it is."""
    return {
        "schema_version": SCHEMA_VERSION,
        "study": run.study,
        "algorithm": run.algorithm,
        "config_index": run.config_index,
        "config_id": run.config_id,
        "seed": run.seed,
        "run_id": run.run_id,
    }


def row_of(run: Run, steps_done: int, best: Evaluation | None, **measured: Any) -> RunRow:
    """Return the row of a run that has ended.

    Args:
        best: the evaluation of the checkpoint that is kept; None where there is none.
        measured: the columns that follow from neither of these.
    """
    return RunRow(
        **columns_of(run),
        **asdict(run.hyperparameters),
        steps_planned=run.protocol.steps,
        steps_done=steps_done,
        best_step=best.step if best else None,
        best_fid=best.fid if best else None,
        best_sharpness=best.sharpness if best else None,
        best_reconstruction_error=best.reconstruction_error if best else None,
        fid_samples=run.protocol.fid_samples,
        precision=run.protocol.precision,
        images_seen=steps_done * run.hyperparameters.batch_size,
        **measured,
    )


def run_of(row: Mapping[str, Any], study: str, study_seed: int, protocol: Protocol) -> Run:
    """Return the run that a row describes.

    Args:
        row: at least its coordinates (`algorithm`, `config_index`, `seed`) and its hyperparameters by column, as a
            row of `runs` or of the plan has them; None where a hyperparameter does not apply.
        study: the name of the study.
        study_seed: the study's seed, of which all random streams derive.
        protocol: what the study fixes for all its runs.
    """
    return Run(
        study=study,
        study_seed=study_seed,
        algorithm=row["algorithm"],
        config_index=row["config_index"],
        seed=row["seed"],
        hyperparameters=Hyperparameters.pick(row),
        protocol=protocol,
    )


def evaluation_rows(run: Run, evaluations: Sequence[Evaluation]) -> list[EvaluationRow]:
    """Give a run's evaluations their keys."""
    return [
        EvaluationRow(
            **asdict(evaluation),
            run_id=run.run_id,
            algorithm=run.algorithm,
            config_index=run.config_index,
            seed=run.seed,
        )
        for evaluation in evaluations
    ]


def _arrow_type(annotation: Any) -> pa.DataType:
    if isinstance(annotation, types.UnionType):  # "X | None"
        annotation = next(option for option in typing.get_args(annotation) if option is not type(None))
    return {
        int: pa.int64(),
        float: pa.float64(),
        str: pa.string(),
        datetime: pa.timestamp("us", tz="UTC"),
    }[annotation]


def arrow_schema(row: type, order: Sequence[str] = ()) -> pa.Schema:
    """Make the schema of a dataclass's fields; the columns of `order` come first."""
    hints = typing.get_type_hints(row)
    names = [*order, *(field.name for field in fields(row) if field.name not in order)]
    return pa.schema([(name, _arrow_type(hints[name])) for name in names])


RUNS = arrow_schema(RunRow, order=(*(field.name for field in fields(_Ended)), *IN_TABLES))
EVALUATIONS = arrow_schema(EvaluationRow, order=("run_id", "algorithm", "config_index", "seed"))
RESCORES = arrow_schema(RescoreRow)
# Columns that may be null.
OPTIONAL = frozenset(
    name for name, hint in typing.get_type_hints(RunRow).items() if isinstance(hint, types.UnionType)
)
NULLABLE_INTEGERS = tuple(field.name for field in RUNS if field.name in OPTIONAL and field.type == pa.int64())
# A record is a run's whole result in one row: its columns and its evaluations.
RECORD = RUNS.append(pa.field("evaluations", pa.list_(pa.struct(list(EVALUATIONS)))))
