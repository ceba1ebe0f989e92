"""The fixed protocol: all configurations of a budget are drawn beforehand, and what is missing of them is trained."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence, Set

from sweep.events import Event, Task
from sweep.search.interface import Pack
from wae_core.run import Run


class FixedPlan:
    """The missing runs of a budget in packs, the longest first; it implements `Search`."""

    depends_on_order: str | None = None

    def __init__(self, runs: Sequence[Run], ended: Set[str], pack: Pack) -> None:
        """Take the runs of the budget.

        Args:
            ended: the run_ids that have a row.
            pack: asked once, when the first task is wanted.
        """
        self.runs = list(runs)
        self._missing = [run for run in runs if run.run_id not in ended]
        self._pack = pack
        self._tasks: deque[Task] = deque()

    @property
    def has_more(self) -> bool:
        return bool(self._missing or self._tasks)

    def next(self) -> Task | None:
        if self._missing:
            self._tasks.extend(self._pack(self._missing))
            self._missing = []
        return self._tasks.popleft() if self._tasks else None

    def note(self, event: Event) -> None:
        """Nothing of it changes the plan."""
