"""How many models an hour a device trains, by the size of the packs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch

from wae_core.data.images import ImageData
from wae_core.run import Run
from wae_core.training.loop import train_pack
from wae_core.training.state import TrainingState

WARM_UP_STEPS, TIMED_STEPS = 5, 20
WORTH_IT = 1.05  # a pack that gains less over the size before ends the measurement


def models_per_hour(run: Run, data: ImageData, device: torch.device, sizes: Iterable[int]) -> dict[int, float]:
    """Train packs of `run` with ascending sizes for a few steps each; evaluations are left out.

    It ends early where the device's memory does, or where a larger pack hardly gains.
    """
    steps = WARM_UP_STEPS + TIMED_STEPS
    evaluation_steps = (WARM_UP_STEPS, steps)
    protocol = replace(run.protocol, steps=steps, evaluation_steps=evaluation_steps, pretraining_steps=0)
    rates: dict[int, float] = {}
    for size in sizes:
        runs = [replace(run, seed=seed, protocol=protocol) for seed in range(size)]
        try:
            states = [TrainingState(member, data, device) for member in runs]
            # A member's seconds are its share of the pack's.
            seconds = [states[0].train_seconds for _ in train_pack(runs, data, device, states)]
        except torch.OutOfMemoryError:
            break
        before = max(rates.values(), default=0.0)
        rates[size] = 3600 * TIMED_STEPS / (seconds[-1] - seconds[0]) / run.protocol.steps
        if rates[size] < WORTH_IT * before:
            break
    return rates
