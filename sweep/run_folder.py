"""A run's working folder: its attempts and their training checkpoints, and what it keeps when it has ended."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from torch import Tensor

from wae_core.checkpoint import newest_checkpoint, save_checkpoint, write_atomically
from wae_core.selection import Evaluation, select_checkpoint

ATTEMPT = "attempt-"
BEST = "best.safetensors"


@dataclass(frozen=True)
class History:
    """What a run has behind it: the content of a training checkpoint, beside the tensors."""

    started_at: str  # of the first attempt that left a checkpoint; ISO 8601, UTC
    step: int = 0
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    cpu_seconds: float = 0.0
    fid_features: str | None = None
    fid_reference: str | None = None
    evaluations: tuple[Evaluation, ...] = ()

    @property
    def best(self) -> Evaluation | None:
        """The evaluation of the checkpoint that the run keeps, so far."""
        return select_checkpoint(self.evaluations)


class RunFolder:
    """`work/<run_id>/`: attempts never share a folder, so an orphan that writes on harms nobody."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._attempt: Path | None = None

    @property
    def attempts(self) -> int:
        """How often the run was begun."""
        return sum(1 for _ in self.path.glob(f"{ATTEMPT}*"))

    def begin_attempt(self) -> None:
        """Create the folder of the next attempt, into which `save` writes."""
        self.path.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            path = self.path / f"{ATTEMPT}{number:03d}"
            try:
                path.mkdir()
            except FileExistsError:
                continue
            self._attempt = path
            return

    def save(self, tensors: dict[str, Tensor], history: History) -> None:
        """Write a training checkpoint of this attempt."""
        assert self._attempt is not None
        save_checkpoint(self._attempt / f"step-{history.step:09d}.safetensors", tensors, asdict(history))

    def resume(self) -> tuple[History, dict[str, Tensor] | None]:
        """The newest checkpoint of any attempt that is valid, as is its best one; or a history that begins now."""
        for path in sorted(self._checkpoints("*"), key=lambda path: path.name, reverse=True):
            found = newest_checkpoint([path])
            if found is None:
                continue
            tensors, content = found
            evaluations = tuple(Evaluation(**evaluation) for evaluation in content.pop("evaluations"))
            history = History(**content, evaluations=evaluations)
            if history.best is None or self.tensors_at(history.best.step) is not None:
                return history, tensors
        return History(datetime.now(UTC).isoformat()), None

    def tensors_at(self, step: int) -> dict[str, Tensor] | None:
        """Those of any attempt's valid checkpoint of `step`, if there is one."""
        found = newest_checkpoint(self._checkpoints(f"{step:09d}"))
        return None if found is None else found[0]

    def write(self, name: str, data: bytes) -> None:
        """Put a file beside the attempts."""
        write_atomically(self.path / name, data)

    def delete_attempts(self) -> None:
        """An ended run needs its training checkpoints no more, nor what a process that died has half written."""
        if not self.path.is_dir():
            return
        for path in list(self.path.iterdir()):  # of thousands of runs: one look into each folder
            if path.name.startswith(ATTEMPT):
                shutil.rmtree(path, ignore_errors=True)
            elif path.name.startswith(".") and path.name.endswith(".tmp"):
                path.unlink(missing_ok=True)

    def _checkpoints(self, step: str) -> list[Path]:
        return list(self.path.glob(f"{ATTEMPT}*/step-{step}.safetensors"))
