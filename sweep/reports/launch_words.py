"""What a launch says before it begins and when it is done: the budget, and what a person can do next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from rich.console import Console

from sweep.errors import without_credentials
from sweep.results.folder import StudyFolder
from sweep.settings.settings import Settings

STAND_IN = (
    "'digits' is a laptop-sized stand-in for the paper's study; "
    "that one: make sweep STUDY=bigwae ARGS=dry_run=true prints its plan"
)


def announce(settings: Settings, rungs: Sequence[int], console: Console) -> None:
    """Say what the budget is, and what is done with it; `rungs` are the steps at which ASHA decides."""
    study, budget = settings.study, settings.budget
    configurations = budget // study.seeds
    models = configurations * study.seeds
    console.print(
        f"study {study.name}: {', '.join(settings.algorithms)}; "
        f"{configurations} configuration{'s' * (configurations > 1)} × {study.seeds} seeds = {models} models each, "
        f"{study.protocol.steps:,} steps and {len(study.protocol.evaluation_steps)} evaluations"
    )
    if study.asha is not None:
        decisions = ", ".join(map(str, rungs))
        console.print(
            f"asha (η = {study.asha:g}) decides at step {decisions or '– (there is one evaluation)'}; "
            "the steps it saves go into more configurations"
        )
    if models < budget:
        console.print(f"BUDGET={budget} is never exceeded; BUDGET={models + study.seeds} would complete one more")


def say_stand_in(settings: Settings, console: Console) -> None:
    """Say what the embedded study is, where it is the one."""
    if settings.study.protocol.dataset == "digits":
        console.print(STAND_IN)


def say_what_next(settings: Settings, folder: StudyFolder, console: Console) -> None:
    """Print the commands that a person may want after a sweep."""
    place = "" if str(settings.results) == "results" else f" RESULTS={shlex.quote(str(settings.results))}"
    results = place + (f" TRACKING={without_credentials(settings.tracking)}" if settings.tracking else "")
    study = settings.study
    algorithm = "" if len(settings.algorithms) > 1 else f" ALG={settings.algorithms[0]}"
    search = ("" if study.optuna is None else " SEARCH=optuna") + ("" if study.asha is None else " SCHEDULER=asha")
    larger = 10 * study.seeds if settings.budget < 10 * study.seeds else 2 * settings.budget
    console.print("What next:", style="bold")
    console.print(
        f"  make report STUDY={study.name}{place}         what it has found, and how sure that is", highlight=False
    )
    console.print(f"  make ui{results}                        browse every run in MLflow", highlight=False)
    console.print(
        f"  make sweep{algorithm} BUDGET={larger}{search}{results}          continue with more", highlight=False
    )
    if settings.confirm is None and (best := min(10, settings.budget // study.seeds // 3)):
        console.print(
            f"  make sweep{algorithm} BUDGET={settings.budget} CONFIRM={best}{search}{results}          "
            "train the best ones again, with fresh seeds",
            highlight=False,
        )
    console.print(
        f"  python -c \"import pandas as pd; print(pd.read_parquet('{folder.root / 'runs'}'))\"",
        highlight=False,
    )
