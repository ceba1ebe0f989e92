"""The networks of one model behind one interface: encoder, decoder and latent discriminator, by architecture name."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from wae_core.networks import dcgan, resnet
from wae_core.networks.layers import Linear

PAPER_WIDTH = 128  # channels of the paper's first convolution
INITIAL_STD = 0.01  # of the authors' weights, at the paper's width
LOG_VARIANCE_LIMIT = 50.0  # the authors clip log σ² of the encoder to ±50

Shape = tuple[int, int, int]
Pair = tuple[nn.Module, nn.Module]


class Encoder(nn.Module):
    """Q(z|x): x [n, C, H, W] -> mean [n, latent_dim], log variance [n, latent_dim] or None if deterministic."""

    def __init__(self, trunk: nn.Module, features: int, latent_dim: int, stochastic: bool) -> None:
        super().__init__()
        self.trunk = trunk
        self.stochastic = stochastic
        self.head = Linear(features, 2 * latent_dim if stochastic else latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        head = self.head(self.trunk(x))
        if not self.stochastic:
            return head, None
        mean, log_variance = head.chunk(2, dim=-1)
        return mean, log_variance.clamp(-LOG_VARIANCE_LIMIT, LOG_VARIANCE_LIMIT)


class AutoEncoder(nn.Module):
    """An encoder and a decoder; `decoder` gives logits, `images` maps them into the pixel range."""

    def __init__(self, encoder: Encoder, decoder: nn.Module, pixel_range: tuple[float, float]) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.output: Callable[[Tensor], Tensor] = torch.sigmoid if pixel_range[0] == 0 else torch.tanh

    def images(self, z: Tensor) -> Tensor:
        """G(z): z [n, latent_dim] -> images [n, C, H, W] in [0, 1] (sigmoid) or [−1, 1] (tanh)."""
        return self.output(self.decoder(z))


class LatentDiscriminator(nn.Sequential):
    """D's logit: z [n, latent_dim] -> [n]. Four hidden linear layers with ReLU, 512 units at the paper's width.

    Parameters at that width: 793,089 with 8 latent dimensions, 821,761 with 64.
    """

    def __init__(self, latent_dim: int, width: int) -> None:
        units = 4 * width
        modules: list[nn.Module] = []
        for in_features in (latent_dim, units, units, units):
            modules += [Linear(in_features, units), nn.ReLU(inplace=True)]
        super().__init__(*modules, Linear(units, 1), nn.Flatten(-2))
        initialise(self, width)


def build_autoencoder(
    architecture: str,
    image_shape: Shape,
    pixel_range: tuple[float, float],
    *,
    latent_dim: int,
    width: int,
    stochastic: bool,
    batch_norm: bool = True,
) -> AutoEncoder:
    """Build an auto-encoder with fresh weights from torch's global generator.

    Parameters of encoder + decoder at the paper's width of 128, its latent dimensions, a deterministic encoder:

                      28×28×1, latent_dim 8      64×64×3, latent_dim 64
        dcgan         11,048,712 + 10,942,977    18,265,280 + 21,474,435
        resnet50v2    23,507,912 + 24,600,833    23,623,808 + 26,665,219

    Args:
        architecture: a key of ARCHITECTURES.
        image_shape: (C, H, W) with H = W.
        width: channels of the first convolution (128 in the paper); all other layers scale with it.
        stochastic: whether Q(z|x) is a Gaussian.

    Raises:
        ValueError: unknown architecture.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"unknown architecture {architecture!r}: it is one of {', '.join(ARCHITECTURES)}")
    trunk, decoder = ARCHITECTURES[architecture](image_shape, latent_dim, width, batch_norm)
    with torch.no_grad():
        features = trunk.eval()(torch.zeros(1, *image_shape)).shape[1]
    trunk.train()
    model = AutoEncoder(Encoder(trunk, features, latent_dim, stochastic), decoder, pixel_range)
    initialise(model, width, he="resnet" in architecture)
    return model


def initialise(module: nn.Module, width: int, he: bool = False) -> None:
    """Draw all weights, N(0, 0.01²) as the authors do, cut off at 2σ for convolutions; biases are 0.

    The authors' 0.01 goes with width 128. At other widths it is scaled so that each layer keeps its gain (O).
    `he`: He et al. 2015 (arXiv 1502.01852) instead, for the ResNets, whose initialisation the paper leaves open (O).
    """
    std = INITIAL_STD * math.sqrt(PAPER_WIDTH / width)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            if he:
                # The last layer is the ResNets' only deconvolution: half the variance, so that no pixel saturates.
                gain = 1 if isinstance(layer, nn.ConvTranspose2d) else 2
                nn.init.normal_(layer.weight, std=math.sqrt(gain / _fan_in(layer)))
            elif isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=std)
            else:
                nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _fan_in(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> float:
    """How many inputs one output sums: of a transposed convolution, each meets a stride-th of the kernel per axis."""
    if isinstance(layer, nn.ConvTranspose2d):
        return layer.in_channels * math.prod(layer.kernel_size) / math.prod(layer.stride)
    return layer.weight[0].numel()


def _dcgan(image_shape: Shape, latent_dim: int, width: int, batch_norm: bool) -> Pair:
    """Channel for channel the paper's at width 128: three decoder maps for 28×28, four for 64×64."""
    widths = (8 * width, 4 * width, 2 * width) + ((width,) if image_shape[1] == 64 else ())
    return (
        dcgan.encoder_trunk(image_shape, width, 4, batch_norm),
        dcgan.Decoder(image_shape, latent_dim, widths, 1, batch_norm),
    )


def _dcgan_small(image_shape: Shape, latent_dim: int, width: int, batch_norm: bool) -> Pair:
    """Ours (O), for one CPU core: three convolutions; the last deconvolution strides, so no wide map is full-size."""
    return (
        dcgan.encoder_trunk(image_shape, width, 3, batch_norm),
        dcgan.Decoder(image_shape, latent_dim, (8 * width, 2 * width), 2, batch_norm),
    )


def _resnet50v2(image_shape: Shape, latent_dim: int, width: int, batch_norm: bool) -> Pair:
    """3, 4, 6, 3 bottleneck blocks; 256, 512, 1024, 2048 channels at width 128."""
    return _resnet(image_shape, latent_dim, width, (3, 4, 6, 3), 2, batch_norm)


def _resnet11v2(image_shape: Shape, latent_dim: int, width: int, batch_norm: bool) -> Pair:
    """Ours (O), for one CPU core: a block a stage, and a stride-4 stem, whose small maps may be twice as wide."""
    return _resnet(image_shape, latent_dim, 2 * width, (1, 1, 1), 4, batch_norm)


def _resnet(
    image_shape: Shape, latent_dim: int, width: int, blocks: Sequence[int], stem_stride: int, batch_norm: bool
) -> Pair:
    return (
        resnet.encoder_trunk(image_shape, width, blocks, stem_stride, batch_norm),
        resnet.Decoder(image_shape, latent_dim, width, blocks, stem_stride, batch_norm),
    )


ARCHITECTURES: dict[str, Callable[[Shape, int, int, bool], Pair]] = {
    "dcgan": _dcgan,
    "dcgan_small": _dcgan_small,
    "resnet50v2": _resnet50v2,
    "resnet11v2": _resnet11v2,
}
