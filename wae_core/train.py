"""The training loop, from top to bottom: the float32 reference that every faster path is tested against."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from wae_core import objectives
from wae_core.data import ImageData, to_float
from wae_core.device import end_step, memory_format, synchronize
from wae_core.mmd import mmd_squared
from wae_core.networks import AutoEncoder, LatentDiscriminator
from wae_core.randomness import Streams
from wae_core.run import Run
from wae_core.state import ADAM_BETAS, TrainingState

PRETRAINING_ENOUGH = 0.1  # the mismatch at which the authors' pre-training stops


@dataclass(frozen=True)
class Checkpoint:
    """A model at one of its evaluation steps.

    `loss` and `penalty` (MMD², −log D or KL, without λ) are means over the steps since the checkpoint before.
    `diverged_at` is the first step whose loss was not finite; such a checkpoint is the run's last.
    """

    step: int
    autoencoder: AutoEncoder
    loss: float
    penalty: float
    diverged_at: int | None


def train(run: Run, data: ImageData, device: torch.device, state: TrainingState) -> Iterator[Checkpoint]:
    """Train `run` from `state` on, in place, and yield it at each evaluation step.

    The networks are in training mode while the loop runs; whoever evaluates them in between may switch them to
    evaluation mode, the loop switches back. Nothing inside a step waits for the device.

    Raises:
        ValueError: the batch size exceeds the training images.
    """
    hyperparameters, protocol = run.hyperparameters, run.protocol
    if hyperparameters.batch_size > len(data.train):
        raise ValueError(
            f"batch_size {hyperparameters.batch_size} exceeds the {len(data.train)} images of {data.name}"
        )
    streams = Streams(run, device)
    images = data.train.to(device)
    began = time.perf_counter()
    if state.step == 0 and not run.is_stochastic:
        _pretrain(run, data, images, state, streams)

    sums = torch.zeros(2, device=device)  # of loss and penalty since the last checkpoint
    last_evaluation = state.step
    order = torch.empty(0, dtype=torch.int64)
    steps_per_epoch = len(images) // hyperparameters.batch_size
    state.autoencoder.train()
    for step in range(state.step + 1, protocol.steps + 1):
        epoch, position = divmod(step - 1, steps_per_epoch)
        if position == 0 or len(order) == 0:
            _set_learning_rates(run, state, epoch)
            order = streams.permutation(len(images), "train", epoch, "order")
        start = position * hyperparameters.batch_size
        x = to_float(images[order[start : start + hyperparameters.batch_size]], data.pixel_range)
        losses = _step(run, state, x.contiguous(memory_format=memory_format(device)), streams, step)
        state.first_bad_step = torch.where(
            (state.first_bad_step < 0) & ~losses[0].isfinite(), step, state.first_bad_step
        )
        sums += losses
        state.step = step
        end_step(device)
        if step in protocol.evaluation_steps:
            synchronize(device)
            state.train_seconds += time.perf_counter() - began
            loss, penalty = (sums / (step - last_evaluation)).tolist()
            bad_step = int(state.first_bad_step)
            yield Checkpoint(step, state.autoencoder, loss, penalty, bad_step if bad_step > 0 else None)
            if bad_step > 0:
                return
            state.autoencoder.train()
            sums.zero_()
            last_evaluation, began = step, time.perf_counter()


def _step(run: Run, state: TrainingState, x: Tensor, streams: Streams, step: int) -> Tensor:
    """One update on the batch x [n, C, H, W]; returns loss and penalty, [2], detached and on the device."""
    hyperparameters, protocol, model = run.hyperparameters, run.protocol, state.autoencoder
    code_shape = (len(x), hyperparameters.latent_dim)
    z_prior = streams.normal(code_shape, "train", step, "prior") * run.prior_variance**0.5
    noise = streams.normal(code_shape, "train", step, "encoder") if run.is_stochastic else z_prior
    mean, log_variance = model.encoder(_with_input_noise(run, x, streams, step))
    z_encoded = objectives.reparameterise(mean, log_variance, noise)

    if run.algorithm == "wae-gan":
        discriminator, wae_lambda = state.discriminator, hyperparameters.wae_lambda
        assert discriminator is not None and wae_lambda is not None
        discriminator.requires_grad_(True)
        logits_prior = _discriminate(run, discriminator, z_prior)
        logits_encoded = _discriminate(run, discriminator, z_encoded.detach())
        _descend(objectives.discriminator_loss(logits_prior, logits_encoded, wae_lambda), state.optimisers[1])
        discriminator.requires_grad_(False)
        penalty = objectives.adversarial_penalty(_discriminate(run, discriminator, z_encoded))
        loss = objectives.reconstruction_cost(x, model.images(z_encoded), protocol.cost_scale)
        loss = loss + wae_lambda * penalty
    elif run.algorithm == "wae-mmd":
        assert hyperparameters.kernel_scale is not None and hyperparameters.wae_lambda is not None
        penalty = mmd_squared(z_prior, z_encoded, kernel="imq_sum", scale=hyperparameters.kernel_scale)
        loss = objectives.reconstruction_cost(x, model.images(z_encoded), protocol.cost_scale)
        loss = loss + hyperparameters.wae_lambda * penalty
    else:
        assert hyperparameters.decoder_variance is not None and log_variance is not None
        penalty = objectives.gaussian_kl(mean, log_variance, run.prior_variance)
        if protocol.vae_likelihood == "bernoulli":
            loss = penalty + objectives.bernoulli_negative_log_likelihood(x, model.decoder(z_encoded))
        else:
            y = model.images(z_encoded)
            loss = penalty + objectives.gaussian_negative_log_likelihood(x, y, hyperparameters.decoder_variance)
    _descend(loss, state.optimisers[0])
    return torch.stack([loss.detach(), penalty.detach()])


def _discriminate(run: Run, discriminator: LatentDiscriminator, z: Tensor) -> Tensor:
    """D's logit [n] at z [n, d], with the prior's log density added where the protocol says so."""
    logits: Tensor = discriminator(z)
    return logits + objectives.log_prior(z, run.prior_variance) if run.protocol.log_prior else logits


def _set_learning_rates(run: Run, state: TrainingState, epoch: int) -> None:
    """Each drop divides the learning rates of all optimisers once its epoch is over."""
    divisor = math.prod(divisor for after, divisor in run.protocol.learning_rate_drops if epoch >= after)
    rates = (run.hyperparameters.learning_rate, run.hyperparameters.adversary_learning_rate)
    for optimiser, rate in zip(state.optimisers, rates, strict=False):
        assert rate is not None
        for group in optimiser.param_groups:
            group["lr"] = rate / divisor


def _descend(loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def _with_input_noise(run: Run, x: Tensor, streams: Streams, step: int) -> Tensor:
    """x plus Gaussian pixel noise, cut off at ±2σ, in front of a deterministic encoder (authors' code)."""
    if run.is_stochastic or run.protocol.input_noise == 0:
        return x
    noise = streams.truncated_normal(x.shape, "train", step, "input")
    return x + run.protocol.input_noise * noise


def _pretrain(run: Run, data: ImageData, images: Tensor, state: TrainingState, streams: Streams) -> None:
    """Move the encoder's code distribution to the prior's mean and covariance before the main stage (Section 4).

    Up to `pretraining_steps` Adam steps on the encoder alone, each on `pretraining_images` images.
    """
    protocol, encoder = run.protocol, state.autoencoder.encoder
    optimiser = torch.optim.Adam(encoder.parameters(), lr=run.hyperparameters.learning_rate, betas=ADAM_BETAS)
    for step in range(protocol.pretraining_steps):
        chosen = streams.permutation(len(images), "pretrain", step, "order")[: protocol.pretraining_images]
        mean, _ = encoder(to_float(images[chosen], data.pixel_range))
        loss = objectives.moment_mismatch(mean, run.prior_variance)
        _descend(loss, optimiser)
        # Reading the loss waits for the device, so it is read once in ten steps.
        if step % 10 == 9 and loss.item() < PRETRAINING_ENOUGH:
            break
