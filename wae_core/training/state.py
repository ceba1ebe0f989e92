"""All that changes while a model trains: networks, optimisers, counters; to and from named tensors."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from wae_core.algorithms.registry import ALGORITHMS
from wae_core.data.images import ImageData
from wae_core.device import dtype, memory_format
from wae_core.networks import AutoEncoder, LatentDiscriminator, build_autoencoder
from wae_core.networks.layers import BatchNorm2d
from wae_core.randomness import Streams
from wae_core.run import Run
from wae_core.training.adam import Adam
from wae_core.training.sharding import ALONE, Group


class TrainingState:
    """A run's model in the middle of its training.

    Attributes:
        step: mini-batch steps done.
        train_seconds: wall time of these steps, those of earlier attempts included.
        autoencoder, discriminator: the networks; the discriminator is None where the algorithm has no adversary.
        optimisers: Adam for the auto-encoder and, where there is one, a second one for the discriminator.
        first_bad_step: 0-d int64 on the device, the first step whose loss was not finite, or −1. It stays on the
            device so that a step never waits for it.
        loss_sums: [2] on the device, of loss and penalty over the steps since the last evaluation.
        group: the processes that train this model, each of which has a state of it.
    """

    def __init__(self, run: Run, data: ImageData, device: torch.device, group: Group = ALONE) -> None:
        hyperparameters, protocol = run.hyperparameters, run.protocol
        self.group = group
        self.step = 0
        self.train_seconds = 0.0
        self.first_bad_step = torch.full((), -1, dtype=torch.int64, device=device)
        self.loss_sums = torch.zeros(2, dtype=dtype(protocol.precision), device=device)
        # Initialisers draw from torch's global generator, so that one is lent to this run while they do.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(Streams(run, torch.device("cpu")).generator("init", 0, "weights").initial_seed())
            self.autoencoder: AutoEncoder = build_autoencoder(
                hyperparameters.architecture,
                data.image_shape,
                data.pixel_range,
                latent_dim=hyperparameters.latent_dim,
                width=protocol.width,
                stochastic=run.is_stochastic,
                batch_norm=run.algorithm not in protocol.without_batch_norm,
            ).to(device, dtype(protocol.precision), memory_format=memory_format(device))  # type: ignore[call-overload]
            self.discriminator = (
                LatentDiscriminator(hyperparameters.latent_dim, protocol.width).to(device, dtype(protocol.precision))
                if ALGORITHMS[run.algorithm].has_adversary
                else None
            )
        if group.size > 1:
            for layer in self.autoencoder.modules():
                if isinstance(layer, BatchNorm2d):
                    layer.gather = group.gather
        rates = (hyperparameters.learning_rate, hyperparameters.adversary_learning_rate)
        self.optimisers = [
            Adam(network.parameters(), torch.tensor([rate], device=device), group)
            for network, rate in zip(self.networks().values(), rates, strict=False)
        ]

    def named(self) -> dict[str, Tensor]:
        """Every tensor of the state by name: weights, buffers, Adam's moments; training changes these very ones."""
        return dict(self._named())

    def tensors(self) -> dict[str, Tensor]:
        """A copy of `named`, on the CPU and contiguous: what a training checkpoint holds."""
        return {
            name: tensor.detach().to("cpu", memory_format=torch.contiguous_format, copy=True)
            for name, tensor in self._named()
        }

    def load(self, tensors: dict[str, Tensor], step: int, train_seconds: float) -> None:
        """Take over a training checkpoint, in place and whole.

        Raises:
            ValueError: a tensor is missing, unknown, or of another shape; nothing was taken over.
        """
        own = self.named()
        if own.keys() != tensors.keys():
            raise ValueError(
                f"the checkpoint's tensors are not this run's: {sorted(own.keys() ^ tensors.keys())[:3]}"
            )
        for name, tensor in own.items():
            if tensor.shape != tensors[name].shape:
                raise ValueError(f"the checkpoint's tensor {name} has shape {list(tensors[name].shape)}")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(tensors[name])
        self.reach(step, train_seconds)

    def follow(self) -> None:
        """Take over the state of the group's first process, which alone reads checkpoints."""
        if self.group.size > 1:
            tensors = {name: self.group.first(tensor) for name, tensor in self._named()}
            step = int(self.group.first(torch.tensor([self.step], device=self.first_bad_step.device)))
            self.load(tensors, step, self.train_seconds)

    def reach(self, step: int, train_seconds: float) -> None:
        """Set the counters, of the optimisers as well: each of them updates once a step."""
        self.step = step
        self.train_seconds = train_seconds
        for optimiser in self.optimisers:
            optimiser.steps.fill_(step)

    def networks(self) -> dict[str, nn.Module]:
        """The networks by the name that their tensors' names begin with."""
        networks: dict[str, nn.Module] = {"autoencoder": self.autoencoder}
        return networks if self.discriminator is None else networks | {"discriminator": self.discriminator}

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        yield "first_bad_step", self.first_bad_step
        yield "loss_sums", self.loss_sums
        for (prefix, network), optimiser in zip(self.networks().items(), self.optimisers, strict=True):
            for name, tensor in network.state_dict(keep_vars=True).items():
                yield f"{prefix}.{name}", tensor
            names = [name for name, _ in network.named_parameters()]
            for moment in ("first_moments", "second_moments"):
                for name, tensor in zip(names, getattr(optimiser, moment), strict=True):
                    yield f"adam.{prefix}.{name}.{moment}", tensor
