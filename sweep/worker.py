"""One run in one worker: train, score each checkpoint, keep the best, publish; go on where an attempt was killed."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import math
import socket
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import Tensor

from sweep.plan import Pack
from sweep.results import StudyFolder
from sweep.schema import COMPLETED, DIVERGED, FAILED, SCHEMA_VERSION, RunRow, evaluation_rows
from wae_core.checkpoint import newest_checkpoint, save_checkpoint, write_atomically
from wae_core.data import ImageData, load_dataset
from wae_core.device import describe, select_device
from wae_core.evaluation import Confirmation, Evaluator
from wae_core.features import load_features
from wae_core.figures import COLUMNS, FIGURES, figure, png
from wae_core.model_file import save_model
from wae_core.randomness import Streams
from wae_core.run import Run
from wae_core.selection import Evaluation, select_checkpoint
from wae_core.state import TrainingState
from wae_core.train import train

TRIES = 3  # after so many exceptions a run is `failed`
ATTEMPT = "attempt-"
BEST = "best.safetensors"


@dataclass(frozen=True)
class WorkerContext:
    """What a worker must know beside its pack."""

    results: Path
    data: Path
    inception: Path | None
    device: str
    git_commit: str


@dataclass(frozen=True)
class Progress:
    """What a worker tells the driver: a run's new evaluation, or its row when it has ended."""

    run: Run
    evaluation: Evaluation | None = None
    row: RunRow | None = None


@dataclass(frozen=True)
class _History:
    """What a run has behind it: the content of a training checkpoint, beside the tensors."""

    started_at: str  # of the first attempt that left a checkpoint; ISO 8601, UTC
    step: int = 0
    train_seconds: float = 0.0
    eval_seconds: float = 0.0
    cpu_seconds: float = 0.0
    fid_features: str | None = None
    fid_reference: str | None = None
    evaluations: tuple[Evaluation, ...] = ()


def train_pack(pack: Pack, context: WorkerContext) -> Iterator[Progress]:
    """Train every run of the pack to its end. A failure of one run is a row and does not stop the others."""
    for run in pack.runs:
        yield from _train_run(run, len(pack.runs), context)


def _train_run(run: Run, pack_size: int, context: WorkerContext) -> Iterator[Progress]:
    """Attempt the run, again after an exception, until it has a row."""
    folder = StudyFolder(context.results, run.study)
    work = folder.work(run.run_id)
    for tries_left in reversed(range(TRIES)):
        try:
            yield from _attempt(run, pack_size, folder, context)
            return
        except Exception as error:
            with contextlib.suppress(OSError):  # the disk may be what failed
                write_atomically(work / "traceback.txt", traceback.format_exc().encode())
            if tries_left == 0:
                reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
                yield Progress(run, row=publish_failure(run, pack_size, context, reason))


def publish_failure(run: Run, pack_size: int, context: WorkerContext, reason: str) -> RunRow:
    """Publish the run as failed, with what its checkpoints say that it had reached."""
    folder = StudyFolder(context.results, run.study)
    work = folder.work(run.run_id)
    history, _ = _resume(work)
    row = _row(run, pack_size, context, work, history, FAILED, reason, None)
    folder.publish(row, evaluation_rows(run, history.evaluations))
    return row


def _attempt(run: Run, pack_size: int, folder: StudyFolder, context: WorkerContext) -> Iterator[Progress]:
    """Train from the newest valid checkpoint of any attempt to the end, and publish the result."""
    work = folder.work(run.run_id)
    attempt_folder = _new_attempt(work)
    device = select_device(context.device)
    data, evaluator = _evaluator(run.protocol.dataset, run.protocol.fid_features, context)
    if not folder.real_images_file.exists():
        figures = asdict(evaluator.real_images(run.protocol.fid_samples))
        write_atomically(folder.real_images_file, json.dumps(figures, indent=1).encode())
    state = TrainingState(run, data, device)
    history, tensors = _resume(work)
    if tensors is not None:
        state.load(tensors, history.step, history.train_seconds)
    history = replace(history, fid_features=evaluator.features_name, fid_reference=evaluator.reference_name)
    cpu_origin = time.process_time() - history.cpu_seconds

    status, reason = COMPLETED, None
    for checkpoint in train(run, data, device, state):
        history = replace(history, step=state.step, train_seconds=state.train_seconds)
        if checkpoint.diverged_at is not None:
            status, reason = DIVERGED, f"the loss is not finite at step {checkpoint.diverged_at}"
            break
        began = time.perf_counter()
        evaluation = evaluator.evaluate(run, checkpoint, state.train_seconds)
        history = replace(
            history,
            evaluations=(*history.evaluations, evaluation),
            eval_seconds=history.eval_seconds + time.perf_counter() - began,
            cpu_seconds=time.process_time() - cpu_origin,
        )
        if not math.isfinite(evaluation.fid):
            status, reason = DIVERGED, f"the FID is not finite at step {checkpoint.step}"
            break
        save_checkpoint(attempt_folder / f"step-{state.step:09d}.safetensors", state.tensors(), asdict(history))
        yield Progress(run, evaluation=evaluation)

    began = time.perf_counter()
    best = select_checkpoint(history.evaluations)
    confirmation = None if best is None else _keep(run, data, evaluator, device, work, best.step)
    history = replace(
        history,
        eval_seconds=history.eval_seconds + time.perf_counter() - began,
        cpu_seconds=time.process_time() - cpu_origin,
    )
    row = _row(run, pack_size, context, work, history, status, reason, confirmation)
    folder.publish(row, evaluation_rows(run, history.evaluations))
    yield Progress(run, row=row)


