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
from sweep.errors import SettingsError, WorkersLost
from sweep.events import Event, Problem, Started, Task, WorkerContext
from sweep.results.nodes.book import NodeBook
from sweep.running.connection.address import cluster_address
from sweep.running.connection.session import session
from sweep.running.nodes.census import UNBEGUN_ALLOWED, Census
from sweep.running.nodes.looking import Lookout, nodes
from sweep.running.tune import (  # type: ignore[attr-defined]  # tune is to be imported after Ray's settings are made
    TuneExecutor,
    tune,
)
from sweep.search.fixed_plan import FixedPlan
from sweep.settings.compose import load_settings
from sweep.settings.settings import FailurePolicy
from wae_core.data.images import data_sha256
from wae_core.run import Run

MakeRun = Callable[..., Run]
FAILURES = FailurePolicy(tries=1, worker_deaths=5)


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("", None),
        ("local", None),
        (" 10.0.0.1:6379 ", "10.0.0.1:6379"),
        ("[::1]:6379", "[::1]:6379"),
        ("auto", "auto"),
    ],
)
def test_ray_address_names_a_cluster_or_this_machine(
    given: str, address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", given)
    assert cluster_address() == address


@pytest.mark.parametrize("given", ["host", "host:", ":6379", "ray://host:10001", "host:0", "host:65536", "host:x"])
def test_a_ray_address_that_is_none_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", given)
    with pytest.raises(SettingsError, match="but it is host:port of a cluster's head, auto or local"):
        cluster_address()


def one_by_one(runs: Any) -> list[Task]:
    return [Task((run,)) for run in runs]


@pytest.mark.slow
@pytest.mark.ray
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
    context = WorkerContext(tmp_path, tmp_path, data_sha256("digits"), None, "cpu", "unknown", 1000)
    cluster = replace(load_settings([]).cluster, workers=2)

    said: list[str] = []

    def pids_that_train(executor: TuneExecutor, count: int) -> set[str]:
        events: list[Event] = []
        runs = [make_run("vae", seed=seed) for seed in range(count)]
        executor.train(FixedPlan(runs, set(), one_by_one), context, FAILURES, events.append)
        assert sorted(event.run.seed for event in events if isinstance(event, Started)) == list(range(count))
        told = [event.sentence.split() for event in events if isinstance(event, Problem)]
        assert sorted(int(seed) for seed, _ in told) == list(range(count))
        return {pid for _, pid in told}

    class NeverStarts(ShortTasks):
        def setup(self, config: dict[str, Any]) -> None:
            os._exit(1)

    book = NodeBook(tmp_path / "nodes.json")
    with session(cluster, context, load_settings([]).study.protocol, book, said.append) as executor:
        assert len(pids_that_train(executor, 60)) == 2
        (node,) = nodes()  # others' work takes a part of what it declares
        census = Census({"CPU": 1}, 1, None, said.append)
        census.see([replace(node, resources={"CPU": 3.0})])
        census.admit(node, "cpu")
        lookout = Lookout(census, None, "cpu", [{"CPU": 1}], False, said.append)
        more = TuneExecutor({"CPU": 1}, census, lookout, tmp_path / "tune", said.append)
        assert len(pids_that_train(more, 10)) <= 2
        monkeypatch.setattr(sweep.running.tune, "TaskTrainable", NeverStarts)
        events: list[Event] = []
        search = FixedPlan([make_run("vae", config_index=index) for index in range(9)], set(), one_by_one)
        with pytest.raises(WorkersLost, match=f"no worker can start: {UNBEGUN_ALLOWED} in a row"):
            executor.train(search, context, FAILURES, events.append)
        assert [event for event in events if not isinstance(event, Problem)] == [], "none is lost, none has begun"
