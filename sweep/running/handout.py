"""Tasks on their way to workers that may die: each once, again after a death, and not for ever."""

from __future__ import annotations

import contextlib
import textwrap
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweep.errors import WorkersLost
from sweep.events import CheckpointSaved, Event, Lost, Problem, Search, Started, Task

UNBEGUN_ALLOWED = 3  # workers in a row that end before they begin a run; each was started after the end of the last


class Handout:
    """Hands a search's tasks to workers, and hears what becomes of them.

    A task whose worker died comes again, until it has died too often, which is `deaths_allowed` times without a new
    checkpoint in between. Since it may be the pack's size that kills (the kernel's out-of-memory killer), it comes
    again in halves after the second time. A worker that ends before it has begun says nothing about its runs, but
    where that happens again and again no worker can start.

    Attributes:
        error: what the search or `on_event` raised, or that no worker can start; then no more is handed out.
    """

    def __init__(self, search: Search, deaths_allowed: int, on_event: Callable[[Event], None]) -> None:
        self.error: Exception | None = None
        self._search, self._deaths_allowed, self._told = search, deaths_allowed, on_event
        self._again: deque[Task] = deque()
        self._running: dict[str, Task] = {}  # by worker
        self._begun: set[str] = set()  # run_ids of those, in the tasks that run, that their workers have begun
        self._unbegun = 0  # workers in a row that ended before they began
        self._unbegun_before: dict[str, int] = {}  # as many, when this worker was given its task
        self._deaths: Counter[str] = Counter()  # by run_id, since the run's last checkpoint
        self._done: set[str] = set()  # run_ids of those, in the tasks that run, that their workers are done with

    def next(self, worker: str) -> Task | None:
        """Return what the worker, by any name that is its own for this task, is to train; None where nothing waits.

        While tasks run there may be more to come: one of them may come again, or its end lead to another.
        """
        if self.error is not None:
            return None
        task = self._again.popleft() if self._again else self._ask()
        if task is not None:
            self._running[worker], self._unbegun_before[worker] = task, self._unbegun
            run_ids = {run.run_id for run in task.runs}
            self._done -= run_ids  # paused, and comes again
            self._begun -= run_ids
        return task

    def note(self, event: Event) -> None:
        """Take in what a worker tells; a new checkpoint may lose workers again."""
        if isinstance(event, Started):
            self._begun.add(event.run.run_id)
            self._unbegun = 0
            self._unbegun_before = dict.fromkeys(self._unbegun_before, 0)
        elif event.is_last:
            self._done.add(event.run.run_id)
        elif isinstance(event, CheckpointSaved):
            del self._deaths[event.run.run_id]
        self._tell(event)

    def end(self, worker: str, death: str | None = None) -> None:
        """Take in that a worker is done with its task, or has died over it, for the reason that `death` gives."""
        task, unbegun_before = self._running.pop(worker), self._unbegun_before.pop(worker)
        if death is None:
            return
        if not any(run.run_id in self._begun for run in task.runs):
            self._again.appendleft(task)
            self._unbegun = max(self._unbegun, unbegun_before + 1)
            if self._unbegun >= UNBEGUN_ALLOWED:
                self._stop(task, death)
            return
        left = [run for run in task.runs if run.run_id not in self._done]
        self._deaths.update(run.run_id for run in left)
        for run in left:
            if self._deaths[run.run_id] >= self._deaths_allowed:
                self._tell(Lost(run, self._deaths_allowed))
        left = [run for run in left if self._deaths[run.run_id] < self._deaths_allowed]
        half = -(-len(left) // 2) if any(self._deaths[run.run_id] > 1 for run in left) else len(left)
        for part in (left[half:], left[:half]):
            if part:
                self._again.appendleft(replace(task, runs=tuple(part)))

    @property
    def is_idle(self) -> bool:
        """Whether no task runs."""
        return not self._running

    @property
    def waits_for_workers(self) -> bool:
        """Whether there are tasks for workers, none of which has begun."""
        return not self.is_idle and not any(
            run.run_id in self._begun for task in list(self._running.values()) for run in task.runs
        )

    @property
    def has_more(self) -> bool:
        """Whether tasks run or wait."""
        return bool(self._running or self._again) or (self.error is None and self._search.has_more)

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


def last_line_of(file: Path) -> str:
    """Return the last line of a file, in which an error's message stands; nothing where it cannot be read."""
    with contextlib.suppress(OSError):  # somebody may have deleted the session's folder
        return last_line(file.read_text("utf-8", errors="replace"))
    return ""


def last_line(text: str) -> str:
    """Return the last line of a text, shortened for a sentence."""
    return textwrap.shorten(text.strip().rpartition("\n")[2], 200, placeholder=" …")
