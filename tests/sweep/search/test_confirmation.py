"""Which configurations are picked to be confirmed, by hand-made rows."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweep.errors import ResultsError, SettingsError
from sweep.results.folder import StudyFolder
from sweep.results.plan_file import PlanFile
from sweep.results.schema import RunRow
from sweep.search.confirmation import confirming, pick, ranking
from sweep.search.plan import plan_runs
from sweep.settings.compose import load_settings
from sweep.settings.settings import Settings, Study
from wae_core.run import Run

Result = Callable[..., Any]


@pytest.fixture
def settings(study: Study, tmp_path: Path) -> Settings:
    """Four configurations of the VAE, of which two are to be confirmed."""
    words = ["alg=vae", "budget=12", "confirm=2", f"results={tmp_path}"]
    return replace(load_settings(words), study=study)


@pytest.fixture
def rows(settings: Settings, make_result: Result) -> list[RunRow]:
    """Those of the settings: the mean FIDs of the configurations are 21, 11, 41 and 31."""
    return [ended(run, make_result, fid) for run, fid in zip(runs_of(settings), fids(20, 10, 40, 30), strict=True)]


def fids(*means: float) -> list[float]:
    return [mean + seed for mean in means for seed in range(3)]


def runs_of(settings: Settings) -> list[Run]:
    return plan_runs(settings.study, "vae", settings.budget)


def ended(run: Run, make_result: Result, fid: float, status: str = "completed", steps: int = 4) -> RunRow:
    row: RunRow = make_result(run, status, (fid,), steps)[0]
    return row


def picked(settings: Settings, rows: Sequence[RunRow], plan: bool = False) -> list[str]:
    """The run_ids; with `plan` they are made durable as a launch does."""
    confirmation = confirming(settings)
    assert confirmation is not None
    runs = pick(settings.study, confirmation, runs_of(settings), rows, Console(file=io.StringIO()))
    if plan:
        folder = StudyFolder(settings.results, confirmation.study.name)
        folder.records.mkdir(parents=True, exist_ok=True)
        PlanFile(folder).extend(runs)
    return [run.run_id for run in runs]


def seeds(*indexes: int) -> list[str]:
    return [f"vae-{index:05d}-s{seed}" for index in indexes for seed in range(3, 8)]


def test_the_lowest_means_are_picked_with_seeds_that_follow_the_study_s(
    settings: Settings, rows: list[RunRow]
) -> None:
    assert picked(settings, rows) == seeds(1, 0)
    confirmation = confirming(settings)
    assert confirmation is not None and confirmation.budget == 10
    assert (confirmation.study.name, list(confirmation.study.seed_numbers)) == ("test-confirm", [3, 4, 5, 6, 7])
    assert confirmation.study.protocol == settings.study.protocol and confirmation.study.seed == settings.study.seed


def test_what_cannot_be_judged_with_each_seed_is_not_picked(
    settings: Settings, rows: list[RunRow], make_result: Result
) -> None:
    runs, study = runs_of(settings), settings.study
    assert ranking(study, rows) == [1, 0, 3, 2]
    for status, steps in (("diverged", 4), ("failed", 4), ("completed", 2)):  # the last was stopped early
        other = ended(runs[4], make_result, 1.0, status, steps)
        assert ranking(study, [row for row in rows if row.run_id != other.run_id] + [other]) == [0, 3, 2], status
    assert ranking(study, rows[:4] + rows[5:]) == [0, 3, 2], "a seed has no row"
    assert ranking(study, [replace(row, best_fid=7.0) for row in rows]) == [0, 1, 2, 3], "ties: the first"


def test_the_pick_stays_and_a_larger_one_adds_the_best_of_the_others(
    settings: Settings, rows: list[RunRow], make_result: Result
) -> None:
    small = replace(settings, budget=6, confirm=1)
    assert picked(small, rows[:6], plan=True) == seeds(1)
    lucky = [ended(run, make_result, 5.0) for run in runs_of(settings)[9:]]
    assert picked(replace(settings, confirm=1), [*rows[:9], *lucky]) == seeds(1)
    assert picked(settings, [*rows[:9], *lucky], plan=True) == seeds(1, 3)
    assert picked(replace(settings, confirm=1), [*rows[:9], *lucky]) == seeds(1), "a smaller one trains the first"


def test_configurations_beyond_the_budget_are_not_picked(settings: Settings, rows: list[RunRow]) -> None:
    assert picked(replace(settings, budget=3, confirm=1), rows) == seeds(0), "or algorithms had unequal choices"


def test_too_few_are_refused_with_their_number(settings: Settings, rows: list[RunRow]) -> None:
    three = [replace(row, status="diverged") if row.config_index > 0 else row for row in rows]
    with pytest.raises(SettingsError, match=r"confirm is 2, but vae has 1 configuration .*: give confirm=1 at most"):
        picked(settings, three)
    with pytest.raises(SettingsError, match=r"vae has 0 configurations .*: give a larger budget"):
        picked(settings, [replace(row, status="diverged") for row in rows])


def test_a_study_that_has_not_finished_is_not_confirmed(settings: Settings, rows: list[RunRow]) -> None:
    with pytest.raises(OSError, match="runs of study test that have no row yet: 1"):
        picked(settings, rows[:-1])


def test_a_pick_of_other_configurations_is_refused(settings: Settings, rows: list[RunRow]) -> None:
    picked(settings, rows, plan=True)
    other = [replace(row, learning_rate=0.5) if row.config_index == 1 else row for row in rows]
    with pytest.raises(ResultsError, match="confirms vae-00001, which has other hyperparameters in study test"):
        picked(settings, other)
