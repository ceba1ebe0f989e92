"""The ledger: what each algorithm has spent, in rows that count and in work that was done again."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any

import pandas as pd
import yaml
from rich.console import Console
from rich.table import Table

from sweep.results.folder import STUDY_FILE_ERRORS, StudyFolder
from sweep.results.plan_file import read_plan
from sweep.results.schema import run_of
from sweep.results.work.attempt_log import read_attempts
from wae_core.data.manifest import checked_shape
from wae_core.flops import Shape, show_flops, step_flops, work_flops
from wae_core.run import ALGORITHMS, Protocol, Run
from wae_core.storage.files import read

WORK = ("runs", "steps", "images", "flops", "train_seconds", "eval_seconds")
WASTE = ("wasted_steps", "wasted_images", "wasted_flops", "wasted_seconds")


def ledger_frame(folder: StudyFolder) -> pd.DataFrame:
    """Return one row per algorithm that has begun: configurations, WORK, attempts and WASTE.

    WORK sums the rows of the runs that have ended, whatever their status. WASTE is what attempts did and no row
    counts, since it was done again (after a checkpoint was lost, by a worker that was thought dead, by a failed run
    that is tried again): a lower bound, for an attempt's work after its last checkpoint is known to nobody.
    `attempts` counts all that began. FLOPs are not a number where study.yaml does not give the protocol.

    Raises:
        ResultsError: a file of the folder is damaged, or of another version.
    """
    flops = _FlopsCounter(folder)
    records = folder.read_records()
    table = folder.read_table("runs", records)
    evaluations = Counter(folder.read_table("evaluations", records)["run_id"].to_pylist())
    rows = table.to_pandas()
    rows = rows.assign(
        runs=1,
        steps=rows["steps_done"],
        images=rows["images_seen"],
        # Floats: their sum may exceed 64 bits.
        flops=[float(flops.spent(row, evaluations[row["run_id"]])) for row in table.to_pylist()],
    )
    waste = _waste(folder, flops)
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
    """Print the ledger as a table, if any run has begun.

    Raises:
        ResultsError: a file of the folder is damaged, or of another version.
    """
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


class _FlopsCounter:
    """The FLOPs of a study's runs, from their rows; not a number where they cannot be counted."""

    def __init__(self, folder: StudyFolder) -> None:
        """Read from study.yaml, if it is there and says so, what the study fixes for its runs."""
        self._run: Callable[[Mapping[str, Any]], Run] | None = None
        try:
            document = yaml.safe_load(read(folder.study_file))
            self._image_shape: Shape = checked_shape(document["image_shape"])
            protocol = Protocol.from_plain(document["protocol"])
            name, seed = document["study"], document["seed"]
        except STUDY_FILE_ERRORS:
            return
        self._run = partial(run_of, study=name, study_seed=seed, protocol=protocol)

    def spent(self, row: Mapping[str, Any], evaluations: int) -> float:
        """Count what a row of `runs` has spent: nothing where it came to no checkpoint, for want of knowledge."""
        steps, confirmations = row["steps_done"], int(pd.notna(row["confirmed_fid"]))
        return self._count(
            row, lambda run, shape: work_flops(run, shape, steps, evaluations, confirmations) if steps else 0
        )

    def of_a_step(self, row: Mapping[str, Any]) -> float:
        """Count one training step of the run of a row of `runs` or of the plan."""
        return self._count(row, step_flops)

    def _count(self, row: Mapping[str, Any], count: Callable[[Run, Shape], float]) -> float:
        if self._run is None:
            return math.nan
        try:
            return count(self._run(row), self._image_shape)
        except ValueError:  # a feature network whose package this machine lacks
            return math.nan


def _waste(folder: StudyFolder, flops: _FlopsCounter) -> pd.DataFrame:
    """One row per run that was begun: how often, and WASTE.

    The attempts at a run overlap where one went back to an earlier checkpoint than another had left; what the
    farthest one reached counts once.
    """
    attempts = read_attempts(folder).to_pandas()
    plan = read_plan(folder).to_pylist() if folder.plan_file.exists() else []
    planned = {row["run_id"]: row for row in plan}
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
                "algorithm": row["algorithm"],
                "attempts": len(own),
                "wasted_steps": steps,
                "wasted_images": steps * row["batch_size"],
                "wasted_flops": steps * float(flops.of_a_step(row)),
                "wasted_seconds": max(0.0, seconds) if steps else 0.0,
            }
        )
    return pd.DataFrame(waste, columns=["algorithm", "attempts", *WASTE])


def _flops(flops: float) -> str:
    return "–" if pd.isna(flops) else show_flops(flops)


def _time(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))
