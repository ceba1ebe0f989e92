"""The schedule without training: what goes on, what stops, and that a budget of steps is spent and never exceeded."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.counterfactual import main as counterfactual
from analysis.strategies import Sweep, asha, finished
from sweep.events import Ended, Paused, Task
from sweep.search.asha import is_promoted, is_reduction, rungs
from sweep.search.plan import RandomProposals, draw_configuration
from sweep.search.schedule import Schedule, Standing
from sweep.settings.settings import Study
from wae_core.run import Run

STEPS = 9
RUNGS = [1, 3]
SEEDS = 3
SHARE = SEEDS * STEPS


def together(runs: Sequence[Run]) -> list[Task]:
    """All in one pack."""
    return [Task(tuple(runs))]


class World:
    """Plan, checkpoints and rows as disk and workers would have them; the FIDs fall with the steps.

    Attributes:
        status: of runs that do not complete, by run_id; they diverge or fail on their way to step 3.
    """

    def __init__(self, study: Study, make_result: Callable[..., Any], algorithms: Sequence[str] = ("vae",)) -> None:
        protocol = replace(study.protocol, steps=STEPS, evaluation_steps=tuple(range(1, STEPS + 1)))
        self.study = replace(study, protocol=protocol, asha=3.0)
        self.algorithms, self.make_result = algorithms, make_result
        self.planned: list[Run] = []
        self.standings: dict[str, Standing] = {}
        self.status: dict[str, str] = {}

    def fids(self, run: Run, until: int) -> dict[int, float]:
        """A level that depends on the configuration and the seed, and curves that cross."""
        draw = np.random.default_rng([run.config_index, run.seed, len(run.algorithm)]).uniform(size=STEPS)
        level = 100 * np.random.default_rng(run.config_index).uniform()
        return {step: level + 30 * draw[step - 1] / step + 50 / step for step in range(1, until + 1)}

    def open(self, configurations: int) -> Schedule:
        """A launch."""
        budget = configurations * SEEDS
        standing = lambda run: self.standings.get(run.run_id, Standing())  # noqa: E731
        planned, proposer = list(self.planned), RandomProposals(self.study)
        return Schedule(self.study, self.algorithms, budget, proposer, planned, standing, together, plan=self.plan)

    def plan(self, runs: list[Run]) -> None:
        assert not {run.run_id for run in runs} & {run.run_id for run in self.planned}
        self.planned += runs

    def train(self, schedule: Schedule, run: Run, task: Task) -> None:
        """Bring the run as far as the task says, and report it."""
        assert self.standing(run).status is None, "nothing is trained again that has its row"
        assert task.until is not None, "a schedule says how far"
        until, status = task.until, "completed"
        if run.run_id in self.status and until >= 3:
            until, status = 3, self.status[run.run_id]
        fids = self.fids(run, until)
        if status == "completed" and until < STEPS and task.stopped_because is None:
            self.standings[run.run_id] = Standing(until, fids)
            schedule.note(Paused(run, min(fids.values())))
            return
        self.standings[run.run_id] = Standing(until, fids, status)
        schedule.note(Ended(run, self.make_result(run, status, steps_done=until)[0]))

    def go(self, configurations: int) -> None:
        """One worker, to the end of the budget."""
        schedule = self.open(configurations)
        while task := schedule.next():
            for run in task.runs:
                self.train(schedule, run, task)

    def standing(self, run: Run) -> Standing:
        return self.standings.get(run.run_id, Standing())

    def steps(self, algorithm: str = "vae") -> dict[int, list[int]]:
        """By configuration, the steps of its seeds."""
        steps: dict[int, list[int]] = {}
        for run in self.planned:
            if run.algorithm == algorithm:
                steps.setdefault(run.config_index, []).append(self.standing(run).step)
        return steps

    def assert_spent(self, configurations: int) -> None:
        """Every run has its row, and what is left of the steps is less than a configuration's."""
        for algorithm in self.algorithms:
            assert all(self.standing(run).status for run in self.planned)
            for steps in self.steps(algorithm).values():
                assert set(steps) <= {*RUNGS, STEPS}
            spent = sum(max(steps) * SEEDS for steps in self.steps(algorithm).values())
            assert configurations * SHARE - SHARE < spent <= configurations * SHARE
        assert not self.open(configurations).has_more


@pytest.fixture
def world(study: Study, make_result: Callable[..., Any]) -> World:
    return World(study, make_result)


