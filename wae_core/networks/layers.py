"""Layers with TensorFlow's SAME padding, for one model or a pack of K, which every architecture is made of.

A pack's weights are stacked along an axis in front, by which a layer knows them. The members' codes are stacked too,
[K, n, d] in place of [n, d]; their maps lie side by side, [n, K·C, s, s] in place of [n, C, s, s], so that each layer
launches as many kernels for K members as for one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wae_core.device import has_running_statistics


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
        if self._pad is not None:
            x = F.pad(x, self._pad)
        weight, bias, members = _grouped(self.weight, self.bias)
        return F.conv2d(x, weight, bias, self.stride, self.padding, groups=members)


class SameConvTranspose2d(nn.ConvTranspose2d):
    """The transpose of a SAME convolution: [n, C, s, s] -> [n, C', s·stride, s·stride]."""

    def __init__(self, size: int, in_channels: int, out_channels: int, kernel: int, stride: int, bias: bool) -> None:
        before, _ = same_padding(size * stride, kernel, stride)
        super().__init__(in_channels, out_channels, kernel, stride, padding=before, bias=bias)
        self._out = size * stride
        self._to_one_channel = out_channels == 1 and stride > 1  # at stride 1 oneDNN is as fast

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if self._to_one_channel and x.is_cpu and self.weight.ndim == 4 and not torch.is_autocast_enabled("cpu"):
            out: Tensor = _ToOneChannel.apply(x, self.weight, self.bias, self.stride[0], self.padding[0])  # type: ignore[no-untyped-call]
        else:
            weight, bias, members = _grouped(self.weight, self.bias)
            out = F.conv_transpose2d(x, weight, bias, self.stride, self.padding, groups=members)  # type: ignore[arg-type]
        # `padding` cuts the same margin on both sides; where SAME asks for one pixel more after, it is cut here.
        return out[:, :, : self._out, : self._out]


class _ToOneChannel(torch.autograd.Function):
    """A transposed convolution to one channel on a CPU: a matrix product, whose columns `fold` lays over each other.

    oneDNN takes two to four times as long for it, but not for its backward pass, which is left to it.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        kernel = weight.shape[-1]
        size = (x.shape[-1] - 1) * stride + kernel - 2 * padding
        columns = weight.flatten(1).mT @ x.flatten(2)
        out = F.fold(columns, (size, size), kernel, padding=padding, stride=stride)
        return out if bias is None else out + bias

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        stride, padding = [ctx.stride] * 2, [ctx.padding] * 2
        gradients = torch.ops.aten.convolution_backward(
            grad, *ctx.saved_tensors, [1], stride, padding, [1, 1], True, [0, 0], 1, ctx.needs_input_grad[:3]
        )
        return *gradients, None, None


def _grouped(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None, int]:
    """The weight and the bias of one convolution whose groups are the members of a pack, and how many these are."""
    if weight.ndim == 4:
        return weight, bias, 1
    return weight.flatten(0, 1), None if bias is None else bias.flatten(), len(weight)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm of each channel: [n, C, s, s] -> [n, C, s, s].

    Attributes:
        gather: where N processes have an equal part of the batch each, makes of [1, ...] of each the [N, ...] of all,
            with gradient; None for a process alone.
    """

    gather: Callable[[Tensor], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.gather is not None and self.training:
            return self._over_all_parts(x, self.gather)
        if self.weight.ndim == 1 and has_running_statistics(x.device):
            return super().forward(x)
        weight, bias = self.weight.flatten(), self.bias.flatten()
        if not self.training or has_running_statistics(x.device):
            if self.training:
                self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
            averages = (self.running_mean.view(-1), self.running_var.view(-1))  # type: ignore[union-attr]
            return F.batch_norm(x, *averages, weight, bias, self.training, self.momentum, self.eps)  # type: ignore[arg-type]
        with torch.no_grad():
            variance, mean = torch.var_mean(x.to(self.weight.dtype), (0, 2, 3))
        self._remember(mean, variance)
        return F.batch_norm(x, None, None, weight, bias, training=True, eps=self.eps)

    def _over_all_parts(self, x: Tensor, gather: Callable[[Tensor], Tensor]) -> Tensor:
        """As torch's, by the mean and the variance of the whole batch; torch.nn.SyncBatchNorm knows CUDA alone."""
        wide = x.to(self.weight.dtype)  # as torch's own layer computes under autocast
        parts = gather(torch.stack(torch.var_mean(wide, (0, 2, 3), correction=0))[None])
        variances, means = parts.unbind(1)
        mean = means.mean(0)
        variance = variances.mean(0) + (means - mean).square().mean(0)
        n = len(parts) * x.numel() / len(mean)
        self._remember(mean, variance * (n / (n - 1)))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        return torch.addcmul(shift[:, None, None], wide, scale[:, None, None]).to(x.dtype)

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of a batch, whose variance is over n − 1."""
        with torch.no_grad():
            self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
            self.running_mean.view(-1).lerp_(mean, self.momentum)  # type: ignore[union-attr,arg-type]
            self.running_var.view(-1).lerp_(variance, self.momentum)  # type: ignore[union-attr,arg-type]


class Linear(nn.Linear):
    """x [n, d] -> [n, d']."""

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.ndim == 2:
            return super().forward(x)
        return torch.baddbmm(self.bias[:, None], x, self.weight.mT)


class FlattenMap(nn.Module):
    """x [n, C, s, s] -> [n, s·s·C]: with channels last, as the authors' TensorFlow had it, nothing is copied."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._channels = channels

    def forward(self, x: Tensor) -> Tensor:
        maps = x if x.shape[1] == self._channels else apart(x, x.shape[1] // self._channels)
        return maps.movedim(-3, -1).flatten(-3)


class UnflattenMap(nn.Module):
    """x [n, s·s·C] -> [n, C, s, s], the reverse of FlattenMap."""

    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self._shape = (size, size, channels)

    def forward(self, x: Tensor) -> Tensor:
        maps = x.view(*x.shape[:-1], *self._shape).movedim(-1, -3)
        return maps if x.ndim == 2 else beside(maps)


def beside(maps: Tensor) -> Tensor:
    """Lay the members' maps [K, n, C, s, s] side by side: [n, K·C, s, s], channels last."""
    return maps.permute(1, 3, 4, 0, 2).contiguous().flatten(3).permute(0, 3, 1, 2)


def apart(maps: Tensor, members: int) -> Tensor:
    """Undo `beside`: a view."""
    n, channels, *size = maps.shape
    return maps.permute(0, 2, 3, 1).view(n, *size, members, channels // members).permute(3, 0, 4, 1, 2)


def batch_norm_relu(channels: int, batch_norm: bool) -> list[nn.Module]:
    """Batch norm (eps 1e-5, running averages with decay 0.9: the authors' values), if wanted, and ReLU."""
    norm: list[nn.Module] = [BatchNorm2d(channels, eps=1e-5, momentum=0.1)] if batch_norm else []
    return [*norm, nn.ReLU(inplace=True)]
