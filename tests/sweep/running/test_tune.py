"""The searcher that hands packs to Tune: each once, again after a worker's death, and not for ever."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sweep.running.tune
from sweep.running.attempt import Progress, WorkerContext
from sweep.running.tune import PackSearcher, ray_session, train_packs, tune
from sweep.search.plan import Pack
from sweep.settings.compose import load_settings
from wae_core.run import Run

MakeRun = Callable[..., Run]
MakeResult = Callable[..., Any]
DEATHS = 5


@pytest.fixture
def lost() -> list[Run]:
    """The runs that the searcher gives up."""
    return []


def searcher_of(lost: list[Run], *runs: Run) -> PackSearcher:
    return PackSearcher([Pack(runs)], DEATHS, lost.append)


def next_pack(searcher: PackSearcher) -> tuple[Run, ...] | None:
    """The runs of the next pack; its trial is named after the first."""
    suggested = searcher.suggest("trial")
    return None if suggested in (None, "FINISHED") else suggested["pack"].value.runs


def test_a_pack_whose_worker_died_comes_again_without_the_runs_that_have_ended(
    make_run: MakeRun, make_result: MakeResult, lost: list[Run]
) -> None:
    runs = tuple(make_run("vae", seed=seed) for seed in range(3))
    searcher = searcher_of(lost, *runs)
    assert next_pack(searcher) == runs
    searcher.note(Progress(runs[1], row=make_result(runs[1])[0]))
    searcher.on_trial_complete("trial", error=True)
    assert next_pack(searcher) == (runs[0], runs[2])


def test_a_run_whose_worker_dies_too_often_is_lost(make_run: MakeRun, lost: list[Run]) -> None:
    run = make_run("vae")
    searcher = searcher_of(lost, run)
    for _ in range(DEATHS):
        assert lost == []
        assert next_pack(searcher) == (run,)
        searcher.on_trial_complete("trial", error=True)
    assert lost == [run]
    assert not searcher.has_more


def test_a_new_checkpoint_gives_a_run_all_its_deaths_again(make_run: MakeRun, lost: list[Run]) -> None:
    run = make_run("vae")
    searcher = searcher_of(lost, run)
    for _ in range(3 * DEATHS):
        assert next_pack(searcher) == (run,)
        searcher.note(Progress(run))
        searcher.on_trial_complete("trial", error=True)
    assert lost == []


def test_waiting_for_the_disk_is_no_checkpoint(make_run: MakeRun, lost: list[Run]) -> None:
    run = make_run("vae")
    searcher = searcher_of(lost, run)
    for _ in range(DEATHS):
        next_pack(searcher)
        searcher.note(Progress(run, problem="no space left"))
        searcher.on_trial_complete("trial", error=True)
    assert lost == [run]


def test_a_pack_that_kills_its_worker_twice_comes_in_halves(make_run: MakeRun, lost: list[Run]) -> None:
    runs = tuple(make_run("vae", seed=seed) for seed in range(3))
    searcher = searcher_of(lost, *runs)
    for _ in range(2):
        assert next_pack(searcher) == runs
        searcher.on_trial_complete("trial", error=True)
    assert next_pack(searcher) == runs[:2]
    searcher.on_trial_complete("trial")
    assert next_pack(searcher) == runs[2:]


def test_a_worker_that_dies_after_its_last_row_costs_nothing(
    make_run: MakeRun, make_result: MakeResult, lost: list[Run]
) -> None:
    run = make_run("vae")
    searcher = searcher_of(lost, run)
    next_pack(searcher)
    searcher.note(Progress(run, row=make_result(run)[0]))
    searcher.on_trial_complete("trial", error=True)
    assert lost == []
    assert not searcher.has_more


def test_a_run_that_paused_comes_no_more_but_in_another_pack_which_may_lose_its_worker(
    make_run: MakeRun, lost: list[Run]
) -> None:
    runs = tuple(make_run("vae", seed=seed) for seed in range(2))
    on = [[Pack((runs[0],), until=4)]]
    searcher = PackSearcher([Pack(runs, until=2)], DEATHS, lost.append, lambda: on.pop() if on else [])
    next_pack(searcher)
    searcher.note(Progress(runs[0], rung_fid=5.0))
    searcher.on_trial_complete("trial", error=True)
    again = searcher.suggest("trial")["pack"].value
    assert again == Pack((runs[1],), until=2)
    searcher.note(Progress(runs[1], rung_fid=6.0))
    searcher.on_trial_complete("trial")
    for _ in range(2):
        assert searcher.suggest("trial")["pack"].value == Pack((runs[0],), until=4)
        searcher.on_trial_complete("trial", error=True)


def test_more_packs_are_proposed_when_none_waits_and_the_search_ends_with_the_proposals(make_run: MakeRun) -> None:
    first, *proposed = (Pack((make_run("vae", config_index=index),)) for index in range(3))
    later = [[pack] for pack in proposed]
    searcher = PackSearcher([first], DEATHS, lambda run: None, lambda: later.pop(0) if later else [])
    handed = []
    for name in "abc":
        handed.append(searcher.suggest(name)["pack"].value)
        assert searcher.has_more
        assert len(later) == 3 - len(handed), "a pack is proposed when it is wanted, and not before"
        searcher.on_trial_complete(name)
    assert handed == [first, *proposed]
    assert searcher.suggest("d") == PackSearcher.FINISHED
    assert not searcher.has_more


def test_what_goes_wrong_in_proposing_waits_for_the_packs_that_run(make_run: MakeRun) -> None:
    def propose() -> list[Pack]:
        raise OSError("the disk is full")

    searcher = PackSearcher([Pack((make_run("vae"),))], DEATHS, lambda run: None, propose)
    searcher.suggest("a")
    assert searcher.suggest("b") is None
    assert isinstance(searcher.error, OSError)
    searcher.on_trial_complete("a")
    assert searcher.suggest("c") == PackSearcher.FINISHED


def test_workers_that_start_late_or_never_hold_up_no_pack(
    make_run: MakeRun, lost: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left to itself, Tune gives the late worker's pack to the early one, and ends the late one as it starts."""

    class ShortPacks(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            time.sleep(3 * (config["pack"].value.runs[0].seed > 0))
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._run = new_config["pack"].value.runs[0]
            return True

        def step(self) -> dict[str, Any]:
            time.sleep(0.1)
            return {"progress": Progress(self._run, problem=f"{self._run.seed} {os.getpid()}"), "done": True}

    monkeypatch.setattr(sweep.running.tune, "PackTrainable", ShortPacks)
    context = WorkerContext(tmp_path, tmp_path, None, "cpu", "unknown", 1000, 1)
    cluster = replace(load_settings([]).cluster, workers=2)

    def pids_that_train(count: int, workers: int) -> set[str]:
        reports: list[str] = []
        packs = [Pack((make_run("vae", seed=seed),)) for seed in range(count)]
        train_packs(
            packs, context, cluster, workers, DEATHS, lambda one: reports.append(one.problem or ""), lost.append
        )
        seeds, pids = zip(*(report.split() for report in reports), strict=True)
        assert sorted(map(int, seeds)) == list(range(count))
        return set(pids)

    with ray_session(cluster) as room:
        assert len(pids_that_train(60, workers=room)) == 2
        assert len(pids_that_train(10, workers=room + 1)) <= 2
    assert lost == []
