"""Several processes that train one model: each has a part of every batch, and the objective is the whole batch's.

What is a mean over the batch is the mean of the processes' means, since their parts are equally large. What is not,
as batch norm's statistics and MMD², is computed from all parts, gathered with their gradient: a process's gradient
then holds what its part does to the loss of every process, and the mean of these gradients is the gradient of the
mean loss. Batch norm or MMD² of each part alone would be another objective, which is what DistributedDataParallel
trains.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from wae_core.device import backend

# Whoever evaluates lets the others wait, for as long as that takes; who starts a process sees that it has died.
PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Group:
    """The processes of one model: those of torch.distributed's default group, or one alone, which asks nobody.

    All of them make the same calls in the same order. Their parts of a tensor are equally large.
    """

    rank: int = 0
    size: int = 1

    def part(self, whole: Tensor, axis: int = 0) -> Tensor:
        """This process's part of a tensor that all of them have: [..., size·n, ...] -> [..., n, ...], a view."""
        return whole if self.size == 1 else whole.chunk(self.size, axis)[self.rank]

    def gather(self, part: Tensor, axis: int = 0) -> Tensor:
        """All processes' parts, [..., n, ...] -> [..., size·n, ...], with gradient."""
        if self.size == 1:
            return part
        parts: Tensor = _Gather.apply(part, self)  # type: ignore[no-untyped-call]
        return parts.movedim(0, axis).flatten(axis, axis + 1)

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean of the processes' tensors, the same bits in each of them; without gradient, in place."""
        if self.size == 1:
            return tensor
        dist.all_reduce(tensor)
        return tensor.div_(self.size)

    def first(self, tensor: Tensor) -> Tensor:
        """The first process's tensor, without gradient."""
        if self.size == 1:
            return tensor
        copy = tensor.detach().clone(memory_format=torch.contiguous_format)
        dist.broadcast(copy, 0)
        return copy


ALONE = Group()


def listen(host: str) -> tuple[socket.socket, str]:
    """Return what the first process of a group hands to `join`, and its address, for the others to join."""
    listener = socket.create_server((host, 0))
    return listener, f"{host}:{listener.getsockname()[1]}"


def join(group: Group, address: str, device: torch.device, listener: socket.socket | None = None) -> None:
    """Meet the other processes of the group at the first one's address; returns when all are there.

    At a loopback address all of them listen there alone. Their devices are to be of one kind: each process draws what
    the whole batch needs, and other kinds draw other numbers.
    """
    host, _, port = address.rpartition(":")
    if ipaddress.ip_address(host).is_loopback:
        (loopback, *_) = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
        os.environ.update(GLOO_SOCKET_IFNAME=loopback, NCCL_SOCKET_IFNAME=loopback)
    store = dist.TCPStore(  # type: ignore[attr-defined]
        host, int(port), group.size, listener is not None, master_listen_fd=listener.detach() if listener else None
    )
    dist.init_process_group(backend(device), store=store, rank=group.rank, world_size=group.size, timeout=PATIENCE)


def leave() -> None:
    """Part from the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


class _Gather(torch.autograd.Function):
    """x of each process -> [size, ...] of all; the gradient is that of the sum of all processes' losses."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, group: Group) -> Tensor:
        ctx.group = group
        parts = part.new_empty(group.size, *part.shape)
        dist.all_gather(list(parts), part.contiguous())
        return parts

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        total = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[ctx.group.rank], None
