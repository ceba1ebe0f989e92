"""`dry_run=true`: the plan of a budget and what it costs, per algorithm; nothing is written and no data is needed."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from sweep.errors import SettingsError
from sweep.reports.cost import CostModel
from sweep.results import study_file
from sweep.results.folder import StudyFolder
from sweep.results.plan_file import plan_table
from sweep.results.schema import RunRow
from sweep.settings.settings import Settings
from wae_core.flops import show_flops
from wae_core.run import Run

HOURS_A_YEAR = 8766


def print_dry_run(settings: Settings, drawn: Sequence[Run], cost: CostModel, console: Console) -> None:
    """Print the plan of a budget; where configurations are proposed later, random draws stand for what they cost."""
    _learn_from_folder(cost, settings)
    print_plan(settings, drawn, cost, console)
    if settings.study.optuna is not None:
        console.print("Optuna will propose others; these are random draws, for what they would cost")
    if settings.study.asha is not None:
        console.print("what asha saves on them goes into more configurations, for the same steps in all")


def print_confirmation(settings: Settings, drawn: Sequence[Run], cost: CostModel, console: Console) -> None:
    """Print what the confirmation of a study takes: the first draws stand for the configurations that are picked."""
    count = settings.budget // settings.study.seeds
    firsts = {run.config_id: run for run in drawn if run.config_index < count}
    runs = [run for run in firsts.values() for _ in settings.study.seed_numbers]
    _print_total(settings, runs, cost, console)
    console.print(f"which {count} these are is decided when the study is done; its first draws stand for their cost")


def print_plan(settings: Settings, runs: Sequence[Run], cost: CostModel, console: Console) -> None:
    """Print every configuration, then models, steps, images, FLOPs and device-hours of each algorithm.

    Raises:
        ValueError: the networks of a run cannot be built.
    """
    plan = plan_table(runs).to_pandas().drop_duplicates("config_id")
    console.print(plan.drop(columns=["run_id", "seed", "config_index"]).to_string(index=False, na_rep="–"))
    console.print()
    _print_total(settings, runs, cost, console)


def _print_total(settings: Settings, runs: Sequence[Run], cost: CostModel, console: Console) -> None:
    steps = settings.study.protocol.steps
    rows = []
    for algorithm in settings.algorithms:
        mine = [run for run in runs if run.algorithm == algorithm]
        images = steps * sum(run.hyperparameters.batch_size for run in mine)
        hours = sum(cost.seconds(run) for run in mine) * settings.cluster.accelerators_per_run / 3600
        rows.append((algorithm, len(mine), steps * len(mine), images, sum(cost.flops(run) for run in mine), hours))
    console.print(_table(rows))
    console.print(_about_the_hours(settings, cost, sum(row[-1] for row in rows)))


def _learn_from_folder(cost: CostModel, settings: Settings) -> None:
    """Take in the ended runs of the results folder, if it is this very study's; nothing is written."""
    folder = StudyFolder(settings.results.absolute(), settings.study.name)
    if folder.study_file.exists():
        with contextlib.suppress(SettingsError):  # another version's
            study_file.widening(folder, settings.study)
            cost.learn_all(RunRow(**row) for row in folder.read_table("runs").to_pylist())


def _table(rows: Sequence[tuple[str, int, int, int, int, float]]) -> Table:
    total_hours = sum(row[-1] for row in rows)
    if len(rows) > 1:
        _, *counts = zip(*rows, strict=True)
        rows = [*rows, ("together", *(sum(column) for column in counts))]
    table = Table(title="what this budget takes", title_justify="left")
    for name in ("algorithm", "models", "steps", "images", "FLOPs", "device-hours", "share"):
        table.add_column(name, justify="left" if name == "algorithm" else "right")
    for algorithm, models, steps, images, flops, hours in rows:
        table.add_row(
            algorithm,
            *(f"{count:,}" for count in (models, steps, images)),
            show_flops(flops),
            f"{hours:,.0f}" if hours >= 1000 else f"{hours:#.4g}",
            f"{hours / total_hours:.1%}",
        )
    return table


def _about_the_hours(settings: Settings, cost: CostModel, hours: float) -> str:
    cluster = settings.cluster
    if cost.measured_runs:
        devices = ", ".join(cost.devices)
        return f"device-hours by what runs of this study took on {devices}: {cost.measured_runs:,} completed"
    sentence = (
        f"device-hours at an assumed {cluster.teraflops:g} TFLOP/s per device ({cluster.device}); better once runs "
        "have completed, or by what you know of your device: cluster.teraflops=…"
    )
    if cluster.device == "cpu" and hours > HOURS_A_YEAR:
        sentence += f'\n{hours / HOURS_A_YEAR:,.0f} core-years: see ARGS="dry_run=true cluster=gpu" for accelerators'
    return sentence