@pytest.mark.parametrize(
    ("steps", "reduction", "expected"),
    [
        (range(1, 10), 3, RUNGS),
        ((50, 100, 150, 200, 250, 300), 3, [50, 100]),
        ((50, 100, 150, 200, 250, 300), 2, [50, 100, 150]),
        ((50, 100, 150, 200, 250, 300), 4, [50, 100]),
        (range(5000, 105_000, 5000), 3, [5000, 15_000, 35_000]),
        ((300,), 3, []),
        ((10, 20), 1.5, [10]),
    ],
)
def test_rungs_are_evaluation_steps_before_the_last(
    steps: Sequence[int], reduction: float, expected: list[int]
) -> None:
    assert rungs(steps, reduction) == expected


@pytest.mark.parametrize(
    ("score", "others", "promoted"),
    [
        (5.0, [], True),  # nobody to compare with
        (5.0, [4.0], False),
        (5.0, [6.0], True),
        (5.0, [4.0, 6.0, 7.0], True),  # the second of four, of which ⌈4/3⌉ are promoted
        (5.0, [4.0, 4.5, 7.0], False),
        (math.inf, [], False),
        (math.nan, [], False),
        (5.0, [math.inf, math.inf], True),
    ],
)
def test_who_is_promoted(score: float, others: list[float], promoted: bool) -> None:
    assert is_promoted(score, sorted([*others, score]), reduction=3) is promoted


def test_a_decision_compares_with_few_of_those_that_have_reached_the_rung() -> None:
    compared = 0

    class Counted(float):
        def __lt__(self, other: float) -> bool:
            nonlocal compared
            compared += 1
            return float(self) < other

    reached = [Counted(number) for number in range(1000)]
    assert is_promoted(Counted(333), reached, reduction=3) and not is_promoted(Counted(334), reached, reduction=3)
    assert 0 < compared <= 2 * 10


def test_saved_steps_become_configurations_until_the_budget_is_spent(world: World) -> None:
    world.go(10)
    world.assert_spent(10)
    steps = world.steps()
    assert all(len(set(own)) == 1 for own in steps.values()), "seeds stop together"
    assert len(steps) > 15
    assert {own[0] for own in steps.values()} == {1, 3, 9}


def test_it_decides_as_the_counterfactual_says(world: World) -> None:
    """The same configurations, trained in full, and ASHA computed from them in their order."""
    world.go(10)
    count = len(world.steps())
    full = [run for i in range(count) for run in draw_configuration(world.study, "vae", i)]
    evaluations = pd.DataFrame(
        {"run_id": run.run_id, "step": step, "fid": fid}
        for run in full
        for step, fid in world.fids(run, STEPS).items()
    )
    runs = pd.DataFrame(
        {
            "study": "test", "run_id": run.run_id, "algorithm": "vae", "config_index": run.config_index,
            "seed": run.seed, "status": "completed", "steps_planned": STEPS, "steps_done": STEPS,
            "best_fid": min(world.fids(run, STEPS).values()), "confirmed_fid": np.nan,
        }
        for run in full
    )  # fmt: skip
    in_full = finished(runs, evaluations, "vae")
    outcome = asha(in_full, 3, [Sweep(np.arange(count), seen=(0, 1, 2), judge=None)])
    assert outcome.spent[0].tolist() == [sum(steps) for steps in world.steps().values()]


def test_a_configuration_is_judged_by_the_mean_of_its_seeds(world: World) -> None:
    schedule = world.open(10)
    tasks = [schedule.next(), schedule.next()]
    # The second's mean is higher, though two of its seeds are better.
    for task, scores in zip(tasks, [(5.0, 5.0, 5.0), (1.0, 1.0, 14.0)], strict=True):
        assert task is not None
        for run, score in zip(task.runs, scores, strict=True):
            schedule.note(Paused(run, score))
    first, second = schedule.next(), schedule.next()
    assert first is not None
    assert second is not None
    assert (first.until, first.stopped_because) == (3, None)
    assert (second.until, second.stopped_because) == (1, "stopped by asha at step 1 of 9")
    assert [run.config_index for run in second.runs] == [1, 1, 1]


def test_nothing_is_decided_before_the_last_seed(world: World) -> None:
    schedule = world.open(1)
    task = schedule.next()
    assert task is not None
    for run in task.runs[:2]:
        schedule.note(Paused(run, 1.0))
        assert schedule.next() is None
    schedule.note(Paused(task.runs[2], 1.0))
    assert schedule.next() == Task(task.runs, until=3)


