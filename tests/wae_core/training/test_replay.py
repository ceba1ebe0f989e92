"""A step captured as a CUDA graph computes what the step computes; only a machine with CUDA can tell."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests.wae_core.variants import every_variant
from wae_core.data.images import ImageData
from wae_core.device import select_device
from wae_core.run import Run
from wae_core.training.loop import train_pack
from wae_core.training.state import TrainingState


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("size", [1, 3])
@every_variant
def test_a_replayed_step_is_the_step(
    make_run: Callable[..., Run], few_digits: ImageData, algorithm: str, encoder: str | None, size: int
) -> None:
    device = select_device("cuda")
    run = make_run(
        algorithm, encoder=encoder, steps=12, evaluation_steps=(6, 12), learning_rate_drops=((1, 2.0),)
    )  # an epoch has five steps
    runs, data = [run] * size, few_digits.to(device)
    ends = []
    for is_captured in (False, True):
        states = [TrainingState(member, data, device) for member in runs]
        for checkpoints in train_pack(runs, data, device, states, is_captured=is_captured):
            checkpoints[0].autoencoder.eval()
        ends.append(states[0].tensors())
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-3, atol=1e-4)
