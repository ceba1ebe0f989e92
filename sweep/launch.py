"""One launch, from settings to a summary: claim the folder, plan, train what is missing, keep the tables current."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from sweep.errors import SettingsError, without_credentials
from sweep.reports.cost import CostModel
from sweep.reports.dry_run import print_plan
from sweep.reports.status import print_status
from sweep.results import study_file
from sweep.results.attempt_log import note_dropped_rows
from sweep.results.compaction import clean_up
from sweep.results.folder import StudyFolder
from sweep.results.lock import results_lock
from sweep.results.plan_file import extend_plan, planned_runs
from sweep.results.schema import FAILED, RunRow
from sweep.results.tables import Tables
from sweep.search.asha import rungs
from sweep.search.plan import check_trainable, draw_configuration, plan_runs
from sweep.search.schedule import Schedule, standings
from sweep.settings.settings import Settings
from sweep.tracking.mirror import Mirror, default_uri
from sweep.training import SECONDS_FOR_MIRROR, Sweep
from wae_core.data.images import image_shape
from wae_core.run import Run
from wae_core.storage.files import probe

if TYPE_CHECKING:
    from sweep.search.optuna_search import OptunaSearch

STAND_IN = (
    "'digits' is a laptop-sized stand-in for the paper's study; "
    "that one: make sweep STUDY=bigwae ARGS=dry_run=true prints its plan"
)


def launch(settings: Settings, console: Console) -> None:
    """Do what is missing of the budget; a launch after a crash, or with a larger budget, goes on.

    Raises:
        SettingsError: the launch cannot be made; nothing was written.
        ResultsError: the plan or a table of the results folder is damaged, or of another version.
    """
    study = settings.study
    # Where configurations are proposed later, random draws stand for what they cost.
    drawn = [run for algorithm in settings.algorithms for run in plan_runs(study, algorithm, settings.budget)]
    is_stand_in = study.protocol.dataset == "digits"
    if is_stand_in:
        console.print(STAND_IN)
    _announce(settings, console)
    cost = _cost_model(settings, drawn)
    if study.optuna is not None:
        from sweep.search.optuna_search import make_sampler  # a second: only who asks for it pays for that

        make_sampler(study.optuna.sampler, study.seed, settings.algorithms[0], 0)
    if settings.dry_run:
        _learn_from_folder(cost, settings)
        print_plan(settings, drawn, cost, console)
        if study.optuna is not None:
            console.print("Optuna will propose others; these are random draws, for what they would cost")
        if study.asha is not None:
            console.print("what asha saves on them goes into more configurations, for the same steps in all")
        return
    check_trainable(settings)
    folder = _open(settings)
    with results_lock(folder.root / "lock") as check:
        shape = image_shape(study.protocol.dataset, settings.data)
        for difference in study_file.claim(folder, study, settings.failures, shape):
            console.print(f"the search space is wider than this folder's was: {difference}")
        is_planned_ahead = study.optuna is None and study.asha is None
        extend_plan(folder, drawn if is_planned_ahead else [])
        tables = Tables(folder)
        clean_up(folder, tables, tables.run_ids(), settings.keep_best)
        if settings.retry_failed:
            failed = [row.run_id for row in tables.rows() if row.status == FAILED]
            console.print(f"failed runs that are tried again: {tables.drop_failed()}")
            note_dropped_rows(folder, failed)
        ended = tables.rows()
        planned = [] if is_planned_ahead else planned_runs(folder, study)
        search = _open_search(settings, folder, planned, ended)
        schedule = None if is_planned_ahead else _open_schedule(settings, folder, planned, ended, search)
        done = tables.run_ids()
        missing = [run for run in (drawn if schedule is None else schedule.runs) if run.run_id not in done]
        problems: list[str] = []
        mirror = Mirror(settings.tracking or default_uri(folder.root.parent), folder, study.name, problems.append)
        mirror.start()
        mirror.catch_up()
        try:
            if missing or (schedule is not None and schedule.has_more):
                console.print(f"starting Ray and the workers; results go to {folder.root}")
                for row in ended:
                    cost.learn(row)
                sweep = Sweep(settings, folder, tables, mirror, cost, console, check, search, schedule)
                sweep.train(drawn, missing, ended)
            else:
                console.print("every run of this budget has its row: nothing to train")
        finally:
            behind = mirror.close(SECONDS_FOR_MIRROR)
    for problem in [*tables.problems, *problems, *([behind] if behind else [])]:
        console.print(problem, style="yellow")
    print_status(folder, console)
    _say_what_next(settings, folder, console)
    if is_stand_in:
        console.print(STAND_IN)


def _announce(settings: Settings, console: Console) -> None:
    study, budget = settings.study, settings.budget
    configurations = budget // study.seeds
    models = configurations * study.seeds
    console.print(
        f"study {study.name}: {', '.join(settings.algorithms)}; "
        f"{configurations} configuration{'s' * (configurations > 1)} × {study.seeds} seeds = {models} models each, "
        f"{study.protocol.steps:,} steps and {len(study.protocol.evaluation_steps)} evaluations"
    )
    if study.asha is not None:
        decisions = ", ".join(map(str, rungs(study.protocol.evaluation_steps, study.asha)))
        console.print(
            f"asha (η = {study.asha:g}) decides at step {decisions or '– (there is one evaluation)'}; "
            "the steps it saves go into more configurations"
        )
    if models < budget:
        console.print(f"BUDGET={budget} is never exceeded; BUDGET={models + study.seeds} would complete one more")


def _cost_model(settings: Settings, runs: Sequence[Run]) -> CostModel:
    """The cost of the runs, at the cluster's assumed rate.

    Raises:
        SettingsError: the networks of a run cannot be built, or the shape of the images is not known.
    """
    study = settings.study
    try:
        cost = CostModel(study, image_shape(study.protocol.dataset, settings.data), settings.cluster)
        for run in runs:
            cost.flops(run)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    return cost


def _learn_from_folder(cost: CostModel, settings: Settings) -> None:
    """Take in the ended runs of the results folder, if it is this very study's; nothing is written."""
    folder = StudyFolder(settings.results.absolute(), settings.study.name)
    if folder.study_file.exists():
        with contextlib.suppress(SettingsError):  # another version's
            study_file.widening(folder, settings.study)
            for row in folder.read_table("runs").to_pylist():
                cost.learn(RunRow(**row))


