"""The executor on Ray Tune: every worker gets tasks, however late it starts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sweep.running.tune
from sweep.events import Event, Problem, Started, Task, WorkerContext
from sweep.running.tune import (  # type: ignore[attr-defined]  # tune is to be imported after Ray's settings are made
    TuneExecutor,
    resources,
    session,
    tune,
    workers_that_fit,
)
from sweep.search.fixed_plan import FixedPlan
from sweep.settings.compose import load_settings
from wae_core.data.images import data_sha256
from wae_core.run import Run

MakeRun = Callable[..., Run]
DEATHS = 5


@pytest.mark.parametrize(
    ("available", "wanted", "workers"),
    [
        ({"CPU": 8.0}, {"CPU": 1}, 8),
        ({"CPU": 16.0, "GPU": 4.0}, {"CPU": 1, "GPU": 1}, 4),
        ({"CPU": 2.0, "GPU": 4.0}, {"CPU": 1, "GPU": 1}, 2),
        ({"CPU": 7.0}, {"CPU": 2}, 3),
        ({"CPU": 4.0}, {"CPU": 1, "GPU": 1}, 1),
    ],
)
def test_as_many_workers_as_the_scarcest_resource_is_enough_for(
    available: dict[str, float], wanted: dict[str, float], workers: int
) -> None:
    assert workers_that_fit(available, wanted) == workers


def one_by_one(runs: Any) -> list[Task]:
    return [Task((run,)) for run in runs]


@pytest.mark.slow
def test_workers_that_start_late_or_never_hold_up_no_task(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left to itself, Tune gives the late worker's task to the early one, and ends the late one as it starts."""

    class ShortTasks(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            time.sleep(3 * (config["task"].value.runs[0].seed > 0))
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._run = new_config["task"].value.runs[0]
            return True

        def step(self) -> dict[str, Any]:
            time.sleep(0.1)
            return {"event": Problem(self._run, f"{self._run.seed} {os.getpid()}"), "done": True}

    monkeypatch.setattr(sweep.running.tune, "TaskTrainable", ShortTasks)
    context = WorkerContext(tmp_path, tmp_path, data_sha256("digits"), None, "cpu", "unknown", 1000, 1)
    cluster = replace(load_settings([]).cluster, workers=2)

    def pids_that_train(executor: TuneExecutor, count: int) -> set[str]:
        events: list[Event] = []
        runs = [make_run("vae", seed=seed) for seed in range(count)]
        executor.train(FixedPlan(runs, set(), one_by_one), context, DEATHS, events.append)
        assert sorted(event.run.seed for event in events if isinstance(event, Started)) == list(range(count))
        told = [event.sentence.split() for event in events if isinstance(event, Problem)]
        assert sorted(int(seed) for seed, _ in told) == list(range(count))
        return {pid for _, pid in told}

    with session(cluster) as executor:
        assert len(pids_that_train(executor, 60)) == 2
        more = TuneExecutor(resources(cluster), executor.workers + 1)
        assert len(pids_that_train(more, 10)) <= 2
