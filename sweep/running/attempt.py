"""One attempt at one run: from its newest checkpoint, over the evaluations, to the row that is published."""

from __future__ import annotations

import functools
import json
import math
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from sweep.results.folder import StudyFolder
from sweep.results.run_folder import BEST, History, RunFolder
from sweep.results.schema import COMPLETED, DIVERGED, FAILED, SCHEMA_VERSION, RunRow, evaluation_rows
from sweep.search.plan import Pack
from wae_core.data.images import ImageData, load_dataset
from wae_core.device import describe, select_device
from wae_core.evaluation.evaluator import Confirmation, Evaluator
from wae_core.evaluation.features import load_features
from wae_core.evaluation.selection import Evaluation
from wae_core.model_file import save_model
from wae_core.pictures import COLUMNS, PICTURES, picture, png
from wae_core.randomness import Streams
from wae_core.run import Run
from wae_core.storage.files import Location, write_atomically
from wae_core.training.loop import Checkpoint
from wae_core.training.state import TrainingState


@dataclass(frozen=True)
class WorkerContext:
    """What a worker must know beside its pack."""

    results: Location
    data: Path
    inception: Path | None
    device: str
    git_commit: str
    checkpoint_steps: int  # training steps between two checkpoints, where evaluations are further apart
    tries: int  # of a run that raises


@dataclass(frozen=True)
class Progress:
    """What a worker tells of a run: a checkpoint, with an evaluation or without, a pause, its row, or a problem."""

    run: Run
    evaluation: Evaluation | None = None
    rung_fid: float | None = None  # the best so far of a run that pauses at its rung
    row: RunRow | None = None
    problem: str | None = None  # for which the worker waits

    @property
    def is_last(self) -> bool:
        """Whether the worker has done what it was to do with the run."""
        return self.row is not None or self.rung_fid is not None


class Attempt:
    """A run on its way through a worker, alone or in a pack.

    Attributes:
        state: what is trained.
    """

    def __init__(self, run: Run, pack: Pack, pack_size: int, context: WorkerContext) -> None:
        """Begin an attempt, from the newest checkpoint of the earlier ones.

        Args:
            pack: says how far the run is to be trained.
            pack_size: how many runs are trained together, of the pack's.
        """
        self.run, self._pack, self._pack_size, self._context = run, pack, pack_size, context
        folder = StudyFolder(context.results, run.study)
        self._work = RunFolder(folder.work(run.run_id))
        history, tensors = self._work.resume()
        self._work.begin_attempt(history)
        self._device = select_device(context.device)
        self.data, self._evaluator = evaluator_of(run.protocol.dataset, run.protocol.fid_features, context)
        if not folder.real_images_file.exists():
            figures = asdict(self._evaluator.real_images(run.protocol.fid_samples))
            write_atomically(folder.real_images_file, json.dumps(figures, indent=1).encode())
        self.state = TrainingState(run, self.data, self._device)
        if tensors is not None:
            self.state.load(tensors, history.step, history.train_seconds)
        self._history = replace(
            history, fid_features=self._evaluator.features_name, fid_reference=self._evaluator.reference_name
        )
        self._status: str | None = None
        self._reason: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether it has diverged, or has come to where the pack's runs end or pause."""
        return self._status is not None or self.state.step >= self._pack.last_step

    def take(self, checkpoint: Checkpoint, training_cpu_seconds: float) -> Iterator[Progress]:
        """Score the checkpoint if it is an evaluation, and save it, or find that the run has diverged."""
        began, cpu_began = time.perf_counter(), time.process_time()
        history = replace(self._history, step=self.state.step, train_seconds=self.state.train_seconds)
        evaluation = None
        if checkpoint.is_evaluation and checkpoint.diverged_at is not None:
            self._status, self._reason = DIVERGED, f"the loss is not finite at step {checkpoint.diverged_at}"
        elif checkpoint.is_evaluation:
            evaluation = self._evaluator.evaluate(self.run, checkpoint, self.state.train_seconds)
            history = replace(history, evaluations=(*history.evaluations, evaluation))
            if not math.isfinite(evaluation.fid):
                self._status, self._reason = DIVERGED, f"the FID is not finite at step {checkpoint.step}"
        self._history = _with_time(history, began, cpu_began - training_cpu_seconds)
        if self._status is None:
            self._work.save(self.state.tensors(), self._history)
            yield Progress(self.run, evaluation=evaluation)

    def finish(self) -> Progress:
        """Pause at the rung; or keep the best checkpoint, score it on fresh samples, and publish the run."""
        if self._status is None and self._pack.pauses:
            best = self._history.best
            return Progress(self.run, rung_fid=best.fid if best else math.inf)
        began, cpu_began = time.perf_counter(), time.process_time()
        confirmation = None if self._history.best is None else self._keep(self._history.best.step)
        self._history = _with_time(self._history, began, cpu_began)
        status = self._status or COMPLETED
        reason = self._reason or self._pack.stopped_because
        row = _publish(self.run, self._pack_size, self._context, self._history, status, reason, confirmation)
        return Progress(self.run, row=row)

    def _keep(self, step: int) -> Confirmation:
        """Write the best checkpoint and its figures to the run's folder."""
        run, tensors = self.run, self._work.tensors_at(step)
        if tensors is None:
            raise FileNotFoundError(f"no attempt at {run.run_id} has a valid checkpoint of step {step}")
        self.state.load(tensors, step, train_seconds=self.state.train_seconds)
        model = self.state.autoencoder
        confirmation = self._evaluator.confirm(run, model, step)
        shape = (COLUMNS**2, run.hyperparameters.latent_dim)
        codes = Streams(run, self._device).normal(shape, "figures", step, "samples") * run.prior_variance**0.5
        for name in PICTURES:
            self._work.write(f"{name}.png", png(picture(name, model, self.data, codes)))
        save_model(self._work.path / BEST, run, self.data, step, tensors)
        return confirmation


