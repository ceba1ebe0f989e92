"""The training loop, from top to bottom, for one model or for a pack of models of equal shapes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from wae_core.algorithms import objectives
from wae_core.algorithms.algorithm import Batch, Networks
from wae_core.algorithms.registry import ALGORITHMS
from wae_core.data.images import ImageData, to_float
from wae_core.device import dtype, end_step, memory_format, synchronize, tensor_cores
from wae_core.randomness import StepDraws, Streams
from wae_core.run import Run
from wae_core.snapshot import Snapshot
from wae_core.training.adam import Adam
from wae_core.training.members import Fused, Solo
from wae_core.training.state import TrainingState

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
) -> Iterator[list[Snapshot]]:
    """Train the runs from their states on, in place, and yield all of them at each evaluation step.

    They are yielded at each multiple of `checkpoint_steps` as well, which changes nothing in what is trained.

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
    images = data.train.to(device)
    streams = [Streams(run, device) for run in runs]
    if states[0].step == 0 and not run.is_stochastic:
        for member, state, own in zip(runs, states, streams, strict=True):
            _pretrain(member, data, images, state, own)
    members = Solo(run, states[0]) if len(runs) == 1 else Fused(runs, states)
    draws = StepDraws(streams, _draw_shapes(run, data), dtype(protocol.precision))

    sums = torch.stack([state.loss_sums for state in states])
    first_bad_step = torch.stack([state.first_bad_step for state in states])
    last_evaluation = max((step for step in protocol.evaluation_steps if step <= states[0].step), default=0)
    order = torch.empty(len(runs), 0, dtype=torch.int64)
    steps_per_epoch = len(images) // batch_size
    _to_training_mode(states)
    for step in range(states[0].step + 1, protocol.steps + 1):
        epoch, position = divmod(step - 1, steps_per_epoch)
        if position == 0 or order.numel() == 0:
            _set_learning_rates(members.optimisers, runs, epoch)
            order = torch.stack([own.permutation(len(images), "train", epoch, "order") for own in streams])
        chosen = order[:, position * batch_size : (position + 1) * batch_size]
        x = to_float(images[chosen.flatten()], data.pixel_range).to(dtype(protocol.precision))
        x = x.contiguous(memory_format=memory_format(device)).unflatten(0, chosen.shape)  # type: ignore[no-untyped-call]
        with tensor_cores(device, protocol.precision):
            losses = _step(run, members, {"x": x, **draws.at(step)})
        first_bad_step = torch.where((first_bad_step < 0) & ~losses[:, 0].isfinite(), step, first_bad_step)
        sums += losses
        end_step(device)
        is_evaluation = step in protocol.evaluation_steps
        if is_evaluation or (checkpoint_steps is not None and step % checkpoint_steps == 0):
            members.write_back()
            synchronize(device)
            bad_steps = [bad if bad > 0 else None for bad in first_bad_step.tolist()]
            means = (sums / (step - last_evaluation)).tolist()
            if is_evaluation:
                last_evaluation = step
                sums.zero_()
            seconds = (time.perf_counter() - began) / len(runs)
            for state, bad, own_sums in zip(states, first_bad_step, sums, strict=True):
                state.first_bad_step.copy_(bad)
                state.loss_sums.copy_(own_sums)
                state.reach(step, state.train_seconds + seconds)
            yield [
                Snapshot(step, state.autoencoder, loss, penalty, bad, is_evaluation)
                for state, (loss, penalty), bad in zip(states, means, bad_steps, strict=True)
            ]
            if is_evaluation and None not in bad_steps:
                return
            _to_training_mode(states)
            began = time.perf_counter()


def _step(run: Run, members: Solo | Fused, batch: Batch) -> Tensor:
    """One update of every member on its batch; returns loss and penalty, [K, 2], detached and on the device.

    `run` is any of the members: what is read of it, they share. batch: x [K, n, C, H, W] and, where they are
    needed, the input noise of x's shape, the encoder's noise [K, n, d] and the algorithm's own draws.
    """
    algorithm, protocol = ALGORITHMS[run.algorithm], run.protocol

    def encode(networks: Networks, batch: Batch) -> Batch:
        noisy = batch["x"] + protocol.input_noise * batch["input"] if "input" in batch else batch["x"]
        mean, log_variance = networks.encoder(noisy)
        if log_variance is None:
            return {"z_encoded": mean}
        z_encoded = objectives.reparameterise(mean, log_variance, batch["encoder"])
        return {"z_encoded": z_encoded, "mean": mean, "log_variance": log_variance}

    def losses(networks: Networks, batch: Batch) -> Tensor:
        logits = networks.decoder(batch["z_encoded"])
        return torch.stack(algorithm.losses(protocol, networks, batch | {"logits": logits}))

    if "z_prior" in batch:
        batch = batch | {"z_prior": batch["z_prior"] * run.prior_variance**0.5}
    encoded = members.each(encode, batch)
    if algorithm.adversary_loss is not None:
        codes = {"z_prior": batch["z_prior"], "z_encoded": encoded["z_encoded"].detach()}
        adversary_losses = members.each(partial(algorithm.adversary_loss, protocol), codes)
        members.optimisers[1].descend(adversary_losses.sum())
    both: Tensor = members.each(losses, batch | encoded)
    members.optimisers[0].descend(both[:, 0].sum())
    return both.detach()


def _draw_shapes(run: Run, data: ImageData) -> dict[str, tuple[int, ...]]:
    """The random numbers that one step of `run` needs, by purpose."""
    shapes = ALGORITHMS[run.algorithm].draws(run.hyperparameters)
    if run.is_stochastic:
        return shapes | {"encoder": (run.hyperparameters.batch_size, run.hyperparameters.latent_dim)}
    if run.protocol.input_noise > 0:
        return shapes | {"input": (run.hyperparameters.batch_size, *data.image_shape)}
    return shapes


def _set_learning_rates(optimisers: Sequence[Adam], runs: Sequence[Run], epoch: int) -> None:
    """Each drop divides the learning rates of all optimisers once its epoch is over."""
    divisor = math.prod(divisor for after, divisor in runs[0].protocol.learning_rate_drops if epoch >= after)
    for optimiser, name in zip(optimisers, ("learning_rate", "adversary_learning_rate"), strict=False):
        rates = [getattr(run.hyperparameters, name) / divisor for run in runs]
        optimiser.learning_rate = torch.tensor(rates, device=optimiser.learning_rate.device)


def _to_training_mode(states: Sequence[TrainingState]) -> None:
    for state in states:
        state.autoencoder.train()


def _pretrain(run: Run, data: ImageData, images: Tensor, state: TrainingState, streams: Streams) -> None:
    """Move the encoder's code distribution to the prior's mean and covariance before the main stage (Section 4).

    Up to `pretraining_steps` Adam steps on the encoder alone, each on `pretraining_images` images.
    """
    protocol, encoder = run.protocol, state.autoencoder.encoder.train()
    optimiser = Adam(encoder.parameters(), torch.tensor([run.hyperparameters.learning_rate], device=images.device))
    for step in range(protocol.pretraining_steps):
        chosen = streams.permutation(len(images), "pretrain", step, "order")[: protocol.pretraining_images]
        mean, _ = encoder(to_float(images[chosen], data.pixel_range).to(dtype(protocol.precision)))
        loss = objectives.moment_mismatch(mean, run.prior_variance)
        optimiser.descend(loss)
        # Reading the loss waits for the device, so it is read once in ten steps.
        if step % 10 == 9 and loss.item() < PRETRAINING_ENOUGH:
            break
