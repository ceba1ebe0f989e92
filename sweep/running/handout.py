"""Tasks on their way to workers that may die: each once, again after a death, and not for ever."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import replace

from sweep.events import CheckpointSaved, Event, Lost, Search, Task


class Handout:
    """Hands a search's tasks to workers, and hears what becomes of them.

    A task whose worker died comes again, until it has died too often, which is `deaths_allowed` times without a new
    checkpoint in between. Since it may be the pack's size that kills (the kernel's out-of-memory killer), it comes
    again in halves after the second time.

    Attributes:
        error: what the search raised; then it is asked no more.
    """

    def __init__(self, search: Search, deaths_allowed: int, on_event: Callable[[Event], None]) -> None:
        self.error: Exception | None = None
        self._search, self._deaths_allowed, self._on_event = search, deaths_allowed, on_event
        self._again: deque[Task] = deque()
        self._running: dict[str, Task] = {}  # by worker
        self._deaths: Counter[str] = Counter()  # by run_id, since the run's last checkpoint
        self._done: set[str] = set()  # run_ids of those, in the tasks that run, that their workers are done with

    def next(self, worker: str) -> Task | None:
        """Return what the worker, by any name that is its own for this task, is to train; None where nothing waits.

        While tasks run there may be more to come: one of them may come again, or its end lead to another.
        """
        task = self._again.popleft() if self._again else self._ask()
        if task is not None:
            self._running[worker] = task
            self._done.difference_update(run.run_id for run in task.runs)  # paused, and comes again
        return task

    def note(self, event: Event) -> None:
        """Take in what a worker tells; a new checkpoint may lose workers again."""
        if event.is_last:
            self._done.add(event.run.run_id)
        elif isinstance(event, CheckpointSaved):
            del self._deaths[event.run.run_id]
        self._on_event(event)

    def end(self, worker: str, has_died: bool) -> None:
        """Take in that a worker is done with its task, or has died over it."""
        task = self._running.pop(worker)
        if not has_died:
            return
        left = [run for run in task.runs if run.run_id not in self._done]
        self._deaths.update(run.run_id for run in left)
        for run in left:
            if self._deaths[run.run_id] >= self._deaths_allowed:
                self._on_event(Lost(run, self._deaths_allowed))
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
    def has_more(self) -> bool:
        """Whether tasks run or wait."""
        return bool(self._running or self._again) or (self.error is None and self._search.has_more)

    def _ask(self) -> Task | None:
        if self.error is not None:
            return None
        try:
            return self._search.next()
        except Exception as error:  # raised into Tune, it would end the tasks that run
            self.error = error
            return None
