"""A run's working folder: its attempts and their training checkpoints, and what it keeps when it has ended."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor

from sweep.results.work.history import History, Owner, put_together, take_apart
from wae_core.run import RUN_ID
from wae_core.storage.checkpoint import CheckpointError, read_manifest, save_checkpoint, valid_checkpoints
from wae_core.storage.files import TEMPORARIES, Location, delete_folder, listed, read, write_atomically

ATTEMPT = re.compile(r"attempt-\d{3,}")  # folders; a copy that another program has made has other names
CHECKPOINT = re.compile(r"step-\d{9}\.safetensors")
START = "start.json"
BEST = "best.safetensors"


@dataclass(frozen=True)
class AttemptRecord:
    """How far an attempt brought its run, by its note at the start and its newest checkpoint."""

    attempt: str  # its folder's name
    started_at: str  # ISO 8601, UTC
    from_step: int
    to_step: int
    from_seconds: float  # as `History.seconds`
    to_seconds: float


class RunFolder:
    """`work/<run_id>/`: attempts never share a folder, so an orphan that writes on harms nobody.

    Attributes:
        foreign: checkpoints of other runs or other data that were found here, and not used.
    """

    def __init__(self, path: Location, owner: Owner | None = None) -> None:
        """Touch nothing.

        Args:
            path: the folder, as `StudyFolder.work` gives it.
            owner: whose checkpoints are read and written; None for who only counts or deletes.
        """
        self.path = path
        self._owner = owner
        self.foreign: list[Location] = []
        self._attempt: Location | None = None
        self._saved: list[History] = []  # of this attempt, the last two

    @property
    def attempt_count(self) -> int:
        """The number of times that the run was begun."""
        return len(self._attempts())

    def begin_attempt(self, history: History) -> None:
        """Create the folder of the next attempt, into which `save` writes, and note there where it starts from.

        Args:
            history: what `resume` has returned.

        Raises:
            OSError: the folder cannot be written.
        """
        for folder in (self.path.parent, self.path):  # work/, but not the study's folder, which may be gone
            folder.mkdir(exist_ok=True)
        for number in itertools.count(1):
            path = self.path / f"attempt-{number:03d}"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            self._attempt = path
            start = {
                "started_at": datetime.now(UTC).isoformat(),
                "step": history.step,
                "seconds": history.seconds,
            }
            write_atomically(path / START, json.dumps(start).encode())
            return

    def attempt_records(self) -> list[AttemptRecord]:
        """Return how far every attempt came that noted its start, whether it lives, ended or died."""
        records = []
        for path in self._attempts():
            try:
                started_at, step, seconds = _start(read(path / START))
            except (OSError, ValueError):
                continue  # it died before it had done anything
            reached = max(self._reached(path), (step, seconds))
            records.append(AttemptRecord(path.name, started_at, step, reached[0], seconds, reached[1]))
        return records

    def save(self, tensors: dict[str, Tensor], history: History) -> None:
        """Write a training checkpoint of this attempt, and delete those of it that nothing needs any more.

        The last two stay, since the newest may be found damaged, and the best of each.

        Args:
            tensors: contiguous CPU tensors by name.
            history: what lies behind the run at this checkpoint's step.

        Raises:
            OSError: the checkpoint cannot be written.
        """
        assert self._attempt is not None
        assert self._owner is not None
        save_checkpoint(self._checkpoint(history.step), tensors, put_together(self._owner, history))
        before = self._needed()
        self._saved = [*self._saved[-1:], history]
        for step in before - self._needed():
            self._checkpoint(step).unlink(missing_ok=True)
            self._checkpoint(step).with_suffix(".json").unlink(missing_ok=True)

    def resume(self) -> tuple[History, dict[str, Tensor] | None]:
        """Read the newest checkpoint of any attempt that is valid, as is its best one; returns (history, tensors).

        Where there is none, the history begins now and the tensors are None.
        """
        for tensors, history in self._own_checkpoints("*"):
            if history.best is None or self.tensors_at(history.best.step) is not None:
                return history, tensors
        return History(datetime.now(UTC).isoformat()), None

    def newest(self) -> History | None:
        """Read the newest whole manifest of any attempt, whose tensors may be damaged; None where there is none."""
        for path in sorted(self._checkpoints("*"), key=lambda path: path.name, reverse=True):
            with contextlib.suppress(CheckpointError):
                return self._own_history(path, read_manifest(path))
        return None

    def tensors_at(self, step: int) -> dict[str, Tensor] | None:
        """Read the tensors of any attempt's valid checkpoint of `step`; None where there is none."""
        return next((tensors for tensors, _ in self._own_checkpoints(f"{step:09d}")), None)

    def write(self, name: str, data: bytes) -> None:
        """Write a file beside the attempts.

        Raises:
            OSError: it cannot be written.
        """
        write_atomically(self.path / name, data)

    def delete_attempts(self) -> None:
        """Delete what an ended run needs no more: training checkpoints, and what a dead process left half written."""
        for path in self.path.glob("*"):
            if ATTEMPT.fullmatch(path.name):
                delete_folder(path)
            elif fnmatchcase(path.name, TEMPORARIES):
                path.unlink(missing_ok=True)

    def delete_best(self) -> None:
        """Delete the best checkpoint, of a model that is not among those that are kept; its pictures stay."""
        best = self.path / BEST
        best.with_suffix(".json").unlink(missing_ok=True)
        best.unlink(missing_ok=True)

    def _checkpoint(self, step: int) -> Location:
        assert self._attempt is not None
        return self._attempt / f"step-{step:09d}.safetensors"

    def _needed(self) -> set[int]:
        best = {history.best.step for history in self._saved if history.best}
        return best | {history.step for history in self._saved}

    def _reached(self, attempt: Location) -> tuple[int, float]:
        """Step and seconds of the newest checkpoint whose manifest is whole."""
        for path in reversed(listed(attempt, "step-*.safetensors")):
            with contextlib.suppress(CheckpointError):
                history = self._own_history(path, read_manifest(path))
                return history.step, history.seconds
        return 0, 0.0

    def _attempts(self) -> list[Location]:
        return [path for path in listed(self.path, "attempt-*") if ATTEMPT.fullmatch(path.name)]

    def _checkpoints(self, step: str) -> list[Location]:
        """The checkpoints of all attempts, of one step or of any ("*")."""
        found = listed(self.path, f"attempt-*/step-{step}.safetensors")
        return [path for path in found if ATTEMPT.fullmatch(path.parent.name) and CHECKPOINT.fullmatch(path.name)]

    def _own_checkpoints(self, step: str) -> Iterator[tuple[dict[str, Tensor], History]]:
        """Read those that are valid and this run's, the newest first."""
        for path, tensors, content in valid_checkpoints(self._checkpoints(step)):
            with contextlib.suppress(CheckpointError):
                history = self._own_history(path, content)
                yield tensors, history

    def _own_history(self, path: Location, content: Any) -> History:
        """The history in a checkpoint's content; of another run's checkpoint, which somebody has put here, none.

        Raises:
            CheckpointError: it is another run's, or of other data.
        """
        owner, history = take_apart(content)
        if owner.run_id != self.path.name or self._owner not in (None, owner):
            self.foreign.append(path)
            raise CheckpointError(f"checkpoint {path} is of another run, or of other data: {owner}")
        return history


def runs_with_attempts(work: Location) -> set[str]:
    """Return the run_ids whose folders in `work` hold attempts, or what a dead process left half written.

    Of thousands of ended runs these are few: one look into each folder finds them.
    """
    left = (path for path in work.glob("*/*") if ATTEMPT.fullmatch(path.name) or fnmatchcase(path.name, TEMPORARIES))
    return {path.parent.name for path in left if RUN_ID.fullmatch(path.parent.name)}


def _start(data: bytes) -> tuple[str, int, float]:
    """Take an attempt's note at its start apart; returns (started_at, step, seconds).

    Raises:
        ValueError: it is none.
    """
    try:
        note = json.loads(data)
        started_at, step, seconds = note["started_at"], note["step"], float(note["seconds"])
        datetime.fromisoformat(started_at)
    except (LookupError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError("it is not the note of an attempt") from error
    if type(step) is not int or not 0 <= step < 2**63 or not math.isfinite(seconds):
        raise ValueError("it is not the note of an attempt")
    return started_at, step, seconds
