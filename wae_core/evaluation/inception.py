"""Inception-v3 of 2015, the feature network of the FID that everybody reports: uint8 images to 2048 features.

The network is Szegedy et al., "Rethinking the Inception Architecture for Computer Vision" (arXiv 1512.00567,
figures 5 to 7 and 10), in the form of TensorFlow's graph `inception-2015-12-05` on which the FID was defined
(Heusel et al., arXiv 1706.08500). The graph has habits that change the features, and so the FID: its average
pools leave the padding out of the mean, its very last pool is a maximum, batch norm has eps 0.001, images are
resized without half-pixel centres and scaled to (x − 128) / 128.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from wae_core.evaluation.weights_file import read_weights, unpickle_weights

FEATURE_DIM = 2048
IMAGE_SIZE = 299
WEIGHTS_NAME = "pt_inception-2015-12-05-6726825d.pth"
WEIGHTS_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


@dataclass(frozen=True)
class Conv:
    """One convolution of a branch: stride 1 keeps the image's size, stride 2 pads nothing."""

    channels: int
    kernel: int | tuple[int, int] = 1
    stride: int = 1


# A branch is a chain of convolutions; a pair may end it: both read the same input.
Branches = dict[str, list[Conv | tuple[Conv, Conv]]]


class ConvNormReLU(nn.Module):
    """Convolution without bias, batch norm, ReLU: [n, in_channels, H, W] to [n, conv.channels, H', W']."""

    def __init__(self, in_channels: int, conv: Conv, padding: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, conv.channels, conv.kernel, conv.stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(conv.channels, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches side by side, concatenated: [n, in_channels, H, W] to [n, out_channels, H', W'].

    `branch_pool` reads the pooled input, every other branch the input itself. Layers are named as in the
    weights file: `<branch>` where it stands alone, else `<branch>_<position>`, with a and b for a pair.
    """

    def __init__(self, in_channels: int, branches: Branches, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool
        self.out_channels = 0
        self.branches: dict[str, list[list[str]]] = {}
        for branch, convs in branches.items():
            self.branches[branch] = []
            channels = in_channels
            for position, entry in enumerate(convs, start=1):
                pair = {"a": entry[0], "b": entry[1]} if isinstance(entry, tuple) else {"": entry}
                name = branch if len(convs) == 1 else f"{branch}_{position}"
                for suffix, conv in pair.items():
                    padding = "same" if conv.stride == 1 else "valid"
                    self.add_module(name + suffix, ConvNormReLU(channels, conv, padding))
                self.branches[branch].append([name + suffix for suffix in pair])
                channels = sum(conv.channels for conv in pair.values())
            self.out_channels += channels

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for branch, chain in self.branches.items():
            ys = [self.pool(x) if branch == "branch_pool" else x]
            for names in chain:
                ys = [self.get_submodule(name)(ys[0]) for name in names]
            outputs += ys
        return torch.cat(outputs, dim=1)


def _average_pool() -> nn.Module:
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)


def _grid_35(pool_channels: int) -> Branches:
    return {
        "branch1x1": [Conv(64)],
        "branch5x5": [Conv(48), Conv(64, 5)],
        "branch3x3dbl": [Conv(64), Conv(96, 3), Conv(96, 3)],
        "branch_pool": [Conv(pool_channels)],
    }


def _grid_17(c: int) -> Branches:
    row, column = (1, 7), (7, 1)
    return {
        "branch1x1": [Conv(192)],
        "branch7x7": [Conv(c), Conv(c, row), Conv(192, column)],
        "branch7x7dbl": [Conv(c), Conv(c, column), Conv(c, row), Conv(c, column), Conv(192, row)],
        "branch_pool": [Conv(192)],
    }


_GRID_8: Branches = {
    "branch1x1": [Conv(320)],
    "branch3x3": [Conv(384), (Conv(384, (1, 3)), Conv(384, (3, 1)))],
    "branch3x3dbl": [Conv(448), Conv(384, 3), (Conv(384, (1, 3)), Conv(384, (3, 1)))],
    "branch_pool": [Conv(192)],
}
_REDUCE_TO_17: Branches = {
    "branch3x3": [Conv(384, 3, 2)],
    "branch3x3dbl": [Conv(64), Conv(96, 3), Conv(96, 3, 2)],
    "branch_pool": [],
}
_REDUCE_TO_8: Branches = {
    "branch3x3": [Conv(192), Conv(320, 3, 2)],
    "branch7x7x3": [Conv(192), Conv(192, (1, 7)), Conv(192, (7, 1)), Conv(192, 3, 2)],
    "branch_pool": [],
}


class InceptionV3(nn.Module):
    """images [n, 3 or 1, H, W] uint8 to pool features [n, 2048] float32; grey is repeated to three channels.

    The parameters' names are those of the public weights file. `fc`, its 1008 logits, is loaded and not used.
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNormReLU(3, Conv(32, 3, 2), "valid")
        self.Conv2d_2a_3x3 = ConvNormReLU(32, Conv(32, 3), "valid")
        self.Conv2d_2b_3x3 = ConvNormReLU(32, Conv(64, 3), "same")
        self.Conv2d_3b_1x1 = ConvNormReLU(64, Conv(80), "valid")
        self.Conv2d_4a_3x3 = ConvNormReLU(80, Conv(192, 3), "valid")
        self.reduce = nn.MaxPool2d(3, stride=2)
        mixed: list[tuple[str, Branches, nn.Module]] = [
            ("Mixed_5b", _grid_35(32), _average_pool()),
            ("Mixed_5c", _grid_35(64), _average_pool()),
            ("Mixed_5d", _grid_35(64), _average_pool()),
            ("Mixed_6a", _REDUCE_TO_17, nn.MaxPool2d(3, stride=2)),
            ("Mixed_6b", _grid_17(128), _average_pool()),
            ("Mixed_6c", _grid_17(160), _average_pool()),
            ("Mixed_6d", _grid_17(160), _average_pool()),
            ("Mixed_6e", _grid_17(192), _average_pool()),
            ("Mixed_7a", _REDUCE_TO_8, nn.MaxPool2d(3, stride=2)),
            ("Mixed_7b", _GRID_8, _average_pool()),
            ("Mixed_7c", _GRID_8, nn.MaxPool2d(3, stride=1, padding=1)),
        ]
        self.mixed = [name for name, _, _ in mixed]
        channels = 192
        for name, branches, pool in mixed:
            block = Mixed(channels, branches, pool)
            self.add_module(name, block)
            channels = block.out_channels
        self.fc = nn.Linear(FEATURE_DIM, 1008)

    def forward(self, images: Tensor) -> Tensor:
        """Return the pool features.

        Raises:
            ValueError: the images are not uint8 [n, 3, H, W] or [n, 1, H, W].
        """
        if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] not in (1, 3):
            raise ValueError(
                f"images must be uint8 [n, 3, H, W] or [n, 1, H, W], not {images.dtype} {list(images.shape)}"
            )
        x = (resize_bilinear_tf1(images.float(), IMAGE_SIZE) - 128) / 128
        x = x.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))  # [n, 64, 147, 147]
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(self.reduce(x)))  # [n, 192, 71, 71]
        x = self.reduce(x)  # [n, 192, 35, 35]
        for name in self.mixed:
            x = self.get_submodule(name)(x)  # in the end [n, 2048, 8, 8]
        return torch.mean(x, dim=(2, 3))


