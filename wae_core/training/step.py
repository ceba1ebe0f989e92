"""A mini-batch step of a pack, which is the same for the device every time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from wae_core.algorithms import objectives
from wae_core.algorithms.algorithm import Batch, Networks
from wae_core.algorithms.registry import ALGORITHMS
from wae_core.data.images import ImageData, to_float
from wae_core.device import dtype, memory_format, tensor_cores
from wae_core.randomness import StepDraws, Streams
from wae_core.run import Run
from wae_core.training.members import Fused, Solo
from wae_core.training.state import TrainingState

PER_IMAGE = ("input", "encoder")  # the draws of which each image has its own


class Step:
    """The steps of a pack, one after the other.

    All that changes from one step to the next lies on the device, at the same place: the number of the step, the
    order of the images, the random draws, the learning rates, Adam's counters. So `take` launches the same operators
    with the same arguments each time. It can be captured once and replayed, and a compiler compiles it once.

    Attributes:
        members: the models.
        first_bad_step: [K], the first step whose loss was not finite, or −1.
        loss_sums: [K, 2], of loss and penalty since they were last set to 0.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        data: ImageData,
        images: Tensor,
        streams: Sequence[Streams],
        states: Sequence[TrainingState],
    ) -> None:
        """`images` are the training images on the device, and `streams` and `states` those of the runs."""
        run = runs[0]
        self.members = Solo(run, states[0]) if len(runs) == 1 else Fused(runs, states)
        self.first_bad_step = torch.stack([state.first_bad_step for state in states])
        self.loss_sums = torch.stack([state.loss_sums for state in states])
        self._runs, self._data, self._images, self._streams = runs, data, images, streams
        batch_size = run.hyperparameters.batch_size
        self._steps_per_epoch = len(images) // batch_size
        self._draws = StepDraws(streams, draw_shapes(run, data), dtype(run.protocol.precision))
        self._order = torch.zeros(
            len(runs), self._steps_per_epoch, batch_size, dtype=torch.int64, device=images.device
        )
        self._epoch: int | None = None  # whose order that is
        self._done = torch.full((1,), states[0].step, device=images.device)

    def prepare(self, step: int) -> None:
        """Make ready what the device needs for the step with that number: now and then, new orders and draws.

        Steps are prepared and taken in turn, from the states' own on.
        """
        self._draws.prepare(step)
        epoch = (step - 1) // self._steps_per_epoch
        if epoch == self._epoch:
            return
        self._epoch = epoch
        _set_learning_rates(self.members, self._runs, epoch)
        for own, order in zip(self._streams, self._order, strict=True):
            permutation = own.permutation(len(self._images), "train", epoch, "order")
            order.copy_(permutation[: order.numel()].view_as(order))

    def take(self) -> None:
        """Train every member on its next batch. Nothing here waits for the device."""
        run, device = self._runs[0], self._images.device
        part = self.members.group.part
        chosen = part(self._order.index_select(1, self._done % self._steps_per_epoch).squeeze(1), 1)
        x = to_float(self._images.index_select(0, chosen.flatten()), self._data.pixel_range)
        x = x.to(dtype(run.protocol.precision)).contiguous(memory_format=memory_format(device))
        # The noise of images and encoder is cut like the images; what the losses draw, they use with all codes.
        draws = {name: part(t, 1) if name in PER_IMAGE else t for name, t in self._draws.at(self._done).items()}
        batch = {"x": torch.unflatten(x, 0, chosen.shape), **draws}
        with tensor_cores(device, run.protocol.precision):
            losses = update(run, self.members, batch)
        self._done += 1
        is_first_bad = (self.first_bad_step < 0) & ~losses[:, 0].isfinite()
        self.first_bad_step.copy_(torch.where(is_first_bad, self._done, self.first_bad_step))
        self.loss_sums += losses


def update(run: Run, members: Solo | Fused, batch: Batch) -> Tensor:
    """One update of every member on its batch; returns loss and penalty, [K, 2], detached and on the device.

    `run` is any of the members: what is read of it, they share. batch: x [K, n, C, H, W] and, where they are
    needed, the input noise of x's shape, the encoder's noise [K, n, d] and the algorithm's own draws. Where several
    processes share the batch, x and the two noises are this one's part, and the figures those of the whole.
    """
    algorithm, protocol, group = ALGORITHMS[run.algorithm], run.protocol, members.group

    def encode(networks: Networks, batch: Batch) -> Batch:
        noisy = batch["x"] + protocol.input_noise * batch["input"] if "input" in batch else batch["x"]
        mean, log_variance = networks.encoder(noisy)
        if log_variance is None:
            return {"z_encoded": mean}
        z_encoded = objectives.reparameterise(mean, log_variance, batch["encoder"])
        return {"z_encoded": z_encoded, "mean": mean, "log_variance": log_variance}

    def decode(networks: Networks, batch: Batch) -> Tensor:
        return networks.decoder(batch["z_encoded"])

    def losses(networks: Networks, batch: Batch) -> Tensor:
        return torch.stack(algorithm.losses(protocol, networks, batch))

    if "z_prior" in batch:
        batch = batch | {"z_prior": batch["z_prior"] * run.prior_variance**0.5}
    encoded = members.each(encode, batch)
    codes = {name: group.gather(part, 1) for name, part in encoded.items()}
    if algorithm.adversary_loss is not None:
        judged = {"z_prior": batch["z_prior"], "z_encoded": codes["z_encoded"].detach()}
        adversary_losses = members.each(partial(algorithm.adversary_loss, protocol), judged)
        members.optimisers[1].descend(adversary_losses.sum())
    logits = members.each(decode, encoded)
    both: Tensor = members.each(losses, batch | codes | {"logits": logits})
    members.optimisers[0].descend(both[:, 0].sum())
    return group.mean(both.detach())


def draw_shapes(run: Run, data: ImageData) -> dict[str, tuple[int, ...]]:
    """The random numbers that one step of `run` needs, by purpose."""
    shapes = ALGORITHMS[run.algorithm].draws(run.hyperparameters)
    if run.is_stochastic:
        return shapes | {"encoder": (run.hyperparameters.batch_size, run.hyperparameters.latent_dim)}
    if run.protocol.input_noise > 0:
        return shapes | {"input": (run.hyperparameters.batch_size, *data.image_shape)}
    return shapes


def _set_learning_rates(members: Solo | Fused, runs: Sequence[Run], epoch: int) -> None:
    """Each drop divides the learning rates of all optimisers once its epoch is over."""
    divisor = math.prod(divisor for after, divisor in runs[0].protocol.learning_rate_drops if epoch >= after)
    for optimiser, name in zip(members.optimisers, ("learning_rate", "adversary_learning_rate"), strict=False):
        optimiser.set_learning_rate([getattr(run.hyperparameters, name) / divisor for run in runs])
