"""What the rooms tell each other: a search hands out tasks, workers tell events, observers read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sweep.results.schema import RescoreRow, RunRow
from wae_core.evaluation.selection import Evaluation
from wae_core.run import Run
from wae_core.storage.files import Location


@dataclass(frozen=True)
class Task:
    """Runs of equal tensor shapes that one worker trains together (a pack), and how far.

    Attributes:
        until: the step at which they pause; None for their last.
        stopped_because: why they end there and do not pause, short of their last step.
    """

    runs: tuple[Run, ...]
    until: int | None = None
    stopped_because: str | None = None

    @property
    def last_step(self) -> int:
        """The step with which the training of this task ends."""
        return self.until or self.runs[0].protocol.steps

    @property
    def pauses(self) -> bool:
        """Whether the runs are left unfinished, for the scheduler's decision."""
        return self.last_step < self.runs[0].protocol.steps and self.stopped_because is None


@dataclass(frozen=True)
class WorkerContext:
    """What a worker must know beside its task.

    Attributes:
        results: the results folder, which holds the study's.
        data: the folder of packed data sets.
        data_sha256: the identity of the study's data set; a worker that finds another trains nothing.
        inception: the file of Inception's weights, for studies that score with it.
        data_source: a folder like `data`, from which a node fetches what it lacks of data and weights; None: nowhere.
        device: cpu, cuda or xla.
        checkpoint_steps: training steps between two checkpoints, where evaluations are further apart.
        captured: the architectures whose training step is captured as a CUDA graph.
        accelerators_per_run: how many processes share the batches of a run, the worker among them.
    """

    results: Location
    data: Path
    data_sha256: str
    inception: Path | None
    device: str
    git_commit: str
    checkpoint_steps: int
    captured: frozenset[str] = field(default=frozenset(), compare=False)  # what is loaded serves for all
    accelerators_per_run: int = 1
    data_source: Location | None = None


@dataclass(frozen=True)
class Event:
    """Something that became of a run."""

    run: Run

    @property
    def is_last(self) -> bool:
        """Whether the worker has done what it was to do with the run."""
        return isinstance(self, Paused | Ended | Rescored | NotRescored | Raised)


@dataclass(frozen=True)
class Started(Event):
    """A worker was given the run."""


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """A training checkpoint is on the disk, from which the run can go on."""


@dataclass(frozen=True)
class Evaluated(CheckpointSaved):
    """A checkpoint was scored, and saved."""

    evaluation: Evaluation


@dataclass(frozen=True)
class Paused(Event):
    """The run has come to its rung and waits for the scheduler's decision.

    Attributes:
        best_fid: the lowest so far; infinite where none was finite.
    """

    best_fid: float


@dataclass(frozen=True)
class Ended(Event):
    """The run has its row."""

    row: RunRow


@dataclass(frozen=True)
class Rescored(Event):
    """The stored model of the run was scored again."""

    row: RescoreRow


@dataclass(frozen=True)
class NotRescored(Event):
    """The stored model of the run could not be scored again, for the reason that `sentence` gives."""

    sentence: str


@dataclass(frozen=True)
class Raised(Event):
    """The run, or one that was trained with it, has ended in an exception, and the worker has let it go."""

    reason: str


@dataclass(frozen=True)
class GivenUp(Event):
    """The run is not tried again, for the reason given.

    Attributes:
        host: the machine that tried it last.
    """

    reason: str
    host: str


@dataclass(frozen=True)
class Problem(Event):
    """A worker waits, or left something out, for the reason that `sentence` gives."""

    sentence: str


class Observer(Protocol):
    """Who wants to know what becomes of the runs."""

    def note(self, event: Event) -> None:
        """Take in an event; it is called in the driver's main thread, in the order in which events come."""


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
