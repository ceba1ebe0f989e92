"""The training loop, from top to bottom, for one model or for a pack of models of equal shapes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from copy import deepcopy

import torch
from torch import Tensor

from wae_core.algorithms import objectives
from wae_core.data.images import ImageData, to_float
from wae_core.device import dtype, eager_device, end_step, synchronize
from wae_core.randomness import Streams
from wae_core.run import Run
from wae_core.snapshot import Snapshot
from wae_core.training.adam import Adam
from wae_core.training.replay import Replayed
from wae_core.training.state import TrainingState
from wae_core.training.step import Step

PRETRAINING_ENOUGH = 0.1  # the mismatch at which the authors' pre-training stops


def train(run: Run, data: ImageData, device: torch.device, state: TrainingState) -> Iterator[Snapshot]:
    """Train one run from `state` on: `train_pack` of a pack of one."""
    for (checkpoint,) in train_pack([run], data, device, [state]):
        yield checkpoint


def train_pack(
    runs: Sequence[Run],
    data: ImageData,
    device: torch.device,
    states: Sequence[TrainingState],
    checkpoint_steps: int | None = None,
    is_captured: bool = False,
) -> Iterator[list[Snapshot]]:
    """Train the runs from their states on, in place, and yield all of them at each evaluation step.

    They are yielded at each multiple of `checkpoint_steps` as well, which changes nothing in what is trained.
    Neither does it whether the step `is_captured` as a CUDA graph, on a device that has them.

    The runs differ in nothing but seed, learning rates and the scalars of the objective; their states are at the
    same step. The networks are in training mode while the loop runs; whoever evaluates them in between may switch
    them to evaluation mode, the loop switches back. Nothing inside a step waits for the device. A pack's time is
    shared out among its members. It ends with the last step, or where every member has diverged.

    Raises:
        ValueError: the batch size exceeds the training images.
    """
    run, began = runs[0], time.perf_counter()
    protocol, batch_size = run.protocol, run.hyperparameters.batch_size
    if batch_size > len(data.train):
        raise ValueError(f"batch_size {batch_size} exceeds the {len(data.train)} images of {data.name}")
    for state in states:
        state.follow()
    images = data.train.to(device)
    streams = [Streams(run, device) for run in runs]
    if states[0].step == 0 and not run.is_stochastic:
        for member, state, own in zip(runs, states, streams, strict=True):
            _pretrain(member, data, images, state, own)
    step_of_all = Step(runs, data, images, streams, states)
    take = Replayed(step_of_all.take) if is_captured else step_of_all.take
    last_evaluation = max((step for step in protocol.evaluation_steps if step <= states[0].step), default=0)
    _to_training_mode(states)
    for step in range(states[0].step + 1, protocol.steps + 1):
        step_of_all.prepare(step)
        end_step(device)  # what came between two steps, now and then, is a program of its own
        take()
        end_step(device)
        is_evaluation = step in protocol.evaluation_steps
        if is_evaluation or (checkpoint_steps is not None and step % checkpoint_steps == 0):
            step_of_all.members.write_back()
            synchronize(device)
            bad_steps = [bad if bad > 0 else None for bad in step_of_all.first_bad_step.tolist()]
            means = (step_of_all.loss_sums.to(eager_device(device)) / (step - last_evaluation)).tolist()
            if is_evaluation:
                last_evaluation = step
                step_of_all.loss_sums.zero_()
            seconds = (time.perf_counter() - began) / len(runs)
            for state, bad, sums in zip(states, step_of_all.first_bad_step, step_of_all.loss_sums, strict=True):
                state.first_bad_step.copy_(bad)
                state.loss_sums.copy_(sums)
                state.reach(step, state.train_seconds + seconds)
            yield [
                Snapshot(step, state.autoencoder, loss, penalty, bad, is_evaluation)
                for state, (loss, penalty), bad in zip(states, means, bad_steps, strict=True)
            ]
            if is_evaluation and None not in bad_steps:
                return
            _to_training_mode(states)
            began = time.perf_counter()


def _to_training_mode(states: Sequence[TrainingState]) -> None:
    for state in states:
        state.autoencoder.train()


def _pretrain(run: Run, data: ImageData, images: Tensor, state: TrainingState, streams: Streams) -> None:
    """Move the encoder's code distribution to the prior's mean and covariance before the main stage (Section 4).

    Up to `pretraining_steps` Adam steps on the encoder alone, each on `pretraining_images` images.
    """
    # A copy is trained: Adam moves its parameters into a buffer of its own, and the state's have their place already.
    protocol, encoder = run.protocol, deepcopy(state.autoencoder.encoder).train()
    group, rate = state.group, torch.tensor([run.hyperparameters.learning_rate], device=images.device)
    optimiser = Adam(encoder.parameters(), rate, group)
    for step in range(protocol.pretraining_steps):
        chosen = streams.permutation(len(images), "pretrain", step, "order")[: protocol.pretraining_images]
        mean, _ = encoder(to_float(images[group.part(chosen)], data.pixel_range).to(dtype(protocol.precision)))
        loss = objectives.moment_mismatch(group.gather(mean), run.prior_variance)
        optimiser.descend(loss)
        end_step(images.device)
        # Reading the loss waits for the device, so it is read once in ten steps.
        if step % 10 == 9 and group.mean(loss.detach()).item() < PRETRAINING_ENOUGH:
            break
    state.autoencoder.encoder.load_state_dict(encoder.state_dict())