def resize_bilinear_tf1(images: Tensor, size: int) -> Tensor:
    """Resize as TensorFlow 1's `resize_bilinear`: no half pixels, no corner alignment, no antialiasing.

    images [n, C, H, W] float32 to [n, C, size, size]. Output pixel i lies at i·H/size of the input; what lies
    beyond the last pixel's centre repeats it.
    """
    for dim in (3, 2):  # columns, then rows, as TensorFlow: the same rounding
        length = images.shape[dim]
        position = torch.arange(size, dtype=torch.float32, device=images.device) * (length / size)
        left = position.long()
        right = (left + 1).clamp(max=length - 1)
        weight = (position - left).view(-1, *[1] * (3 - dim))
        start = images.index_select(dim, left)
        images = start + (images.index_select(dim, right) - start) * weight
    return images


def load_inception(path: str | Path) -> InceptionV3:
    """Load the network with the public weights (`WEIGHTS_NAME`), frozen, in evaluation mode, on the CPU.

    Raises:
        OSError: the file cannot be read.
        ValueError: its sha256 is not WEIGHTS_SHA256; nothing of it was unpickled.
    """
    weights = unpickle_weights(read_weights(Path(path), WEIGHTS_SHA256, WEIGHTS_NAME))
    with torch.device("meta"):  # no initial weights: they cost time and the global generator's state
        network = InceptionV3()
    network.load_state_dict(weights, assign=True)
    nn.utils.convert_conv2d_weight_memory_format(network, torch.channels_last)
    return network.requires_grad_(False).eval()
