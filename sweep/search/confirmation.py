"""The confirmation of a study: its best configurations, trained again with seeds that did not pick them.

The lowest of many mean FIDs is too low, since luck has helped to pick it; only fresh seeds say what it is worth.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean

from rich.console import Console

from sweep.errors import ResultsError, SettingsError
from sweep.results import study_file
from sweep.results.folder import StudyFolder, confirmation_of
from sweep.results.judging import judged_fid
from sweep.results.plan_file import planned_runs
from sweep.results.schema import COMPLETED, RunRow, run_of
from sweep.search.plan import seeded_runs
from sweep.settings.settings import Confirms, Settings, Study
from wae_core.run import Hyperparameters, Run


def confirming(settings: Settings) -> Settings | None:
    """Return the settings of the launch that confirms this one's study; None where nothing is to be confirmed.

    It is a study of its own, of the same protocol and space. Its seeds follow the study's, so that no run of one has
    the random numbers of a run of the other.

    Raises:
        SettingsError: its folder belongs to another version of it; nothing was written.
    """
    if settings.confirm is None:
        return None
    study = settings.study
    own = replace(
        study,
        name=confirmation_of(study.name),
        seeds=settings.confirm_seeds,
        asha=None,  # what is confirmed gets all its steps
        confirms=Confirms(study.name, study.seeds),
    )
    folder = StudyFolder(settings.results.absolute(), own.name)
    if folder.study_file.exists():  # else it is found out when the study itself is done
        study_file.widening(folder, own)
    return replace(settings, study=own, budget=settings.confirm * settings.confirm_seeds, confirm=None)


def pick(
    study: Study, confirmation: Settings, runs: Sequence[Run], rows: Sequence[RunRow], console: Console
) -> list[Run]:
    """Return the runs of the confirmation: of each algorithm the configurations that it has picked before, then the
    best of the others, until it is as many as its budget holds.

    What was picked stands in the confirmation's plan, and stays, whatever the study finds later.

    Args:
        study: that is confirmed.
        confirmation: the settings of the confirmation.
        runs: the study's that belong to this launch's budget; the best are picked among their configurations.
        rows: of the study's ended runs.

    Raises:
        SettingsError: an algorithm has too few configurations that can be picked.
        ResultsError: the confirmation's plan is damaged, or was picked from other configurations than the study has.
        OSError: a run of the budget has no row yet.
    """
    lacking = {run.run_id for run in runs} - {row.run_id for row in rows}
    if lacking:
        raise OSError(
            f"runs of study {study.name} that have no row yet: {len(lacking)}, so its best configurations cannot be "
            "picked"
        )
    own, count = confirmation.study, confirmation.budget // confirmation.study.seeds
    earlier = _picked_before(StudyFolder(confirmation.results.absolute(), own.name), study, own, rows)
    in_budget = {run.config_id for run in runs}
    best = {
        name: ranking(study, (row for row in rows if row.algorithm == name and row.config_id in in_budget))
        for name in confirmation.algorithms
    }
    picked = {name: list(dict.fromkeys([*earlier[name], *best[name]]))[:count] for name in confirmation.algorithms}
    fewest = min(picked, key=lambda name: len(picked[name]))
    if len(picked[fewest]) < count:
        there = len(picked[fewest])
        raise SettingsError(
            f"confirm is {count}, but {fewest} has {there} configuration{'s' * (there != 1)} in this budget that had "
            f"all their steps and a finite FID with each of their {study.seeds} seeds: give "
            + (f"confirm={there} at most, or a larger budget" if there else "a larger budget")
        )
    for name, indexes in picked.items():
        console.print(f"{name}: {', '.join(map(str, indexes))} (configurations, the lowest mean FID first)")
        if newer := [index for index in best[name][:count] if index not in indexes]:
            console.print(
                f"{own.name} keeps what it has picked of {name}; {len(newer)} of the best {count} of this budget "
                f"are others, which a larger confirm adds: {', '.join(map(str, newer))}"
            )
    drawn = {(row.algorithm, row.config_index): Hyperparameters.pick(vars(row)) for row in rows}
    return [
        run for name, indexes in picked.items() for i in indexes for run in seeded_runs(own, name, i, drawn[name, i])
    ]


def ranking(study: Study, rows: Iterable[RunRow]) -> list[int]:
    """Return the indexes of an algorithm's configurations, the lowest mean FID first, by the one rule of judging.

    Those are left out of which a seed has failed, has diverged or was stopped early.

    Args:
        rows: of ended runs of one algorithm.
    """
    fids: defaultdict[int, list[float]] = defaultdict(list)
    for row in rows:
        fid = judged_fid(row.status, row.best_fid)
        has_all_steps = row.status != COMPLETED or row.steps_done == study.protocol.steps
        if fid is not None and has_all_steps:
            fids[row.config_index].append(fid)
    means = {index: fmean(own) for index, own in fids.items() if len(own) == study.seeds}
    return sorted((i for i in means if math.isfinite(means[i])), key=lambda i: (means[i], i))


def _picked_before(
    folder: StudyFolder, study: Study, own: Study, rows: Iterable[RunRow]
) -> defaultdict[str, list[int]]:
    """The configurations of the confirmation's plan by algorithm, in the order in which they were picked.

    Where the plan was lost, those that have a row.
    """
    there = {row.config_id: Hyperparameters.pick(vars(row)) for row in rows}
    picked: defaultdict[str, list[int]] = defaultdict(list)
    ended = (run_of(row, own.name, own.seed, own.protocol) for row in folder.read_table("runs").to_pylist())
    for run in [*planned_runs(folder, own), *ended]:
        if there.get(run.config_id) != run.hyperparameters:
            what = "other hyperparameters" if run.config_id in there else "no row"
            raise ResultsError(
                f"{folder.root} cannot be used: it confirms {run.config_id}, which has {what} in study {study.name}; "
                "move it away, or put the results back that it was picked from"
            )
        if run.config_index not in picked[run.algorithm]:
            picked[run.algorithm].append(run.config_index)
    return picked
