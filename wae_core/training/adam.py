"""Adam whose learning rate may differ from member to member of a pack, which torch.optim does not offer."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

BETAS = (0.5, 0.999)  # paper, Appendix C
EPSILON = 1e-8


class Adam:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980, Algorithm 1) of one network, or of K networks stacked along axis 0.

    Attributes:
        parameters: the tensors that it updates in place, [...] or [K, ...].
        learning_rate: [1], or [K] for stacked networks.
        steps: updates done.
        first_moments, second_moments: running means of the gradients and of their squares, like `parameters`.
    """

    def __init__(self, parameters: Iterable[Tensor], learning_rate: Tensor) -> None:
        self.parameters = list(parameters)
        self.learning_rate = learning_rate
        self.steps = 0
        self.first_moments = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.second_moments = [torch.zeros_like(parameter) for parameter in self.parameters]

    def descend(self, loss: Tensor) -> None:
        """One update along the gradient of the scalar `loss`; other networks behind it get no gradient."""
        gradients = torch.autograd.grad(loss, self.parameters)
        self.steps += 1
        first_correction, second_correction = (1 - beta**self.steps for beta in BETAS)
        with torch.no_grad():
            torch._foreach_lerp_(self.first_moments, gradients, 1 - BETAS[0])
            torch._foreach_mul_(self.second_moments, BETAS[1])
            torch._foreach_addcmul_(self.second_moments, gradients, gradients, 1 - BETAS[1])
            scales = torch._foreach_sqrt(self.second_moments)
            torch._foreach_div_(scales, math.sqrt(second_correction))
            torch._foreach_add_(scales, EPSILON)
            updates = torch._foreach_div(self.first_moments, scales)
            rate = self.learning_rate / first_correction
            for parameter, update in zip(self.parameters, updates, strict=True):
                # A trailing axis for each that a member's parameter has.
                shape = rate.shape + (1,) * (parameter.ndim - rate.ndim)
                parameter.addcmul_(update, rate.reshape(shape), value=-1)
