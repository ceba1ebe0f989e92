"""The networks of K models of equal shapes as one computation, for each of them to call within `torch.vmap`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map

from wae_core.networks.layers import apart, beside


def member_of(network: nn.Module, weights: dict[str, Tensor], number: Tensor) -> Callable[[Tensor], Any]:
    """One member's network as a function of images or codes, within `torch.vmap` over the members.

    All members' networks are computed at once, by layers that know packs, and differentiated like any computation:
    torch's own rules for vmap take batch norm apart, and copy maps to and fro around each convolution.

    Args:
        network: of any member; its layers are those of `layers.py`, and others that work on each number alone.
        weights: parameters and buffers of all members by name, [K, ...].
        number: which member it is, 0-d. Its value does not matter, but through it vmap knows the result as the
            member's own, whatever the network is given.
    """
    return partial(_OfAllMembers.apply, partial(functional_call, network, weights), number)


class _OfAllMembers(torch.autograd.Function):
    """A function of the whole pack's x, where vmap shows a member's: [n, ...] -> [n, ...]."""

    @staticmethod
    def forward(network: Callable[[tuple[Tensor]], Any], number: Tensor, x: Tensor) -> Any:
        raise NotImplementedError("the network of a pack's member is called within torch.vmap over its number")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Nothing is kept: autograd sees what vmap's rule computes."""

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[None, int, int | None],
        network: Callable[[tuple[Tensor]], Any],
        number: Tensor,
        x: Tensor,
    ) -> tuple[Any, Any]:
        x = x.expand(info.batch_size, *x.shape) if in_dims[2] is None else x.movedim(in_dims[2], 0)
        output = network((beside(x) if x.ndim == 5 else x,))
        if isinstance(output, Tensor) and output.ndim == 4:
            output = apart(output, info.batch_size)
        return output, tree_map(lambda _: 0, output)
