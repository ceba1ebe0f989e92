"""Tasks on their way to workers: each once, again after a worker's death, and not for ever."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from sweep.errors import WorkersLost
from sweep.events import CheckpointSaved, Ended, Event, GivenUp, Paused, Problem, Raised, Started, Task
from sweep.running.handout import Handout
from sweep.running.nodes.census import SPOILED_ALLOWED, UNBEGUN_ALLOWED, Census, Node, Place
from sweep.settings.settings import FailurePolicy
from wae_core.run import Run

MakeRun = Callable[..., Run]
MakeResult = Callable[..., Any]
DEATHS = 5
FAILURES = FailurePolicy(tries=3, worker_deaths=DEATHS)
A, B = (Node(id, id, f"host-{id}", {"CPU": 2.0}) for id in "ab")
HERE, THERE = [(A,)], [(B,)]


def one_node() -> Census:
    return census_of(A)


def census_of(*nodes: Node, said: list[str] | None = None) -> Census:
    """A census in which these nodes have been found well."""
    census = Census({"CPU": 1}, 1, None, (said if said is not None else []).append)
    census.see(nodes)
    for node in census.to_examine():
        census.admit(node, "cpu")
    return census


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
        if isinstance(event, GivenUp):
            lost.append(event.run)

    return Handout(Tasks(*tasks, error=error), FAILURES, one_node(), on_event)


def begin(handout: Handout) -> Task | None:
    """The next task, which its worker, called `trial`, begins."""
    task = handout.next("trial", HERE)
    for run in task.runs if task else ():
        handout.note("trial", Started(run))
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
    handout.note("trial", Ended(runs[1], make_result(runs[1])[0]))
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
        handout.note("trial", CheckpointSaved(run))
        die(handout)
    assert lost == []


def test_waiting_for_the_disk_is_no_checkpoint(make_run: MakeRun, lost: list[Run]) -> None:
    run = make_run("vae")
    handout = handout_of(lost, Task((run,)))
    for _ in range(DEATHS):
        next_runs(handout)
        handout.note("trial", Problem(run, "no space left"))
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
    handout.note("trial", Ended(run, make_result(run)[0]))
    die(handout)
    assert lost == []
    assert not handout.has_more


def test_a_run_that_paused_comes_no_more_but_in_another_pack_which_may_lose_its_worker(
    make_run: MakeRun, lost: list[Run]
) -> None:
    runs = tuple(make_run("vae", seed=seed) for seed in range(2))
    handout = handout_of(lost, Task(runs, until=2), Task((runs[0],), until=4))
    next_runs(handout)
    handout.note("trial", Paused(runs[0], 5.0))
    die(handout)
    again = begin(handout)
    assert again == Task((runs[1],), until=2)
    handout.note("trial", Paused(runs[1], 6.0))
    handout.end("trial")
    for _ in range(2):
        assert begin(handout) == Task((runs[0],), until=4)
        die(handout)


def test_a_task_is_asked_for_when_it_is_wanted_and_not_before(make_run: MakeRun, lost: list[Run]) -> None:
    tasks = [Task((make_run("vae", config_index=index),)) for index in range(3)]
    search = Tasks(*tasks)
    handout = Handout(search, FAILURES, one_node(), lambda event: None)
    for number, name in enumerate("abc", start=1):
        assert handout.next(name, HERE) == tasks[number - 1]
        assert not handout.is_idle
        assert len(search.left) == 3 - number
        handout.end(name)
    assert handout.next("d", HERE) is None
    assert handout.is_idle
    assert not handout.has_more


def test_what_goes_wrong_in_the_search_waits_for_the_tasks_that_run(make_run: MakeRun, lost: list[Run]) -> None:
    handout = handout_of(lost, Task((make_run("vae"),)), error=OSError("the disk is full"))
    handout.next("a", HERE)
    assert handout.next("b", HERE) is None
    assert isinstance(handout.error, OSError)
    assert not handout.is_idle
    handout.end("a")
    assert handout.next("c", HERE) is None
    assert handout.is_idle


# --- workers that never begin


def test_a_worker_that_never_began_costs_its_runs_nothing(make_run: MakeRun, lost: list[Run]) -> None:
    runs = tuple(make_run("vae", seed=seed) for seed in range(2))
    handout = handout_of(lost, Task(runs))
    for _ in range(3 * DEATHS):
        for _ in range(UNBEGUN_ALLOWED - 1):
            assert handout.next("trial", HERE) == Task(runs), "whole: it was not the pack that killed"
            die(handout)
        assert next_runs(handout) == runs
        handout.note("trial", CheckpointSaved(runs[0]))
        handout.note("trial", CheckpointSaved(runs[1]))
        die(handout)
    assert (lost, handout.error) == ([], None)


def test_where_no_worker_can_start_it_stops_and_leaves_the_runs_missing(make_run: MakeRun, lost: list[Run]) -> None:
    """Five such deaths made a run `failed`, in seconds."""
    run = make_run("vae")
    handout = handout_of(lost, Task((run,)))
    for _ in range(UNBEGUN_ALLOWED):
        assert handout.next("trial", HERE) == Task((run,))
        handout.end("trial", death="ModuleNotFoundError: No module named 'torch'")
    assert isinstance(handout.error, WorkersLost)
    assert str(handout.error) == (
        "no worker can start: 3 in a row ended before they began a run (ModuleNotFoundError: No module named 'torch')"
    )
    assert handout.next("trial", HERE) is None
    assert handout.is_idle
    assert lost == []


def test_workers_that_end_together_count_as_one(make_run: MakeRun, lost: list[Run]) -> None:
    """A node is lost while all its workers start."""
    tasks = [Task((make_run("vae", config_index=index),)) for index in range(2 * UNBEGUN_ALLOWED)]
    handout = handout_of(lost, *tasks)
    for _ in range(UNBEGUN_ALLOWED):
        assert handout.error is None
        for number in range(len(tasks)):
            assert handout.next(str(number), HERE) is not None
        for number in range(len(tasks)):
            die(handout, str(number))
    assert isinstance(handout.error, WorkersLost)


def test_what_trains_is_waited_for_where_nobody_can_start_any_more(make_run: MakeRun) -> None:
    events: list[Event] = []
    tasks = [Task((make_run("vae", config_index=index),)) for index in range(2)]
    handout = Handout(Tasks(*tasks), FAILURES, one_node(), events.append)
    handout.next("old", HERE)
    handout.note("old", Started(tasks[0].runs[0]))
    for _ in range(UNBEGUN_ALLOWED):
        handout.next("new", HERE)
        die(handout, "new")
    (problem,) = [event for event in events if isinstance(event, Problem)]
    assert problem.sentence.endswith("nothing more is begun, what trains is waited for")
    assert not handout.is_idle
    handout.end("old")
    assert handout.is_idle


def test_it_waits_for_workers_as_long_as_no_task_is_begun(make_run: MakeRun) -> None:
    tasks = [Task((make_run("vae", config_index=index),)) for index in range(2)]
    handout = Handout(Tasks(*tasks), FAILURES, one_node(), lambda event: None)
    assert handout.waits_for_workers, "as where there is no node yet"
    handout.next("a", HERE)
    handout.next("b", HERE)
    assert handout.waits_for_workers
    handout.note("b", Started(tasks[1].runs[0]))
    assert not handout.waits_for_workers
    handout.end("b")
    assert handout.waits_for_workers


def test_what_goes_wrong_where_events_are_told_waits_for_the_tasks_that_run(make_run: MakeRun) -> None:
    """Raised into Tune it came out as a text, whatever it had been."""
    task = Task((make_run("vae"),))

    def fail(event: Event) -> None:
        raise OSError("the storage is away")

    handout = Handout(Tasks(task), FAILURES, one_node(), fail)
    handout.next("a", HERE)
    handout.note("a", Started(task.runs[0]))
    assert isinstance(handout.error, OSError)
    assert not handout.is_idle
    handout.end("a")
    assert handout.is_idle


# --- exceptions, and the nodes that they come from


def raise_at(handout: Handout, places: Sequence[Place], reason: str = "OSError: no data") -> tuple[Run, ...]:
    """A worker there begins what it is given, of which all runs raise; returns them."""
    task = handout.next("w", places)
    assert task is not None
    for run in task.runs:
        handout.note("w", Started(run))
    for run in task.runs:
        handout.note("w", Raised(run, reason))
    handout.end("w")
    return task.runs


def complete_at(handout: Handout, places: Sequence[Place], make_result: MakeResult) -> tuple[Run, ...]:
    task = handout.next("w", places)
    assert task is not None
    for run in task.runs:
        handout.note("w", Started(run))
        handout.note("w", Ended(run, make_result(run)[0]))
    handout.end("w")
    return task.runs


def test_a_pack_that_raised_comes_again_one_by_one_and_a_run_is_given_up_after_its_tries(
    make_run: MakeRun, make_result: MakeResult
) -> None:
    events: list[Event] = []
    runs = tuple(make_run("vae", seed=seed) for seed in range(2))
    handout = Handout(Tasks(Task(runs)), FAILURES, one_node(), events.append)
    assert raise_at(handout, HERE) == runs
    assert raise_at(handout, HERE) == runs[:1]
    assert complete_at(handout, HERE, make_result) == runs[1:]
    assert raise_at(handout, HERE, "ValueError: no") == runs[:1]
    assert [event for event in events if isinstance(event, GivenUp)] == [GivenUp(runs[0], "ValueError: no", "host-a")]
    assert not handout.has_more
    assert not any(isinstance(event, Raised) for event in events), "what is decided here is told to nobody else"


def test_an_exception_that_another_node_does_not_repeat_burns_no_try_and_two_bar_the_node(
    make_run: MakeRun, make_result: MakeResult
) -> None:
    """A node without the data made 11 of 12 runs `failed`."""
    events: list[Event] = []
    said: list[str] = []
    runs = [make_run("vae", config_index=index) for index in range(SPOILED_ALLOWED + 1)]
    census = census_of(A, B, said=said)
    policy = FailurePolicy(tries=1, worker_deaths=DEATHS)
    handout = Handout(Tasks(*(Task((run,)) for run in runs)), policy, census, events.append)
    for run in runs[:SPOILED_ALLOWED]:
        assert raise_at(handout, HERE) == (run,)
        assert complete_at(handout, THERE, make_result) == (run,)
    assert not any(isinstance(event, GivenUp) for event in events)
    assert [each.node for each in census.left_out if each.is_barred] == ["a"]
    assert "a gets no more work in this sweep" in said[-1] and "OSError: no data" in said[-1]
    assert list(census.places()) == THERE


@pytest.mark.parametrize("has_bad_run", [True, False])
def test_a_pack_s_exception_is_the_node_s_only_if_none_of_its_runs_repeats_it(
    make_run: MakeRun, make_result: MakeResult, has_bad_run: bool
) -> None:
    """The sound members of a pack with a bad run would otherwise bar every node on which it is tried."""
    packs = [tuple(make_run("vae", config_index=index, seed=seed) for seed in range(3)) for index in range(2)]
    census = census_of(A, B)
    policy = FailurePolicy(tries=2, worker_deaths=DEATHS)
    handout = Handout(Tasks(*map(Task, packs)), policy, census, lambda event: None)
    for pack in packs:
        assert raise_at(handout, HERE) == pack
        if has_bad_run:
            assert raise_at(handout, THERE) == pack[:1]
        else:
            assert complete_at(handout, THERE, make_result) == pack[:1]
        for run in pack[1:]:
            assert complete_at(handout, THERE, make_result) == (run,)
    assert [each.node for each in census.left_out] == ([] if has_bad_run else ["a"])


def test_a_run_that_raised_goes_to_another_node_and_not_back(make_run: MakeRun) -> None:
    runs = [make_run("vae", config_index=index) for index in range(2)]
    handout = Handout(Tasks(*(Task((run,)) for run in runs)), FAILURES, census_of(A, B), lambda event: None)
    assert raise_at(handout, HERE) == (runs[0],)
    assert raise_at(handout, HERE) == (runs[1],)
    assert handout.next("w", HERE) is None
    assert handout.has_more
    assert raise_at(handout, THERE) == (runs[0],)
    assert raise_at(handout, HERE) == (runs[0],), "it has raised on all nodes: anywhere"


def test_a_run_that_raises_on_every_node_is_given_up_and_no_node_is_blamed(make_run: MakeRun) -> None:
    events: list[Event] = []
    census = census_of(A, B)
    policy = FailurePolicy(tries=1, worker_deaths=DEATHS)
    runs = [make_run("vae", config_index=index) for index in range(3)]
    handout = Handout(Tasks(*(Task((run,)) for run in runs)), policy, census, events.append)
    for run in runs:
        assert raise_at(handout, HERE) == (run,)
        assert raise_at(handout, THERE) == (run,)
    assert [event for event in events if not isinstance(event, Started)] == [
        GivenUp(run, "OSError: no data (on a, b)", "host-b") for run in runs
    ]
    assert census.left_out == []


def test_a_checkpoint_on_another_node_is_proof_and_one_on_the_same_is_none(make_run: MakeRun) -> None:
    run = make_run("vae")
    events: list[Event] = []
    census = census_of(A, B)
    handout = Handout(Tasks(Task((run,))), FAILURES, census, events.append)
    assert raise_at(handout, HERE) == (run,)
    handout.next("w", THERE)
    handout.note("w", Started(run))
    handout.note("w", CheckpointSaved(run))  # A is to blame for the first
    handout.note("w", Raised(run, "b, at step 4"))
    handout.end("w")
    handout.next("w", HERE)
    handout.note("w", Started(run))
    handout.note("w", Raised(run, "a, at step 4"))
    handout.end("w")
    assert raise_at(handout, THERE, "b again") == (run,)
    assert [event.reason for event in events if isinstance(event, GivenUp)] == ["b again (on b, a)"]


def test_a_worker_that_dies_with_its_node_costs_its_runs_nothing(make_run: MakeRun, lost: list[Run]) -> None:
    run = make_run("vae")
    handout = handout_of(lost, Task((run,)))
    for _ in range(3 * DEATHS):
        assert next_runs(handout) == (run,)
        handout.end("trial", death="the node has died", is_node_gone=True)
    assert (lost, handout.error) == ([], None)


def test_a_node_on_which_no_worker_begins_is_barred_where_others_begin(make_run: MakeRun) -> None:
    tasks = [Task((make_run("vae", config_index=index),)) for index in range(2)]
    census = census_of(A, B)
    handout = Handout(Tasks(*tasks), FAILURES, census, lambda event: None)
    handout.next("good", THERE)
    for _ in range(UNBEGUN_ALLOWED):
        handout.next("bad", HERE)
        handout.end("bad", death="killed")
        handout.note("good", Started(tasks[0].runs[0]))
    assert handout.error is None
    assert [each.is_barred for each in census.left_out] == [True]
