"""FLOPs of training and evaluating a run, from the shapes of its layers: no data is needed.

A multiply-add counts as two. Counted are the convolutions and linear layers of all networks and the matrix products
of the MMD and of the pre-training, forward and backward. Left out are elementwise work (activations, batch norm,
noise, Adam), random numbers, figures, and the float64 algebra of the Fréchet distance.

The tests compare with torch.utils.flop_counter over real steps. It is not used here, since it imports
torch._dynamo: more than a second at the start of every launch.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from wae_core.algorithms.mmd import mmd_flops
from wae_core.algorithms.registry import ALGORITHMS
from wae_core.evaluation.evaluator import MMD_SAMPLES
from wae_core.evaluation.features import network_for
from wae_core.networks import ARCHITECTURES, LatentDiscriminator
from wae_core.run import Run

Shape = tuple[int, int, int]
# Channels up to which networks are built in earnest. Wider ones are shapes alone, since they may be larger than the
# memory; torch takes 2 s to load what that needs.
WIDEST_BUILT = 256


class _Network(NamedTuple):
    """FLOPs of one image's, or one code's, way through a network.

    Of each layer the gradient of its weights costs as much as its forward pass, and that of its input once more.
    """

    forward: int
    first_layer: int  # forward: the part whose input's gradient nobody asks for, where the input is data

    @property
    def learning_from_data(self) -> int:
        return 3 * self.forward - self.first_layer


def run_flops(run: Run, image_shape: Shape) -> int:
    """FLOPs of a whole run: pre-training at its longest, every step, every evaluation, and the confirmation.

    Args:
        image_shape: (C, H, W) of the data set.

    Raises:
        ValueError: unknown architecture or feature network, or one whose package is not installed.
    """
    return work_flops(run, image_shape, run.protocol.steps, len(run.protocol.evaluation_steps), confirmations=1)


def work_flops(run: Run, image_shape: Shape, steps: int, evaluations: int, confirmations: int) -> int:
    """FLOPs of a part of a run that begins with its pre-training, at its longest.

    Raises:
        ValueError: as `run_flops` does.
    """
    return (
        pretraining_flops(run, image_shape)
        + steps * step_flops(run, image_shape)
        + evaluations * evaluation_flops(run, image_shape)
        + confirmations * confirmation_flops(run, image_shape)
    )


def show_flops(flops: float) -> str:
    """Four digits and the unit: 1384348829690207523840 is 1.384 ZFLOP."""
    value, prefixes = float(flops), iter(" kMGTPEZYR")
    prefix = next(prefixes)
    while value >= 999.95:
        value, prefix = value / 1000, next(prefixes)
    return f"{value:#.4g} {prefix}FLOP"


def step_flops(run: Run, image_shape: Shape) -> int:
    """FLOPs of one training step, forward and backward through every network on one batch."""
    n, d = run.hyperparameters.batch_size, run.hyperparameters.latent_dim
    algorithm = ALGORITHMS[run.algorithm]
    networks = n * (_encoder(run, image_shape).learning_from_data + 3 * _decoder(run, image_shape))
    if algorithm.has_adversary:
        discriminator = _discriminator(d, run.protocol.width)
        # It learns from the prior's and from the encoder's codes; frozen, it then hands a gradient to the encoder.
        networks += n * (2 * discriminator.learning_from_data + 2 * discriminator.forward)
    return networks + algorithm.penalty_flops(n, d)


def pretraining_flops(run: Run, image_shape: Shape) -> int:
    """FLOPs of the pre-training at its longest; it stops once the codes' moments are near the prior's."""
    if run.is_stochastic:
        return 0
    n, d = run.protocol.pretraining_images, run.hyperparameters.latent_dim
    covariance = 3 * 2 * n * d**2  # the product, and the gradients of its two factors
    return run.protocol.pretraining_steps * (n * _encoder(run, image_shape).learning_from_data + covariance)


def evaluation_flops(run: Run, image_shape: Shape) -> int:
    """FLOPs of scoring one checkpoint: samples and their features, reconstructions, codes and their MMD²."""
    protocol, encoder, decoder = run.protocol, _encoder(run, image_shape).forward, _decoder(run, image_shape)
    samples = protocol.fid_samples * (decoder + _features(protocol.fid_features, image_shape))
    reconstructions = 2 * protocol.evaluation_images * (encoder + decoder)
    mismatch = MMD_SAMPLES * encoder + mmd_flops(MMD_SAMPLES, run.hyperparameters.latent_dim)
    return samples + reconstructions + mismatch


def confirmation_flops(run: Run, image_shape: Shape) -> int:
    """FLOPs of scoring the kept checkpoint on fresh samples, and on their two halves."""
    features = _features(run.protocol.fid_features, image_shape)
    return run.protocol.fid_samples * (_decoder(run, image_shape) + 2 * features)


def _encoder(run: Run, image_shape: Shape) -> _Network:
    """The trunk and its linear head, which has a mean and, if stochastic, a log variance for each dimension."""
    hyperparameters = run.hyperparameters
    trunk, features, _ = _pair(hyperparameters.architecture, image_shape, run.protocol.width)
    head = 2 * features * hyperparameters.latent_dim * (2 if run.is_stochastic else 1)
    return _Network(trunk.forward + head, trunk.first_layer)


def _decoder(run: Run, image_shape: Shape) -> int:
    """Forward; the code asks for a gradient whenever the weights do, so that training takes three times as much."""
    hyperparameters = run.hyperparameters
    _, _, decoder = _pair(hyperparameters.architecture, image_shape, run.protocol.width)
    return decoder.forward + (hyperparameters.latent_dim - 1) * decoder.first_layer


@cache
def _pair(architecture: str, image_shape: Shape, width: int) -> tuple[_Network, int, _Network]:
    """Of an architecture: the encoder's trunk, how many features it has, and the decoder of one latent dimension.

    A decoder's first layer is linear in the code, so each further dimension costs as much as the first one there.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}: it is one of {', '.join(ARCHITECTURES)}")
    try:
        with torch.random.fork_rng(devices=[]), _place(width):  # initialisers draw
            trunk, decoder = ARCHITECTURES[architecture](image_shape, 1, width, False)
            counted, features = _count(trunk, torch.zeros(1, *image_shape))
            return counted, features, _count(decoder, torch.zeros(1, 1))[0]
    except RuntimeError as error:
        raise ValueError(f"{architecture} cannot be built at width {width} for images {image_shape}") from error


