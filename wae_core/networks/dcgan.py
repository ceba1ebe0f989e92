"""The DCGAN-style pair of the paper (Appendix C), and its small cut for one CPU core."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from wae_core.networks.layers import (
    FlattenMap,
    Linear,
    SameConv2d,
    SameConvTranspose2d,
    UnflattenMap,
    batch_norm_relu,
)


def encoder_trunk(image_shape: tuple[int, int, int], width: int, layers: int, batch_norm: bool) -> nn.Sequential:
    """Stride-2 convolutions of width, 2·width, 4·width, … channels: x [n, C, s, s] -> [n, features].

    The paper's has four of them at width 128; filters are 4×4 for grey images and 5×5 for colour images.
    """
    channels, size, _ = image_shape
    kernel = filter_size(image_shape)
    modules: list[nn.Module] = []
    for layer in range(layers):
        out = width * 2**layer
        modules += [SameConv2d(size, channels, out, kernel, stride=2, bias=not batch_norm)]
        modules += batch_norm_relu(out, batch_norm)
        channels, size = out, -(-size // 2)
    return nn.Sequential(*modules, FlattenMap(channels))


class Decoder(nn.Module):
    """z [n, latent_dim] -> logits [n, C, s, s]: a linear layer, stride-2 deconvolutions, one last to the image.

    Args:
        widths: channels of the first feature map and of each stride-2 deconvolution, e.g. (1024, 512, 256).
        last_stride: stride of the deconvolution that ends in the image; 1 in the paper.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int,
        widths: tuple[int, ...],
        last_stride: int,
        batch_norm: bool,
    ) -> None:
        super().__init__()
        channels, image_size, _ = image_shape
        kernel = filter_size(image_shape)
        size = image_size // (2 ** (len(widths) - 1) * last_stride)
        self.project = nn.Sequential(
            Linear(latent_dim, widths[0] * size * size), nn.ReLU(inplace=True), UnflattenMap(widths[0], size)
        )
        modules: list[nn.Module] = []
        for in_channels, out_channels in itertools.pairwise(widths):
            modules += [SameConvTranspose2d(size, in_channels, out_channels, kernel, 2, bias=not batch_norm)]
            modules += batch_norm_relu(out_channels, batch_norm)
            size *= 2
        modules += [SameConvTranspose2d(size, widths[-1], channels, kernel, last_stride, bias=True)]
        self.deconvolve = nn.Sequential(*modules)

    def forward(self, z: Tensor) -> Tensor:
        logits: Tensor = self.deconvolve(self.project(z))
        return logits


def filter_size(image_shape: tuple[int, int, int]) -> int:
    """4×4 filters for MNIST, 5×5 for CelebA (paper, Appendices C.1 and C.2)."""
    return 4 if image_shape[0] == 1 else 5