def _open(settings: Settings) -> StudyFolder:
    folder = StudyFolder(settings.results.absolute(), settings.study.name)
    try:
        folder.records.mkdir(parents=True, exist_ok=True)
        probe(folder.root, count=0)
    except OSError as error:
        reason = error.strerror or error
        raise SettingsError(f"results folder {settings.results} cannot be written: {reason}") from error
    return folder


def _open_search(
    settings: Settings, folder: StudyFolder, planned: Sequence[Run], ended: Sequence[RunRow]
) -> OptunaSearch | None:
    """The search that proposes configurations; None where they are drawn.

    Raises:
        SettingsError: Optuna's storage cannot be used.
    """
    study = settings.study
    if study.optuna is None:
        return None
    from sweep.search.optuna_search import OptunaSearch

    storage = settings.optuna_storage or folder.root / "optuna.journal"
    assert isinstance(storage, Path)  # for results in an object store it is given
    return OptunaSearch(study, settings.algorithms, storage, planned, ended)


def _open_schedule(
    settings: Settings,
    folder: StudyFolder,
    planned: Sequence[Run],
    ended: Sequence[RunRow],
    search: OptunaSearch | None,
) -> Schedule:
    """What decides, while the sweep runs, what is trained next."""
    study = settings.study
    return Schedule(
        study,
        settings.algorithms,
        settings.budget,
        partial(draw_configuration, study) if search is None else search.propose,
        planned,
        standings(folder, ended),
    )


def _say_what_next(settings: Settings, folder: StudyFolder, console: Console) -> None:
    results = "" if str(settings.results) == "results" else f" RESULTS={settings.results}"
    results += f" TRACKING={without_credentials(settings.tracking)}" if settings.tracking else ""
    study = settings.study
    algorithm = "" if len(settings.algorithms) > 1 else f" ALG={settings.algorithms[0]}"
    search = ("" if study.optuna is None else " SEARCH=optuna") + ("" if study.asha is None else " SCHEDULER=asha")
    larger = 10 * study.seeds if settings.budget < 10 * study.seeds else 2 * settings.budget
    console.print("What next:", style="bold")
    console.print(f"  make ui{results}                        browse every run in MLflow", highlight=False)
    console.print(
        f"  make sweep{algorithm} BUDGET={larger}{search}{results}          continue with more", highlight=False
    )
    console.print(
        f"  python -c \"import pandas as pd; print(pd.read_parquet('{folder.root / 'runs'}'))\"",
        highlight=False,
    )
