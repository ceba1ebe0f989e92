"""Tasks on their way to workers that may die or raise: each once, again after that, and not for ever."""

from __future__ import annotations

import contextlib
import textwrap
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sweep.errors import WorkersLost
from sweep.events import CheckpointSaved, Ended, Event, GivenUp, Problem, Raised, Rescored, Search, Started, Task
from sweep.running.nodes.census import UNBEGUN_ALLOWED, Census, Node, Place
from sweep.settings.settings import FailurePolicy


@dataclass
class _Pack:
    """Runs that a worker has let go after an exception: any one of them may be behind it, or the node."""

    left: set[str] = field(default_factory=set)  # run_ids of those that have not gone on elsewhere
    is_to_blame: bool = False  # one of them has raised elsewhere too


@dataclass(frozen=True)
class _Exception:
    """Where a run raised, and what."""

    node: Node
    reason: str
    pack: _Pack


class Handout:
    """Hands a search's tasks to workers, and hears what becomes of them.

    A task whose worker died comes again, until it has died too often, which is `worker_deaths` times without a new
    checkpoint in between. Since it may be the pack's size that kills (the kernel's out-of-memory killer), it comes
    again in halves after the second time. A worker that ends before it has begun says nothing about its runs, but
    where that happens again and again no worker can start.

    A run that raised comes again alone, so that in a pack the one behind it fails alone; on another node, if there is
    one, since it may be the node's fault: where the run then goes on, the exception is not charged to it, and where
    all of its pack do, it is charged to the first node. After `tries` exceptions a run is given up, but not before
    another node, if there is one, has raised as well.

    Attributes:
        error: what the search or `on_event` raised, or that no worker can start; then no more is handed out.
    """

    def __init__(
        self, search: Search, failures: FailurePolicy, census: Census, on_event: Callable[[Event], None]
    ) -> None:
        self.error: Exception | None = None
        self._search, self._failures, self._census, self._told = search, failures, census, on_event
        self._again: deque[Task] = deque()
        self._running: dict[str, Task] = {}  # by worker
        self._begun: set[str] = set()  # run_ids of those, in the tasks that run, that their workers have begun
        self._unbegun = 0  # workers in a row that ended before they began
        self._unbegun_before: dict[str, int] = {}  # as many, when this worker was given its task
        self._deaths: Counter[str] = Counter()  # by run_id, since the run's last checkpoint
        self._raised: defaultdict[str, list[_Exception]] = defaultdict(list)  # by run_id, those charged to the run
        self._packs: defaultdict[str, _Pack] = defaultdict(_Pack)  # by worker, of its task
        self._done: set[str] = set()  # run_ids of those, in the tasks that run, that their workers are done with

    def next(self, worker: str, places: Sequence[Place]) -> Task | None:
        """Return what the worker, by any name that is its own for this task, is to train; None where nothing waits.

        While tasks run there may be more to come: one of them may come again, or its end lead to another.

        Args:
            places: where it may be, the best first; the census is told which one it is.
        """
        if self.error is not None or not places:
            return None
        task, place = self._take_again(places) or (self._ask(), places[0])
        if task is not None:
            self._running[worker], self._unbegun_before[worker] = task, self._unbegun
            self._census.take(worker, place)
            run_ids = {run.run_id for run in task.runs}
            self._done -= run_ids  # paused, and comes again
            self._begun -= run_ids
        return task

    def note(self, worker: str, event: Event) -> None:
        """Take in what a worker tells; a new checkpoint may lose workers again."""
        run_id, node = event.run.run_id, self._census.place_of(worker)[0]
        if isinstance(event, Started):
            self._begun.add(run_id)
            self._unbegun = 0
            self._unbegun_before = dict.fromkeys(self._unbegun_before, 0)
            self._census.begin(node)
        elif event.is_last:
            self._done.add(run_id)
        elif isinstance(event, CheckpointSaved):
            del self._deaths[run_id]
        if isinstance(event, CheckpointSaved | Ended | Rescored):
            self._charge_others(run_id, node)
        if isinstance(event, Raised):
            self._take_in(replace(self._running[worker], runs=(event.run,)), event, node, self._packs[worker])
        else:
            self._tell(event)

    def end(self, worker: str, death: str | None = None, is_node_gone: bool = False) -> None:
        """Take in that a worker is done with its task, or has died over it, for the reason that `death` gives.

        Args:
            is_node_gone: it has died with its node, for which its runs cannot be blamed.
        """
        task, unbegun_before = self._running.pop(worker), self._unbegun_before.pop(worker)
        place = self._census.place_of(worker)
        self._census.release(worker)
        self._packs.pop(worker, None)
        if death is None:
            return
        left = [run for run in task.runs if run.run_id not in self._done]
        if is_node_gone:
            if left:
                self._again.appendleft(replace(task, runs=tuple(left)))
            return
        if not any(run.run_id in self._begun for run in task.runs):
            self._again.appendleft(task)
            self._unbegun = max(self._unbegun, unbegun_before + 1)
            self._census.fail_to_begin(place[0], death)
            if self._unbegun >= UNBEGUN_ALLOWED:
                self._stop(task, death)
            return
        self._deaths.update(run.run_id for run in left)
        for run in left:
            if self._deaths[run.run_id] >= self._failures.worker_deaths:
                deaths = f"its worker process died {self._deaths[run.run_id]} times without a new checkpoint"
                self._tell(GivenUp(run, deaths, place[0].host))
        left = [run for run in left if self._deaths[run.run_id] < self._failures.worker_deaths]
        half = -(-len(left) // 2) if any(self._deaths[run.run_id] > 1 for run in left) else len(left)
        for part in (left[half:], left[:half]):
            if part:
                self._again.appendleft(replace(task, runs=tuple(part)))

    @property
    def is_idle(self) -> bool:
        """Whether no task runs."""
        return not self._running

    @property
    def is_over(self) -> bool:
        """Whether no task runs, and none is going to."""
        return self.is_idle and (self.error is not None or not self.has_more)

    @property
    def waits_for_workers(self) -> bool:
        """Whether there are tasks for workers, none of which has begun."""
        return not self.is_over and not any(
            run.run_id in self._begun for task in list(self._running.values()) for run in task.runs
        )

    @property
    def has_more(self) -> bool:
        """Whether tasks run or wait."""
        return bool(self._running or self._again) or (self.error is None and self._search.has_more)

    @property
    def has_waiting(self) -> bool:
        """Whether another worker would have something to do."""
        return self.error is None and (bool(self._again) or self._search.has_more)

    def _take_again(self, places: Sequence[Place]) -> tuple[Task, Place] | None:
        """The first task that comes again and may come to one of the places, and that place."""
        for index, task in enumerate(self._again):
            raised = {each.node.id for run in task.runs for each in self._raised[run.run_id]}
            for place in places:
                if place[0].id not in raised or not self._census.has_others(raised):
                    del self._again[index]
                    return task, place
        return None

    def _take_in(self, task: Task, event: Raised, node: Node, pack: _Pack) -> None:
        """An exception, which the run repeats elsewhere, or the node is to be charged with."""
        run, exceptions = event.run, self._raised[event.run.run_id]
        for each in exceptions:
            each.pack.is_to_blame |= each.node != node
        pack.left.add(run.run_id)
        exceptions.append(_Exception(node, event.reason, pack))
        nodes = {each.node.id: each.node.name for each in exceptions}
        if len(exceptions) < self._failures.tries or (len(nodes) == 1 and self._census.has_others(nodes)):
            self._again.append(task)
            return
        del self._raised[run.run_id]
        where = f" (on {', '.join(nodes.values())})" if len(nodes) > 1 else ""
        self._tell(GivenUp(run, event.reason + where, node.host))

    def _charge_others(self, run_id: str, node: Node) -> None:
        """The run has gone on here: what it raised elsewhere was not its fault."""
        for each in self._raised[run_id]:
            if each.node != node:
                each.pack.left.discard(run_id)
                if not each.pack.left and not each.pack.is_to_blame:
                    self._census.spoil(each.node.id, run_id, each.reason)
        self._raised[run_id] = [each for each in self._raised[run_id] if each.node == node]

    def _stop(self, task: Task, reason: str) -> None:
        if self.error is not None:
            return
        sentence = f"no worker can start: {self._unbegun} in a row ended before they began a run ({reason})"
        self.error = WorkersLost(sentence)
        if not self.is_idle:
            self._tell(Problem(task.runs[0], f"{sentence}; nothing more is begun, what trains is waited for"))

    def _ask(self) -> Task | None:
        try:
            return self._search.next()
        except Exception as error:  # raised into Tune, it would end the tasks that run, and become a text
            self.error = error
            return None

    def _tell(self, event: Event) -> None:
        try:
            self._told(event)
        except Exception as error:
            self.error = self.error or error


class Shared:
    """A value on its way to the workers: Tune copies a trial's configuration thrice, and prints it into a tag."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __deepcopy__(self, memo: object) -> Shared:
        return self

    def __repr__(self) -> str:
        return ""


class NotPickled:
    """Tuner pickles what it is given, for a restore that is never made here; closures cannot be pickled."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


def text_of(file: Path) -> str:
    """Return what stands in a file, such as an error; nothing where it cannot be read."""
    with contextlib.suppress(OSError):  # somebody may have deleted the session's folder
        return file.read_text("utf-8", errors="replace")
    return ""


def last_line(text: str) -> str:
    """Return the last line of a text, shortened for a sentence."""
    return textwrap.shorten(text.strip().rpartition("\n")[2], 200, placeholder=" …")
