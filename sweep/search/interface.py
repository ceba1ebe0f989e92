"""What a schedule asks of others: new configurations, and which runs are trained together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from sweep.events import Task
from sweep.results.schema import RunRow
from wae_core.run import Run

Pack = Callable[[Sequence[Run]], list[Task]]  # splits runs into packs, the longest first


class Proposer(Protocol):
    """Where new configurations come from."""

    def propose(self, algorithm: str, index: int) -> list[Run]:
        """Return the runs of a new configuration, one for each of the study's seeds."""

    def note(self, row: RunRow) -> None:
        """Take in the row of a run that was proposed."""