@cache
def _discriminator(latent_dim: int, width: int) -> _Network:
    with torch.random.fork_rng(devices=[]), _place(width):
        return _count(LatentDiscriminator(latent_dim, width), torch.zeros(1, latent_dim))[0]


def _place(width: int) -> torch.device:
    return torch.device("cpu" if width <= WIDEST_BUILT else "meta")


@cache
def _features(name: str, image_shape: Shape) -> int:
    """The feature network of the Fréchet distance, forward; its weights do not matter."""
    build = network_for(name, image_shape).build
    with torch.random.fork_rng(devices=[]):
        network = build().eval()
    return _count(network, torch.zeros(1, *image_shape, dtype=torch.uint8))[0].forward


@torch.no_grad()
def _count(network: nn.Module, x: Tensor) -> tuple[_Network, int]:
    """Run `network` on x, one image or code, layer by layer; returns its FLOPs and the length of its output's axis 1.

    Every weight of a layer is one multiply-add at each position: of the output, or of a transposed convolution's
    input.
    """
    flops: list[int] = []

    def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        positions = inputs[0] if isinstance(layer, nn.ConvTranspose2d) else output
        flops.append(2 * layer.weight.numel() * math.prod(positions.shape[2:]))  # type: ignore[operator]

    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    handles = [layer.register_forward_hook(add) for layer in layers]
    output: Tensor = network(x)
    for handle in handles:
        handle.remove()
    return _Network(sum(flops), flops[0]), output.shape[-1]
