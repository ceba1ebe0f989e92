"""How many models an hour a device trains, by how they are packed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import torch

from wae_core.data.images import ImageData
from wae_core.device import has_graphs
from wae_core.run import Run
from wae_core.training.loop import train_pack
from wae_core.training.state import TrainingState

WARM_UP_STEPS, TIMED_STEPS = 5, 20
WORTH_IT = 1.05  # a pack that gains less over the size before ends the measurement
SAME_LOSS = 1e-3  # relative: a captured step whose loss is further off than rounding is not to be used


class Packing(NamedTuple):
    """How models are trained together: so many, by a step that is captured as a CUDA graph or not."""

    size: int
    is_captured: bool = False


def models_per_hour(run: Run, data: ImageData, device: torch.device, sizes: Iterable[int]) -> dict[Packing, float]:
    """Train packs of `run` with ascending sizes for a few steps each; evaluations are left out.

    It ends early where the device's memory does, or where a larger pack hardly gains. Where the device has graphs,
    each size is measured with one too, unless it leads to another loss than the step itself.
    """
    rates: dict[Packing, float] = {}
    for size in sizes:
        before = max(rates.values(), default=0.0)
        try:
            seconds, loss = _train(run, data, device, Packing(size))
            rates[Packing(size)] = _an_hour(run, seconds)
            if has_graphs(device):
                seconds, loss_by_graph = _train(run, data, device, Packing(size, is_captured=True))
                if math.isclose(loss, loss_by_graph, rel_tol=SAME_LOSS):
                    rates[Packing(size, is_captured=True)] = _an_hour(run, seconds)
        except torch.OutOfMemoryError:
            break
        if max(rates.values()) < WORTH_IT * before:
            break
    return rates


def _train(run: Run, data: ImageData, device: torch.device, packing: Packing) -> tuple[float, float]:
    """A member's share of the seconds of the timed steps, and its mean loss in them."""
    steps = WARM_UP_STEPS + TIMED_STEPS
    evaluation_steps = (WARM_UP_STEPS, steps)
    protocol = replace(run.protocol, steps=steps, evaluation_steps=evaluation_steps, pretraining_steps=0)
    runs = [replace(run, seed=seed, protocol=protocol) for seed in range(packing.size)]
    states = [TrainingState(member, data, device) for member in runs]
    training = train_pack(runs, data, device, states, is_captured=packing.is_captured)
    seconds, losses = zip(*[(states[0].train_seconds, first.loss) for first, *_ in training], strict=True)
    return seconds[-1] - seconds[0], losses[-1]


def _an_hour(run: Run, seconds: float) -> float:
    """Models per hour, of which a member's timed steps take so many seconds."""
    return 3600 * TIMED_STEPS / seconds / run.protocol.steps
