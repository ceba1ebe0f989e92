"""The ledger: what each algorithm has spent, in rows that count and in work that was done again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from datetime import timedelta
from typing import Any

import pandas as pd
import yaml
from rich.console import Console
from rich.table import Table

from sweep.results.attempt_log import read_attempts
from sweep.results.folder import StudyFolder
from sweep.results.plan_file import read_plan
from wae_core.flops import show_flops, step_flops, work_flops
from wae_core.run import ALGORITHMS, Hyperparameters, Protocol, Run

WORK = ("runs", "steps", "images", "flops", "train_seconds", "eval_seconds")
WASTE = ("wasted_steps", "wasted_images", "wasted_flops", "wasted_seconds")


def ledger_frame(folder: StudyFolder) -> pd.DataFrame:
    """One row per algorithm that has begun: configurations, WORK, attempts and WASTE.

    WORK sums the rows of the runs that have ended, whatever their status. WASTE is what attempts did and no row
    counts, since it was done again (after a checkpoint was lost, by a worker that was thought dead, by a failed run
    that is tried again): a lower bound, for an attempt's work after its last checkpoint is known to nobody.
    `attempts` counts all that began. FLOPs are not a number where study.yaml does not give the protocol.
    """
    rows = folder.read_table("runs").to_pandas()
    evaluations = folder.read_table("evaluations").to_pandas()["run_id"].value_counts()
    flops_of = _counter(folder)

    def flops_of_row(row: Any) -> float:
        return flops_of(row, lambda run, shape: _row_flops(run, shape, row, int(evaluations.get(row.run_id, 0))))

    rows = rows.assign(
        runs=1,
        steps=rows["steps_done"],
        images=rows["images_seen"],
        flops=[float(flops_of_row(row)) for row in rows.itertuples()],  # their sum may exceed 64 bits
    )
    waste = _waste(folder, flops_of)
    ledger = []
    for algorithm in ALGORITHMS:
        own, lost = rows[rows["algorithm"] == algorithm], waste[waste["algorithm"] == algorithm]
        if len(own) or len(lost):
            ledger.append(
                {
                    "algorithm": algorithm,
                    "configurations": own["config_index"].nunique(),
                    **{name: own[name].sum(skipna=False) for name in WORK},
                    "attempts": lost["attempts"].sum(),
                    **{name: lost[name].sum(skipna=False) for name in WASTE},
                }
            )
    return pd.DataFrame(ledger, columns=["algorithm", "configurations", *WORK, "attempts", *WASTE])


def print_ledger(folder: StudyFolder, console: Console) -> None:
    """Print the ledger as a table, if any run has begun."""
    frame = ledger_frame(folder)
    if frame.empty:
        return
    table = Table(title="ledger: what each algorithm has spent", title_justify="left")
    for name in ("algorithm", "configurations", "runs", "steps", "images", "FLOPs", "training", "evaluation"):
        table.add_column(name, justify="left" if name == "algorithm" else "right")
    table.add_column("attempts", justify="right")
    table.add_column("done again, at least", justify="right")
    for row in frame.to_dict("records"):
        waste = f"{row['wasted_steps']:,} steps, {_flops(row['wasted_flops'])}, {_time(row['wasted_seconds'])}"
        table.add_row(
            row["algorithm"],
            *(f"{row[name]:,}" for name in ("configurations", "runs", "steps", "images")),
            _flops(row["flops"]),
            _time(row["train_seconds"]),
            _time(row["eval_seconds"]),
            f"{row['attempts']:,}",
            waste if row["wasted_steps"] else "nothing",
        )
    console.print(table)


def _waste(folder: StudyFolder, flops_of: Callable[..., float]) -> pd.DataFrame:
    """One row per run that was begun: how often, and WASTE.

    The attempts at a run overlap where one went back to an earlier checkpoint than another had left; what the
    farthest one reached counts once.
    """
    attempts = read_attempts(folder).to_pandas()
    plan = read_plan(folder).to_pandas() if folder.plan_file.exists() else pd.DataFrame(columns=["run_id"])
    planned: dict[str, Any] = {str(row.run_id): row for row in plan.itertuples()}
    waste = []
    for run_id, own in attempts[attempts["run_id"].isin(planned)].groupby("run_id"):
        row, counting = planned[str(run_id)], own[~own["row_dropped"]]
        steps, seconds = (
            (own[f"to_{unit}"] - own[f"from_{unit}"]).sum() - (counting[f"to_{unit}"].max() if len(counting) else 0)
            for unit in ("step", "seconds")
        )
        steps = max(0, int(steps))
        waste.append(
            {
                "algorithm": row.algorithm,
                "attempts": len(own),
                "wasted_steps": steps,
                "wasted_images": steps * int(row.batch_size),
                "wasted_flops": steps * float(flops_of(row, step_flops)),
                "wasted_seconds": max(0.0, seconds) if steps else 0.0,
            }
        )
    return pd.DataFrame(waste, columns=["algorithm", "attempts", *WASTE])


def _row_flops(run: Run, image_shape: Any, row: Any, evaluations: int) -> int:
    """Of a row's work; one that came to no checkpoint did what nobody knows."""
    if not row.steps_done:
        return 0
    return work_flops(run, image_shape, row.steps_done, evaluations, confirmations=not pd.isna(row.confirmed_fid))


def _counter(folder: StudyFolder) -> Callable[[Any, Callable[[Run, Any], float]], float]:
    """flops_of(row of runs or plan, count): `count` of the row's run and the shape of its images."""
    try:
        document = yaml.safe_load(folder.study_file.read_bytes())
        shape = tuple(document["image_shape"])
        protocol = Protocol(**{key: _tupled(value) for key, value in document["protocol"].items()})
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
        return lambda row, count: float("nan")

    def flops_of(row: Any, count: Callable[[Run, Any], float]) -> float:
        values = {field.name: getattr(row, field.name) for field in fields(Hyperparameters)}
        present: dict[str, Any] = {name: None if pd.isna(value) else value for name, value in values.items()}
        hyperparameters = Hyperparameters(**present)
        try:
            return count(Run("", 0, row.algorithm, row.config_index, row.seed, hyperparameters, protocol), shape)
        except ValueError:  # a feature network whose package this machine lacks
            return float("nan")

    return flops_of


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list) else value


def _flops(flops: float) -> str:
    return "–" if pd.isna(flops) else show_flops(flops)


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))
