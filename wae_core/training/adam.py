"""Adam on flat buffers, with a learning rate for each member of a pack: torch.optim offers neither."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from wae_core.device import launches_kernels
from wae_core.training.sharding import ALONE, Group

BETAS = (0.5, 0.999)  # paper, Appendix C
EPSILON = 1e-8


class Adam:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980, Algorithm 1) of one network, or of K networks stacked along axis 0.

    All that it updates lies in flat buffers, one number behind the other, so an update launches as many kernels for a
    deep network as for a shallow one; and nothing of an update is a number of the host's, so each launches the same.
    XLA launches no kernels of ours, and would keep a copy of each view: there, each parameter is a buffer of its own.

    Attributes:
        parameters: the tensors that it updates, [...] or [K, ...]. They become views of one buffer, but not on XLA:
            a tensor that stands elsewhere, as a copy does, is not updated.
        learning_rate: [1], or [K] for stacked networks; `set_learning_rate` changes it.
        steps: updates done, 0-d on the device.
        first_moments, second_moments: running means of the gradients and of their squares, like `parameters`.
    """

    def __init__(self, parameters: Iterable[Tensor], learning_rate: Tensor, group: Group = ALONE) -> None:
        """`group`: the processes that hold the same networks, with a part of the batch each."""
        self.parameters = list(parameters)
        self.learning_rate = learning_rate
        self._group = group
        self._orders = [_memory_order(parameter) for parameter in self.parameters]
        self._is_flat = launches_kernels(self.parameters[0].device)
        with torch.no_grad():
            self._buffers = self._in_buffers(self.parameters)
        self._first, self._second = ([torch.zeros_like(buffer) for buffer in self._buffers] for _ in range(2))
        if self._is_flat:
            for parameter, view in zip(self.parameters, self._views(self._buffers), strict=True):
                parameter.data = view
        self.first_moments, self.second_moments = self._views(self._first), self._views(self._second)
        like = self._buffers[0]
        self.steps = torch.zeros((), dtype=like.dtype, device=like.device)
        self._log_betas = torch.tensor([math.log(beta) for beta in BETAS], dtype=like.dtype).to(like)
        self._rates = self._rates_of_buffers()

    def set_learning_rate(self, rates: Sequence[float]) -> None:
        """Set the learning rate of the network, or of each of the K networks, from the next update on."""
        self.learning_rate.copy_(torch.tensor(rates))
        if len(rates) > 1:
            for own, new in zip(self._rates, self._rates_of_buffers(), strict=True):
                own.copy_(new)

    def descend(self, loss: Tensor) -> None:
        """One update along the gradient of the scalar `loss`; other networks behind it get no gradient.

        Of several processes, it is the gradient of the mean of their losses.
        """
        gradients = torch.autograd.grad(loss, self.parameters)
        with torch.no_grad():
            self.steps.add_(1)
            # 1 − β^steps, without the digits that the difference would lose in float32.
            first_correction, second_correction = torch.expm1(self.steps * self._log_betas).neg().unbind()
            moments = zip(self._first, self._second, self._in_buffers(gradients), strict=True)
            for buffer, rates, (first, second, gradient) in zip(self._buffers, self._rates, moments, strict=True):
                gradient = self._group.mean(gradient)
                first.lerp_(gradient, 1 - BETAS[0])
                second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
                scale = second.sqrt().div_(second_correction.sqrt()).add_(EPSILON)
                buffer.addcmul_(first / scale, rates / first_correction, value=-1)

    def _in_buffers(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Tensors of the parameters' shapes as one [N], each in its order in memory; on XLA as they are."""
        if not self._is_flat:
            return list(tensors)
        pairs = zip(tensors, self._orders, strict=True)
        return [torch.cat([tensor.permute(order).reshape(-1) for tensor, order in pairs])]

    def _views(self, buffers: list[Tensor]) -> list[Tensor]:
        """The parts of the buffers as tensors of the parameters' shapes."""
        if not self._is_flat:
            return buffers
        parts = torch.split(buffers[0], [parameter.numel() for parameter in self.parameters])
        return [
            part.view([parameter.shape[axis] for axis in order]).permute(_inverse(order))
            for part, parameter, order in zip(parts, self.parameters, self._orders, strict=True)
        ]

    def _rates_of_buffers(self) -> list[Tensor]:
        """The learning rate of each number of a flat buffer, [N]; that of a single network is the same for all.

        The members of a pack alternate from parameter to parameter: a buffer [K, N] would give stacked weights whose
        two first axes cannot be merged without a copy, and grouped convolutions merge them.
        """
        if len(self.learning_rate) == 1:
            return [self.learning_rate] * len(self._buffers)
        if not self._is_flat:
            return [self.learning_rate.view(-1, *[1] * (buffer.ndim - 1)).clone() for buffer in self._buffers]
        counts = [parameter[0].numel() for parameter in self.parameters]
        return [torch.cat([self.learning_rate[:, None].expand(-1, count).flatten() for count in counts])]


def _memory_order(tensor: Tensor) -> list[int]:
    """The axes from the one of the largest stride to the one of the smallest: permuted so, it is contiguous."""
    return sorted(range(tensor.ndim), key=tensor.stride, reverse=True)


def _inverse(order: Sequence[int]) -> list[int]:
    return sorted(range(len(order)), key=lambda position: order[position])