def publish_failure(run: Run, pack_size: int, context: WorkerContext, reason: str) -> RunRow:
    """Publish the run as failed, with what its checkpoints say that it had reached."""
    history, _ = RunFolder(StudyFolder(context.results, run.study).work(run.run_id)).resume()
    return _publish(run, pack_size, context, history, FAILED, reason, None)


def _publish(
    run: Run,
    pack_size: int,
    context: WorkerContext,
    history: History,
    status: str,
    reason: str | None,
    confirmation: Confirmation | None,
) -> RunRow:
    folder, best = StudyFolder(context.results, run.study), history.best
    row = RunRow(
        schema_version=SCHEMA_VERSION,
        study=run.study,
        algorithm=run.algorithm,
        config_index=run.config_index,
        config_id=run.config_id,
        seed=run.seed,
        run_id=run.run_id,
        status=status,
        status_reason=reason,
        **asdict(run.hyperparameters),
        steps_planned=run.protocol.steps,
        steps_done=history.step,
        best_step=best.step if best else None,
        best_fid=best.fid if best else None,
        confirmed_fid=confirmation.fid if confirmation else None,
        fid_infinity=confirmation.fid_infinity if confirmation else None,
        best_sharpness=best.sharpness if best else None,
        best_reconstruction_error=best.reconstruction_error if best else None,
        fid_features=history.fid_features,
        fid_reference=history.fid_reference,
        fid_samples=run.protocol.fid_samples,
        precision=run.protocol.precision,
        images_seen=history.step * run.hyperparameters.batch_size,
        train_seconds=history.train_seconds,
        eval_seconds=history.eval_seconds,
        cpu_seconds=history.cpu_seconds,
        device=_device_name(context.device),
        host=socket.gethostname(),
        attempts=RunFolder(folder.work(run.run_id)).attempt_count,
        pack_size=pack_size,
        git_commit=context.git_commit,
        started_at=datetime.fromisoformat(history.started_at),
        ended_at=datetime.now(UTC),
        checkpoint_path=f"work/{run.run_id}/{BEST}" if confirmation else None,
    )
    folder.publish(row, evaluation_rows(run, history.evaluations))
    return row


def _with_time(history: History, began: float, cpu_began: float) -> History:
    """The history with the time since then, which went to evaluation, and to the CPU for whatever."""
    return replace(
        history,
        eval_seconds=history.eval_seconds + time.perf_counter() - began,
        cpu_seconds=history.cpu_seconds + time.process_time() - cpu_began,
    )


def _device_name(name: str) -> str:
    try:
        return describe(select_device(name))
    except ValueError:  # a run may have failed for want of the device
        return name


@functools.lru_cache(maxsize=1)
def evaluator_of(dataset: str, features: str, context: WorkerContext) -> tuple[ImageData, Evaluator]:
    """The data, on the device, and the reference statistics, once per worker process."""
    device = select_device(context.device)
    data = load_dataset(dataset, context.data).to(device)
    return data, Evaluator(data, load_features(features, device, context.inception), device)