def test_a_diverged_seed_stops_its_configuration_and_a_failed_one_does_not(world: World) -> None:
    world.status = {"vae-00000-s1": "diverged", "vae-00001-s1": "failed"}
    world.fids = lambda run, until: {step: 10.0 / step for step in range(1, until + 1)}  # type: ignore[method-assign]
    world.go(3)
    assert world.steps()[0] == [3, 3, 3]
    assert world.steps()[1] == [9, 3, 9]
    world.assert_spent(3)


def test_what_diverged_with_all_its_seeds_gives_its_steps_back(world: World) -> None:
    world.status = {f"vae-{index:05d}-s{seed}": "diverged" for index in range(3) for seed in range(SEEDS)}
    world.go(3)
    assert list(world.steps().values())[:3] == [[3, 3, 3]] * 3
    assert len(world.steps()) == 3 + (3 * SHARE - 3 * 9) // SHARE
    world.assert_spent(3)


def test_a_larger_budget_goes_on_and_a_smaller_one_leaves_the_rest(world: World) -> None:
    world.go(4)
    before = dict(world.standings)
    world.go(2)
    assert world.standings == before
    world.go(9)
    world.assert_spent(9)
    assert world.standings.items() >= before.items(), "what has ended stays as it is"


def test_algorithms_get_equal_steps(study: Study, make_result: Callable[..., Any]) -> None:
    world = World(study, make_result, ("wae-mmd", "vae"))
    world.go(6)
    world.assert_spent(6)


@pytest.mark.slow
def test_a_launch_killed_anywhere_ends_as_one_that_was_not(study: Study, make_result: Callable[..., Any]) -> None:
    undisturbed = World(study, make_result)
    undisturbed.go(6)
    reports = 0
    for stop_after in range(1, 2 * len(undisturbed.planned)):
        world = World(study, make_result)
        reports = 0
        schedule = world.open(6)
        while reports < stop_after and (task := schedule.next()):
            for run in task.runs[: stop_after - reports]:
                world.train(schedule, run, task)
                reports += 1
        world.go(6)
        assert world.standings == undisturbed.standings, f"killed after {stop_after} reports"
    assert reports > 50


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_with_many_workers_and_kills_the_budget_holds(
    study: Study, make_result: Callable[..., Any], data: st.DataObject
) -> None:
    world = World(study, make_result, ("wae-mmd", "vae"))
    run_ids = [f"vae-{index:05d}-s{seed}" for index in range(5) for seed in range(SEEDS)]
    world.status = data.draw(st.dictionaries(st.sampled_from(run_ids), st.sampled_from(["diverged", "failed"])))
    configurations = data.draw(st.integers(1, 5))
    for _ in range(data.draw(st.integers(0, 3))):
        work(world, configurations, data, reports=data.draw(st.integers(1, 30)))
    work(world, configurations, data)
    world.assert_spent(configurations)


def work(world: World, configurations: int, data: st.DataObject, reports: int = 10**6) -> None:
    """Four workers whose runs end in any order, until the driver is killed after so many reports."""
    schedule = world.open(configurations)
    running: list[tuple[Run, Task]] = []
    waiting: list[tuple[Run, Task]] = []
    for _ in range(reports):
        while len(running) < 4:
            if not waiting:
                task = schedule.next()
                if task is None:
                    break
                waiting = [(run, task) for run in task.runs]
            running.append(waiting.pop(0))
        if not running:
            return
        run, task = running.pop(data.draw(st.integers(0, len(running) - 1)))
        world.train(schedule, run, task)


@pytest.mark.parametrize(
    ("reduction", "allowed"),
    [
        (1.01, True),
        (3.0, True),
        (1.0, False),
        (1.0000001, False),
        (math.nan, False),
        (math.inf, False),
        (1e31, False),
    ],
)
def test_a_reduction_has_bounds_so_that_the_rungs_have_an_end(reduction: float, allowed: bool) -> None:
    """Settings and counterfactual refuse the others; of 1.0000001 there were 180 million targets."""
    assert is_reduction(reduction) is allowed
    if allowed:
        assert rungs([10**k for k in range(10)], reduction)
    else:
        with pytest.raises(SystemExit):
            counterfactual(["--reduction", str(reduction)])
