"""What a launch asks of whatever decides what is trained next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from sweep.events import Event, Task
from sweep.results.schema import RunRow
from wae_core.run import Run

Pack = Callable[[Sequence[Run]], list[Task]]  # splits runs into packs, the longest first


class Search(Protocol):
    """The work of one launch.

    Attributes:
        runs: those of the budget that are planned, ended or not.
        depends_on_order: what is decided by which run ends first, in words; None where nothing is.
    """

    runs: list[Run]
    depends_on_order: str | None

    @property
    def has_more(self) -> bool:
        """Whether there is something to train beside what is being trained."""

    def next(self) -> Task | None:
        """Return what a free worker is to train; None where there is nothing, at least until something has ended."""

    def note(self, event: Event) -> None:
        """Take in what became of a run."""


class Proposer(Protocol):
    """Where new configurations come from."""

    def propose(self, algorithm: str, index: int) -> list[Run]:
        """Return the runs of a new configuration, one for each of the study's seeds."""

    def note(self, row: RunRow) -> None:
        """Take in the row of a run that was proposed."""
