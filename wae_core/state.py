"""All that changes while a model trains: networks, optimisers, counters; to and from named tensors."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from wae_core.data import ImageData
from wae_core.device import memory_format
from wae_core.networks import AutoEncoder, LatentDiscriminator, build_autoencoder
from wae_core.randomness import Streams
from wae_core.run import Run

ADAM_BETAS = (0.5, 0.999)  # paper, Appendix C


class TrainingState:
    """A run's model in the middle of its training.

    Attributes:
        step: mini-batch steps done.
        train_seconds: wall time of these steps, those of earlier attempts included.
        autoencoder, discriminator: the networks; the discriminator is None except for WAE-GAN.
        optimisers: Adam for the auto-encoder and, for WAE-GAN, a second one for the discriminator.
        first_bad_step: 0-d int64 on the device, the first step whose loss was not finite, or −1. It stays on the
            device so that a step never waits for it.
    """

    def __init__(self, run: Run, data: ImageData, device: torch.device) -> None:
        hyperparameters, protocol = run.hyperparameters, run.protocol
        self.step = 0
        self.train_seconds = 0.0
        self.first_bad_step = torch.full((), -1, dtype=torch.int64, device=device)
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
            ).to(device, memory_format=memory_format(device))  # type: ignore[call-overload]
            self.discriminator = (
                LatentDiscriminator(hyperparameters.latent_dim, protocol.width).to(device)
                if run.algorithm == "wae-gan"
                else None
            )
        self.optimisers = [_adam(self.autoencoder, hyperparameters.learning_rate)]
        if self.discriminator is not None:
            assert hyperparameters.adversary_learning_rate is not None
            self.optimisers.append(_adam(self.discriminator, hyperparameters.adversary_learning_rate))

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the state by name, on the CPU and contiguous: what a training checkpoint holds."""
        return {
            name: tensor.detach().to("cpu", memory_format=torch.contiguous_format, copy=True)
            for name, tensor in self._named()
        }

    def load(self, tensors: dict[str, Tensor], step: int, train_seconds: float) -> None:
        """Take over a training checkpoint, in place.

        Raises:
            ValueError: a tensor is missing, unknown, or of another shape.
        """
        own = dict(self._named())
        if own.keys() != tensors.keys():
            raise ValueError(
                f"the checkpoint's tensors are not this run's: {sorted(own.keys() ^ tensors.keys())[:3]}"
            )
        with torch.no_grad():
            for name, tensor in own.items():
                if tensor.shape != tensors[name].shape:
                    raise ValueError(f"the checkpoint's tensor {name} has shape {list(tensors[name].shape)}")
                tensor.copy_(tensors[name])
        self.step = step
        self.train_seconds = train_seconds

    def _networks(self) -> list[nn.Module]:
        return [self.autoencoder] if self.discriminator is None else [self.autoencoder, self.discriminator]

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        yield "first_bad_step", self.first_bad_step
        prefixes = ("autoencoder", "discriminator")
        for prefix, network, optimiser in zip(prefixes, self._networks(), self.optimisers, strict=False):
            for name, tensor in network.state_dict(keep_vars=True).items():
                yield f"{prefix}.{name}", tensor
            for name, parameter in network.named_parameters():
                for moment, tensor in sorted(optimiser.state[parameter].items()):
                    yield f"adam.{prefix}.{name}.{moment}", tensor


def _adam(network: nn.Module, learning_rate: float) -> torch.optim.Adam:
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate, betas=ADAM_BETAS, fused=True)
    for parameter in network.parameters():
        # Adam would make its moments at the first step; made here, a state always has the same tensors.
        optimiser.state[parameter] = {
            "step": torch.zeros((), device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
    return optimiser
