"""Tasks on their way to workers: each once, again after a worker's death, and not for ever."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from sweep.errors import WorkersLost
from sweep.events import CheckpointSaved, Ended, Event, Lost, Paused, Problem, Started, Task
from sweep.running.handout import UNBEGUN_ALLOWED, Handout
from wae_core.run import Run

MakeRun = Callable[..., Run]
MakeResult = Callable[..., Any]
DEATHS = 5


class Tasks:
    """A search that hands out what it was given; the first wish for more than that raises, if there is an error."""

    depends_on_order: str | None = None

    def __init__(self, *tasks: Task, error: Exception | None = None) -> None:
        self.runs: list[Run] = []
        self.left = deque(tasks)
        self._error = error

    @property
    def has_more(self) -> bool:
        return bool(self.left)

    def next(self) -> Task | None:
        if not self.left and self._error is not None:
            raise self._error
        return self.left.popleft() if self.left else None

    def note(self, event: Event) -> None:
        """Nothing depends on it."""


@pytest.fixture
def lost() -> list[Run]:
    """The runs that are given up."""
    return []


def handout_of(lost: list[Run], *tasks: Task, error: Exception | None = None) -> Handout:
    def on_event(event: Event) -> None:
        if isinstance(event, Lost):
            lost.append(event.run)

    return Handout(Tasks(*tasks, error=error), DEATHS, on_event)


def begin(handout: Handout) -> Task | None:
    """The next task, which its worker, called `trial`, begins."""
    task = handout.next("trial")
    for run in task.runs if task else ():
        handout.note(Started(run))
    return task


def next_runs(handout: Handout) -> tuple[Run, ...] | None:
    """The runs of the next task, which is begun."""
    task = begin(handout)
    return None if task is None else task.runs


def die(handout: Handout, worker: str = "trial") -> None:
    handout.end(worker, death="killed by the test")


def test_a_pack_whose_worker_died_comes_again_without_the_runs_that_have_ended(
    make_run: MakeRun, make_result: MakeResult, lost: list[Run]
) -> None:
    runs = tuple(make_run("vae", seed=seed) for seed in range(3))
    handout = handout_of(lost, Task(runs))
    assert next_runs(handout) == runs
    handout.note(Ended(runs[1], make_result(runs[1])[0]))
    die(handout)
    assert next_runs(handout) == (runs[0], runs[2])


def test_a_run_whose_worker_dies_too_often_is_lost(make_run: MakeRun, lost: list[Run]) -> None:
    run = make_run("vae")
    handout = handout_of(lost, Task((run,)))
    for _ in range(DEATHS):
        assert lost == []
        assert next_runs(handout) == (run,)
        die(handout)
    assert lost == [run]
    assert not handout.has_more


def test_a_new_checkpoint_gives_a_run_all_its_deaths_again(make_run: MakeRun, lost: list[Run]) -> None:
    run = make_run("vae")
    handout = handout_of(lost, Task((run,)))
    for _ in range(3 * DEATHS):
        assert next_runs(handout) == (run,)
        handout.note(CheckpointSaved(run))
        die(handout)
    assert lost == []


def test_waiting_for_the_disk_is_no_checkpoint(make_run: MakeRun, lost: list[Run]) -> None:
    run = make_run("vae")
    handout = handout_of(lost, Task((run,)))
    for _ in range(DEATHS):
        next_runs(handout)
        handout.note(Problem(run, "no space left"))
        die(handout)
    assert lost == [run]


def test_a_pack_that_kills_its_worker_twice_comes_in_halves(make_run: MakeRun, lost: list[Run]) -> None:
    runs = tuple(make_run("vae", seed=seed) for seed in range(3))
    handout = handout_of(lost, Task(runs))
    for _ in range(2):
        assert next_runs(handout) == runs
        die(handout)
    assert next_runs(handout) == runs[:2]
    handout.end("trial")
    assert next_runs(handout) == runs[2:]


def test_a_worker_that_dies_after_its_last_row_costs_nothing(
    make_run: MakeRun, make_result: MakeResult, lost: list[Run]
) -> None:
    run = make_run("vae")
    handout = handout_of(lost, Task((run,)))
    next_runs(handout)
    handout.note(Ended(run, make_result(run)[0]))
    die(handout)
    assert lost == []
    assert not handout.has_more


def test_a_run_that_paused_comes_no_more_but_in_another_pack_which_may_lose_its_worker(
    make_run: MakeRun, lost: list[Run]
) -> None:
    runs = tuple(make_run("vae", seed=seed) for seed in range(2))
    handout = handout_of(lost, Task(runs, until=2), Task((runs[0],), until=4))
    next_runs(handout)
    handout.note(Paused(runs[0], 5.0))
    die(handout)
    again = begin(handout)
    assert again == Task((runs[1],), until=2)
    handout.note(Paused(runs[1], 6.0))
    handout.end("trial")
    for _ in range(2):
        assert begin(handout) == Task((runs[0],), until=4)
        die(handout)


def test_a_task_is_asked_for_when_it_is_wanted_and_not_before(make_run: MakeRun, lost: list[Run]) -> None:
    tasks = [Task((make_run("vae", config_index=index),)) for index in range(3)]
    search = Tasks(*tasks)
    handout = Handout(search, DEATHS, lambda event: None)
    for number, name in enumerate("abc", start=1):
        assert handout.next(name) == tasks[number - 1]
        assert not handout.is_idle
        assert len(search.left) == 3 - number
        handout.end(name)
    assert handout.next("d") is None
    assert handout.is_idle
    assert not handout.has_more


def test_what_goes_wrong_in_the_search_waits_for_the_tasks_that_run(make_run: MakeRun, lost: list[Run]) -> None:
    handout = handout_of(lost, Task((make_run("vae"),)), error=OSError("the disk is full"))
    handout.next("a")
    assert handout.next("b") is None
    assert isinstance(handout.error, OSError)
    assert not handout.is_idle
    handout.end("a")
    assert handout.next("c") is None
    assert handout.is_idle


# --- workers that never begin


def test_a_worker_that_never_began_costs_its_runs_nothing(make_run: MakeRun, lost: list[Run]) -> None:
    runs = tuple(make_run("vae", seed=seed) for seed in range(2))
    handout = handout_of(lost, Task(runs))
    for _ in range(3 * DEATHS):
        for _ in range(UNBEGUN_ALLOWED - 1):
            assert handout.next("trial") == Task(runs), "whole: it was not the pack that killed"
            die(handout)
        assert next_runs(handout) == runs
        handout.note(CheckpointSaved(runs[0]))
        handout.note(CheckpointSaved(runs[1]))
        die(handout)
    assert (lost, handout.error) == ([], None)


def test_where_no_worker_can_start_it_stops_and_leaves_the_runs_missing(make_run: MakeRun, lost: list[Run]) -> None:
    """Five such deaths made a run `failed`, in seconds."""
    run = make_run("vae")
    handout = handout_of(lost, Task((run,)))
    for _ in range(UNBEGUN_ALLOWED):
        assert handout.next("trial") == Task((run,))
        handout.end("trial", death="ModuleNotFoundError: No module named 'torch'")
    assert isinstance(handout.error, WorkersLost)
    assert str(handout.error) == (
        "no worker can start: 3 in a row ended before they began a run (ModuleNotFoundError: No module named 'torch')"
    )
    assert handout.next("trial") is None
    assert handout.is_idle
    assert lost == []


def test_workers_that_end_together_count_as_one(make_run: MakeRun, lost: list[Run]) -> None:
    """A node is lost while all its workers start."""
    tasks = [Task((make_run("vae", config_index=index),)) for index in range(2 * UNBEGUN_ALLOWED)]
    handout = handout_of(lost, *tasks)
    for _ in range(UNBEGUN_ALLOWED):
        assert handout.error is None
        for number in range(len(tasks)):
            assert handout.next(str(number)) is not None
        for number in range(len(tasks)):
            die(handout, str(number))
    assert isinstance(handout.error, WorkersLost)


def test_what_trains_is_waited_for_where_nobody_can_start_any_more(make_run: MakeRun) -> None:
    events: list[Event] = []
    tasks = [Task((make_run("vae", config_index=index),)) for index in range(2)]
    handout = Handout(Tasks(*tasks), DEATHS, events.append)
    handout.next("old")
    handout.note(Started(tasks[0].runs[0]))
    for _ in range(UNBEGUN_ALLOWED):
        handout.next("new")
        die(handout, "new")
    (problem,) = [event for event in events if isinstance(event, Problem)]
    assert problem.sentence.endswith("nothing more is begun, what trains is waited for")
    assert not handout.is_idle
    handout.end("old")
    assert handout.is_idle


def test_it_waits_for_workers_as_long_as_no_task_is_begun(make_run: MakeRun) -> None:
    tasks = [Task((make_run("vae", config_index=index),)) for index in range(2)]
    handout = Handout(Tasks(*tasks), DEATHS, lambda event: None)
    assert not handout.waits_for_workers
    handout.next("a")
    handout.next("b")
    assert handout.waits_for_workers
    handout.note(Started(tasks[1].runs[0]))
    assert not handout.waits_for_workers
    handout.end("b")
    assert handout.waits_for_workers


def test_what_goes_wrong_where_events_are_told_waits_for_the_tasks_that_run(make_run: MakeRun) -> None:
    """Raised into Tune it came out as a text, whatever it had been."""
    task = Task((make_run("vae"),))

    def fail(event: Event) -> None:
        raise OSError("the storage is away")

    handout = Handout(Tasks(task), DEATHS, fail)
    handout.next("a")
    handout.note(Started(task.runs[0]))
    assert isinstance(handout.error, OSError)
    assert not handout.is_idle
    handout.end("a")
    assert handout.is_idle
