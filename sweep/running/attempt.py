"""One attempt at one run: from its newest checkpoint, over the evaluations, to the row that is published."""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace

import torch

from sweep.events import CheckpointSaved, Ended, Evaluated, Event, Paused, Task, WorkerContext
from sweep.results.folder import StudyFolder
from sweep.results.schema import COMPLETED, DIVERGED
from sweep.results.work.history import History
from sweep.results.work.run_folder import BEST, RunFolder
from sweep.running.publishing import publish, run_folder
from sweep.running.staging.node import data_folder, weights_file
from wae_core.data.images import ImageData, load_dataset
from wae_core.device import eager_device, select_device
from wae_core.evaluation.evaluator import Confirmation, Evaluator
from wae_core.evaluation.features import load_features
from wae_core.model_file import save_model
from wae_core.names import COLUMNS, PICTURES
from wae_core.pictures import picture, png
from wae_core.protocol import Protocol
from wae_core.randomness import Streams
from wae_core.run import Run
from wae_core.snapshot import Snapshot
from wae_core.storage.files import write_atomically
from wae_core.storage.transfer import Say
from wae_core.training.sharding import Group
from wae_core.training.state import TrainingState


@dataclass(frozen=True)
class Equipment:
    """What a worker has for every run of a study: its device, the images there, and what scores checkpoints.

    Attributes:
        notices: what a person should know of how it was got, until somebody has been told.
    """

    device: torch.device
    data: ImageData
    evaluator: Evaluator
    notices: list[str]


class Attempt:
    """A run on its way through a worker, alone or in a pack; `begin_attempt` makes one.

    Attributes:
        state: what is trained.
        notice: what a person should know of its beginning; empty where there is nothing.
    """

    def __init__(
        self,
        run: Run,
        task: Task,
        pack_size: int,
        context: WorkerContext,
        equipment: Equipment,
        work: RunFolder,
        state: TrainingState,
        history: History,
    ) -> None:
        """Take what has been prepared.

        Args:
            task: says how far the run is to be trained.
            pack_size: how many of the task's runs are trained together.
            work: the run's folder, in which this attempt has begun.
            history: what the run has behind it.
        """
        self.run, self.state, self.equipment = run, state, equipment
        self._task, self._pack_size, self._context, self._work = task, pack_size, context, work
        self._evaluator = equipment.evaluator
        self._history = replace(
            history,
            fid_features=self._evaluator.features_name,
            fid_reference=self._evaluator.reference_name,
            fid_warning=self._evaluator.warning(run.protocol.fid_samples),
        )
        notices = [*equipment.notices]
        equipment.notices.clear()
        if work.foreign:
            notices.append(f"{work.path} holds {len(work.foreign)} checkpoints of another run: they are not used")
        self.notice = "; ".join(notices)
        self._status: str | None = None
        self._reason: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether it has diverged, or has come to where the task's runs end or pause."""
        return self._status is not None or self.state.step >= self._task.last_step

    def take(self, checkpoint: Snapshot, training_cpu_seconds: float) -> Iterator[Event]:
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
            yield CheckpointSaved(self.run) if evaluation is None else Evaluated(self.run, evaluation)

    def finish(self) -> Event:
        """Pause at the rung; or keep the best checkpoint, score it on fresh samples, and publish the run."""
        if self._status is None and self._task.pauses:
            best = self._history.best
            return Paused(self.run, best.fid if best else math.inf)
        began, cpu_began = time.perf_counter(), time.process_time()
        confirmation = None if self._history.best is None else self._keep(self._history.best.step)
        self._history = _with_time(self._history, began, cpu_began)
        status = self._status or COMPLETED
        reason = self._reason or self._task.stopped_because
        row = publish(self.run, self._pack_size, self._context, self._history, status, reason, confirmation)
        return Ended(self.run, row)

    def _keep(self, step: int) -> Confirmation:
        """Write the best checkpoint and its figures to the run's folder."""
        run, tensors = self.run, self._work.tensors_at(step)
        if tensors is None:
            raise FileNotFoundError(f"no attempt at {run.run_id} has a valid checkpoint of step {step}")
        self.state.load(tensors, step, train_seconds=self.state.train_seconds)
        model = self.state.autoencoder
        confirmation = self._evaluator.confirm(run, model, step)
        shape = (COLUMNS**2, run.hyperparameters.latent_dim)
        codes = (
            Streams(run, self.equipment.device).normal(shape, "figures", step, "samples") * run.prior_variance**0.5
        )
        for name in PICTURES:
            self._work.write(f"{name}.png", png(picture(name, model, self.equipment.data, codes)))
        save_model(self._work.path / BEST, run, self.equipment.data, step, tensors)
        return confirmation


def begin_attempt(run: Run, task: Task, pack_size: int, context: WorkerContext) -> Attempt:
    """Begin an attempt at a run, from the newest checkpoint of the earlier ones."""
    folder, work = StudyFolder(context.results, run.study), run_folder(run, context)
    history, tensors = work.resume()
    work.begin_attempt(history)
    equipment = equipment_for(run.protocol, context)
    _score_real_images(folder, run, equipment.evaluator)
    state = TrainingState(run, equipment.data, equipment.device, Group(0, context.accelerators_per_run))
    if tensors is not None:
        state.load(tensors, history.step, history.train_seconds)
    return Attempt(run, task, pack_size, context, equipment, work, state, history)


def _with_time(history: History, began: float, cpu_began: float) -> History:
    """The history with the time since then, which went to evaluation, and to the CPU for whatever."""
    return replace(
        history,
        eval_seconds=history.eval_seconds + time.perf_counter() - began,
        cpu_seconds=history.cpu_seconds + time.process_time() - cpu_began,
    )


def equipment_for(protocol: Protocol, context: WorkerContext) -> Equipment:
    """Return what runs under this protocol need of `equipment_of`."""
    reference = (protocol.fid_reference, protocol.fid_reference_images)
    return equipment_of(protocol.dataset, protocol.fid_features, context, *reference)


@functools.lru_cache(maxsize=1)
def equipment_of(
    dataset: str, features: str, context: WorkerContext, split: str = "held_out", count: int | None = None
) -> Equipment:
    """Return the device, its images and the reference statistics, which are made once per worker process.

    Args:
        split, count: of the images that FIDs are measured against, as `Evaluator` has them.

    Raises:
        OtherDataError: the data set or the weights are not those of the sweep, and cannot be fetched.
    """
    notices: list[str] = []
    device, data = images_of(dataset, context, notices.append)
    weights = weights_file(context, notices.append) if features == "inception" else None
    network = load_features(features, device, weights)
    return Equipment(device, data.to(device), Evaluator(data, network, device, split, count), notices)


def images_of(dataset: str, context: WorkerContext, say: Say = print) -> tuple[torch.device, ImageData]:
    """Return the device, and the data set on its `eager_device`.

    Args:
        say: is told if the data set is fetched.

    Raises:
        OtherDataError: the data set is not the one that the sweep began with, and that one cannot be fetched.
    """
    device = select_device(context.device)
    return device, load_dataset(dataset, data_folder(dataset, context, say)).to(eager_device(device))


def _score_real_images(folder: StudyFolder, run: Run, evaluator: Evaluator) -> None:
    """Keep, once a study, the figures beside which its models' can be read."""
    if not folder.real_images_file.exists():
        figures = asdict(evaluator.real_images(run.protocol.fid_samples))
        write_atomically(folder.real_images_file, json.dumps(figures, indent=1).encode())
