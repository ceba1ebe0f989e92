"""Which search a launch has: the fixed plan, or a schedule over random or Optuna's proposals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sweep.events import Search
from sweep.results.opening import OpenStudy
from sweep.results.plan_file import planned_runs
from sweep.results.schema import RunRow
from sweep.search.fixed_plan import FixedPlan
from sweep.search.interface import Pack, Proposer
from sweep.search.plan import RandomProposals
from sweep.search.schedule import Schedule, standings
from sweep.settings.settings import Settings
from wae_core.run import Run


def open_search(
    settings: Settings,
    opened: OpenStudy,
    drawn: Sequence[Run],
    ended: Sequence[RunRow],
    pack: Pack,
    plan: Callable[[list[Run]], None],
) -> Search:
    """Return what hands out the work that is missing of the budget.

    Args:
        drawn: the budget's runs, drawn at random.
        ended: the rows that there are.
        plan: makes a new configuration durable; called before the first of its runs is handed out.

    Raises:
        SettingsError: Optuna's storage cannot be used.
    """
    study, folder = settings.study, opened.folder
    if study.is_planned_ahead:
        return FixedPlan(drawn, {row.run_id for row in ended}, pack)
    planned = planned_runs(folder, study)
    proposer: Proposer = RandomProposals(study)
    if study.optuna is not None:
        from sweep.search.optuna_search import OptunaSearch  # a second: only who asks for it pays for that

        storage = settings.optuna_storage or folder.root / "optuna.journal"
        assert isinstance(storage, Path)  # for results in an object store it is given
        proposer = OptunaSearch(study, settings.algorithms, storage, planned, ended)
    standing = standings(folder, opened.data_sha256, ended)
    return Schedule(study, settings.algorithms, settings.budget, proposer, planned, standing, pack, plan)


def check_sampler(settings: Settings) -> None:
    """Refuse a sampler that there is not, or that cannot draw from the space, before anything is written.

    Raises:
        SettingsError: there is no such sampler, or it cannot.
    """
    study = settings.study
    if study.optuna is not None:
        from sweep.search.samplers import rehearse

        rehearse(study, settings.algorithms)