def _new_attempt(work: Path) -> Path:
    """Create the folder of the next attempt; the folders that there are count the attempts."""
    work.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        path = work / f"{ATTEMPT}{number:03d}"
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path
    raise AssertionError("unreachable")


def _resume(work: Path) -> tuple[_History, dict[str, Tensor] | None]:
    """The newest checkpoint of any attempt that is valid, and so is its best one; or a history that begins now."""
    paths = sorted(work.glob(f"{ATTEMPT}*/step-*.safetensors"), key=lambda path: path.name, reverse=True)
    for path in paths:
        found = newest_checkpoint([path])
        if found is None:
            continue
        tensors, content = found
        evaluations = tuple(Evaluation(**evaluation) for evaluation in content.pop("evaluations"))
        best = select_checkpoint(evaluations)
        if best is None or newest_checkpoint(work.glob(_step_files(best.step))) is not None:
            return _History(**content, evaluations=evaluations), tensors
    return _History(datetime.now(UTC).isoformat()), None


def _step_files(step: int) -> str:
    return f"{ATTEMPT}*/step-{step:09d}.safetensors"


def _keep(
    run: Run, data: ImageData, evaluator: Evaluator, device: torch.device, work: Path, step: int
) -> Confirmation:
    """Write the best checkpoint and its figures to the run's folder, and score it on fresh samples."""
    found = newest_checkpoint(work.glob(_step_files(step)))
    if found is None:
        raise FileNotFoundError(f"no attempt at {run.run_id} has a valid checkpoint of step {step}")
    tensors, _ = found
    state = TrainingState(run, data, device)
    state.load(tensors, step, train_seconds=0.0)
    confirmation = evaluator.confirm(run, state.autoencoder, step)
    codes = Streams(run, device).normal((COLUMNS**2, run.hyperparameters.latent_dim), "figures", step, "samples")
    for name in FIGURES:
        picture = figure(name, state.autoencoder, data, codes * run.prior_variance**0.5)
        write_atomically(work / f"{name}.png", png(picture))
    save_model(work / BEST, run, data, step, tensors)
    return confirmation


def _row(
    run: Run,
    pack_size: int,
    context: WorkerContext,
    work: Path,
    history: _History,
    status: str,
    reason: str | None,
    confirmation: Confirmation | None,
) -> RunRow:
    best = select_checkpoint(history.evaluations)
    return RunRow(
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
        images_seen=history.step * run.hyperparameters.batch_size,
        train_seconds=history.train_seconds,
        eval_seconds=history.eval_seconds,
        cpu_seconds=history.cpu_seconds,
        device=_device_name(context.device),
        host=socket.gethostname(),
        attempts=sum(1 for _ in work.glob(f"{ATTEMPT}*")),
        pack_size=pack_size,
        git_commit=context.git_commit,
        started_at=datetime.fromisoformat(history.started_at),
        ended_at=datetime.now(UTC),
        checkpoint_path=f"work/{run.run_id}/{BEST}" if confirmation else None,
    )


def _device_name(name: str) -> str:
    try:
        return describe(select_device(name))
    except ValueError:  # a run may have failed for want of the device
        return name


@functools.lru_cache(maxsize=1)
def _evaluator(dataset: str, features: str, context: WorkerContext) -> tuple[ImageData, Evaluator]:
    """The data and the reference statistics, once per worker process."""
    device = select_device(context.device)
    data = load_dataset(dataset, context.data)
    return data, Evaluator(data, load_features(features, device, context.inception), device)
