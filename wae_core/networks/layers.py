"""Layers with TensorFlow's SAME padding and the authors' initialisation, which every architecture is made of."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding (before, after) of one axis of `size` pixels; the odd pixel goes after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """Convolution with SAME padding of a square image whose size is known: [n, C, s, s] -> [n, C', ⌈s/stride⌉, …]."""

    def __init__(self, size: int, in_channels: int, out_channels: int, kernel: int, stride: int, bias: bool) -> None:
        before, after = same_padding(size, kernel, stride)
        symmetric = before == after
        super().__init__(in_channels, out_channels, kernel, stride, padding=before if symmetric else 0, bias=bias)
        self._pad = None if symmetric else (before, after, before, after)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self._pad is None else F.pad(x, self._pad))


class SameConvTranspose2d(nn.ConvTranspose2d):
    """The transpose of a SAME convolution: [n, C, s, s] -> [n, C', s·stride, s·stride]."""

    def __init__(self, size: int, in_channels: int, out_channels: int, kernel: int, stride: int, bias: bool) -> None:
        before, _ = same_padding(size * stride, kernel, stride)
        super().__init__(in_channels, out_channels, kernel, stride, padding=before, bias=bias)
        self._out = size * stride

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        # `padding` cuts the same margin on both sides; where SAME asks for one pixel more after, it is cut here.
        return super().forward(x, output_size)[:, :, : self._out, : self._out]


class FlattenMap(nn.Module):
    """x [n, C, s, s] -> [n, s·s·C]: with channels last, as the authors' TensorFlow had it, nothing is copied."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


class UnflattenMap(nn.Module):
    """x [n, s·s·C] -> [n, C, s, s], the reverse of FlattenMap."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self._shape = (size, size, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x.view(-1, *self._shape).permute(0, 3, 1, 2)


def batch_norm_relu(channels: int, batch_norm: bool) -> list[nn.Module]:
    """Batch norm (eps 1e-5, running averages with decay 0.9: the authors' values), if wanted, and ReLU."""
    norm: list[nn.Module] = [nn.BatchNorm2d(channels, eps=1e-5, momentum=0.1)] if batch_norm else []
    return [*norm, nn.ReLU(inplace=True)]
