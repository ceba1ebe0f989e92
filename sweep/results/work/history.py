"""What a training checkpoint says beside its tensors: whose it is, and what lies behind the run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from wae_core.evaluation.selection import Evaluation, select_checkpoint
from wae_core.run import Run
from wae_core.storage.checkpoint import CheckpointError


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
    fid_warning: str | None = None
    evaluations: tuple[Evaluation, ...] = ()

    @property
    def best(self) -> Evaluation | None:
        """The evaluation of the checkpoint that the run keeps, so far."""
        return select_checkpoint(self.evaluations)

    @property
    def seconds(self) -> float:
        """Device-seconds of training and evaluation."""
        return self.train_seconds + self.eval_seconds


@dataclass(frozen=True)
class Owner:
    """Whose training checkpoints they are: it stands in each, and no other's is read."""

    run_id: str
    run_sha256: str  # `Run.sha256`
    data_sha256: str

    @classmethod
    def of(cls, run: Run, data_sha256: str) -> Owner:
        """Return the owner of what is trained for `run` on these data."""
        return cls(run.run_id, run.sha256, data_sha256)


def take_apart(content: Any) -> tuple[Owner, History]:
    """Take the content of a training checkpoint apart, as `put_together` has made it, by way of JSON.

    Raises:
        CheckpointError: it is that of something else.
    """
    try:
        owner, plain = Owner(**content["owner"]), content["history"]
        evaluations = tuple(Evaluation(**evaluation) for evaluation in plain["evaluations"])
        history = History(**(plain | {"evaluations": evaluations}))
        datetime.fromisoformat(history.started_at)
        if type(history.step) is int and math.isfinite(history.seconds + history.cpu_seconds):
            return owner, history
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"it is not the content of a training checkpoint: {error}") from error
    raise CheckpointError("it is not the content of a training checkpoint")


def put_together(owner: Owner, history: History) -> dict[str, Any]:
    """Return what a training checkpoint holds beside the tensors."""
    return {"owner": asdict(owner), "history": asdict(history)}
