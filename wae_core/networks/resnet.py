"""The pre-activation (v2) bottleneck ResNet pair: He et al. 2016, arXiv 1603.05027; stem and decoder are ours (O)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from wae_core.networks.layers import Linear, SameConv2d, SameConvTranspose2d, UnflattenMap, batch_norm_relu

BOTTLENECK = 4  # a block's output has four times the channels of its 3×3 convolution


class Block(nn.Module):
    """x [n, in_channels, s, s] -> [n, out_channels, …]: BN-ReLU before 1×1, 3×3 and 1×1 convolutions, plus x.

    `out_size` < `size` strides the 3×3 convolution by two; `out_size` > `size` upsamples in front of it
    (nearest neighbour), which is how the decoder mirrors the encoder.
    """

    def __init__(self, size: int, out_size: int, in_channels: int, out_channels: int, batch_norm: bool) -> None:
        super().__init__()
        inner = out_channels // BOTTLENECK
        stride = 2 if out_size < size else 1
        upsample: list[nn.Module] = [nn.Upsample(out_size)] if out_size > size else []
        conv_size = out_size if out_size > size else size
        bias = not batch_norm  # a batch norm further on cancels every bias of a block, and so its gradient
        self.activate = nn.Sequential(*batch_norm_relu(in_channels, batch_norm))
        self.residual = nn.Sequential(
            SameConv2d(size, in_channels, inner, 1, 1, bias=bias),
            *batch_norm_relu(inner, batch_norm),
            *upsample,
            SameConv2d(conv_size, inner, inner, 3, stride, bias=bias),
            *batch_norm_relu(inner, batch_norm),
            SameConv2d(out_size, inner, out_channels, 1, 1, bias=bias),
        )
        # As in the published v2 code, a block that changes the shape projects the activated input.
        self.projects = size != out_size or in_channels != out_channels
        self.shortcut = (
            nn.Sequential(SameConv2d(size, in_channels, out_channels, 1, stride, bias=bias), *upsample)
            if self.projects
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        activated = self.activate(x)
        shortcut: Tensor = self.shortcut(activated if self.projects else x)
        residual: Tensor = self.residual(activated)
        return shortcut + residual


class GlobalAverage(nn.Module):
    """x [n, C, s, s] -> [n, C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._channels = channels

    def forward(self, x: Tensor) -> Tensor:
        average = x.mean(dim=(2, 3))
        if x.shape[1] == self._channels:
            return average
        return average.view(len(x), -1, self._channels).transpose(0, 1)


def map_sizes(image_size: int, stages: int, stem_stride: int) -> list[int]:
    """Side of the feature map after each stage: the first keeps what the stem leaves, each other halves it."""
    sizes = [-(-image_size // stem_stride)]
    for _ in range(stages - 1):
        sizes.append(-(-sizes[-1] // 2))
    return sizes


def encoder_trunk(
    image_shape: tuple[int, int, int], width: int, blocks: Sequence[int], stem_stride: int, batch_norm: bool
) -> nn.Sequential:
    """x [n, C, s, s] -> [n, features]: a strided stem without max-pooling, the stages, a global average.

    At width 128 the stem has 64 channels and four stages end in 256, 512, 1024 and 2048. The stem's filter is
    3×3 for stride 2, 7×7 for stride 4.
    """
    image_channels, image_size, _ = image_shape
    sizes = map_sizes(image_size, len(blocks), stem_stride)
    channels, size = max(width // 2, BOTTLENECK), sizes[0]
    modules: list[nn.Module] = [
        SameConv2d(image_size, image_channels, channels, 2 * stem_stride - 1, stem_stride, bias=not batch_norm)
    ]
    for stage, (count, out_size) in enumerate(zip(blocks, sizes, strict=True)):
        out_channels = 2 * width * 2**stage
        for _ in range(count):
            modules += [Block(size, out_size, channels, out_channels, batch_norm)]
            channels, size = out_channels, out_size
    modules += [*batch_norm_relu(channels, batch_norm), GlobalAverage(channels)]
    return nn.Sequential(*modules)


class Decoder(nn.Module):
    """z [n, latent_dim] -> logits [n, C, s, s]: the encoder's stages in reverse, upsampling in place of strides."""

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_dim: int,
        width: int,
        blocks: Sequence[int],
        stem_stride: int,
        batch_norm: bool,
    ) -> None:
        super().__init__()
        image_channels, image_size, _ = image_shape
        sizes = map_sizes(image_size, len(blocks), stem_stride)
        channels = 2 * width * 2 ** (len(blocks) - 1)
        size = sizes[-1]
        self.project = Linear(latent_dim, channels * size * size)
        modules: list[nn.Module] = [UnflattenMap(channels, size)]
        for stage in reversed(range(len(blocks))):
            # The first block of a stage upsamples, as the encoder's first block of the stage above strides.
            out_size = sizes[stage]
            out_channels = 2 * width * 2**stage
            for _ in range(blocks[stage]):
                modules += [Block(size, out_size, channels, out_channels, batch_norm)]
                channels, size = out_channels, out_size
        modules += [
            *batch_norm_relu(channels, batch_norm),
            # The stem's mirror. Behind nearest-neighbour upsampling one 3×3 convolution draws only blocks.
            SameConvTranspose2d(size, channels, image_channels, 2 * stem_stride, stem_stride, bias=True),
        ]
        self.blocks = nn.Sequential(*modules)

    def forward(self, z: Tensor) -> Tensor:
        logits: Tensor = self.blocks(self.project(z))
        return logits
