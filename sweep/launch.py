"""One launch, from settings to a summary: claim the folder, find what is missing, train it, say what came out."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from sweep.events import Search
from sweep.reports.cost import CostModel, cost_model
from sweep.reports.dry_run import print_confirmation, print_dry_run
from sweep.reports.launch_words import announce, say_stand_in, say_what_next
from sweep.reports.progress_display import ProgressDisplay
from sweep.reports.status import print_status
from sweep.results.opening import OpenStudy, open_study
from sweep.results.schema import FAILED
from sweep.running.executor import describe
from sweep.running.packs import Packer
from sweep.running.preflight import check_trainable
from sweep.running.staging.driver import fetch_missing
from sweep.running.training import train
from sweep.search.asha import rungs_of
from sweep.search.confirmation import confirming, pick
from sweep.search.opening import check_sampler, open_search
from sweep.search.plan import plan_runs
from sweep.settings.settings import Settings
from sweep.tracking.mirror import mirroring
from sweep.tracking.postgres import check_driver
from wae_core.run import Run


def launch(settings: Settings, console: Console) -> int:
    """Do what is missing of the budget, then of its confirmation, where one is asked for.

    A launch after a crash, or with a larger budget, goes on. Returns how many of the runs have failed.

    Raises:
        SettingsError: the launch cannot be made; nothing was written.
        ResultsError: the plan or a table of the results folder is damaged, or of another version.
        OSError: the storage is unavailable, or the results lock was lost.
    """
    # Where configurations are proposed later, random draws stand for what they cost.
    drawn = [run for name in settings.algorithms for run in plan_runs(settings.study, name, settings.budget)]
    say_stand_in(settings, console)
    if not settings.dry_run:
        settings = fetch_missing(settings, settings.study.protocol, None, console.print)
    announce(settings, rungs_of(settings.study), console)
    cost = cost_model(settings, drawn)
    check_sampler(settings)
    check_driver(settings.tracking)
    confirmation = confirming(settings)
    if settings.dry_run:
        print_dry_run(settings, drawn, cost, console)
        if confirmation is not None:
            announce(confirmation, [], console)
            print_confirmation(confirmation, drawn, cost, console)
        return 0
    check_trainable(settings)
    study, search = _train_missing(settings, drawn, cost, console)
    print_status(study.folder, console)
    failed = _failed(study, search)
    if confirmation is not None:
        announce(confirmation, [], console)
        again = pick(settings.study, confirmation, search.runs, study.rows(), console)
        confirmed, fresh = _train_missing(confirmation, again, cost_model(confirmation, again), console)
        print_status(confirmed.folder, console)
        failed += _failed(confirmed, fresh)
    say_what_next(settings, study.folder, console)
    return failed


def _failed(study: OpenStudy, search: Search) -> int:
    """How many of the search's runs have failed, now or earlier."""
    failed = {row.run_id for row in study.rows() if row.status == FAILED}
    return sum(run.run_id in failed for run in search.runs)


def _train_missing(
    settings: Settings, drawn: Sequence[Run], cost: CostModel, console: Console
) -> tuple[OpenStudy, Search]:
    """Train what a study's folder lacks of the budget."""
    with open_study(settings, drawn, console) as study:
        ended, packer = study.rows(), Packer(cost.seconds)

        def plan(runs: Sequence[Run]) -> None:
            study.plan(runs)
            display.plan(runs)

        search = open_search(settings, study, drawn, ended, packer, plan)
        with mirroring(settings.tracking, study.held(), console) as mirror:
            if search.has_more:
                console.print(f"starting {describe(settings.cluster)}; results go to {study.folder.root}")
                cost.learn_all(ended)
                display = ProgressDisplay.of(search.runs, drawn, ended, cost, console)
                with study.keep_tables(), display:
                    if settings.tracking is not None:
                        mirror.wait_ready()  # its client imports MLflow: not while this thread imports Ray
                    train(settings, study, search, packer, drawn, [cost, display, mirror], console)
            else:
                console.print("every run of this budget has its row: nothing to train")
    return study, search
