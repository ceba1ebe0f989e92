"""Models per hour by pack size: what is measured, and where it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch

from wae_core.data.images import ImageData
from wae_core.run import Run
from wae_core.training import throughput
from wae_core.training.throughput import models_per_hour

CPU = torch.device("cpu")
MakeRun = Callable[..., Run]


@pytest.mark.slow
def test_rates_are_those_of_the_run_s_own_steps(make_run: MakeRun, few_digits: ImageData) -> None:
    short, long = (make_run("wae-gan", steps=n, evaluation_steps=(n,)) for n in (100, 100_000))
    rates = [models_per_hour(run, few_digits, CPU, (1,))[1] for run in (short, long)]
    assert 200 < rates[0] / rates[1] < 5000  # 1000, but for what else the machine does meanwhile


def device_that_gains(seconds: dict[int, float], memory: int) -> Callable[..., Iterator[None]]:
    """Stands in for a device: a pack's time by its size, and how many models it holds."""

    def train_pack(runs: Sequence[Run], _: Any, __: Any, states: Sequence[Any]) -> Iterator[None]:
        for _ in range(2):
            if len(runs) > memory:
                raise torch.OutOfMemoryError("CUDA out of memory")
            states[0].train_seconds += seconds[len(runs)] / len(runs)
            yield

    return train_pack


@pytest.mark.parametrize(
    ("seconds", "memory", "measured"),
    [
        ({1: 1.0, 3: 1.5, 6: 2.0, 12: 3.0}, 100, [1, 3, 6, 12]),
        ({1: 1.0, 3: 1.5, 6: 2.0, 12: 3.0}, 6, [1, 3, 6]),
        ({1: 1.0, 3: 1.5, 6: 3.0, 12: 6.0}, 100, [1, 3, 6]),  # six gain nothing over three: twelve are not tried
        ({1: 1.0, 3: 4.0, 6: 9.0, 12: 20.0}, 100, [1, 3]),
    ],
)
def test_it_ends_where_memory_does_or_the_gain(
    make_run: MakeRun,
    few_digits: ImageData,
    monkeypatch: pytest.MonkeyPatch,
    seconds: dict[int, float],
    memory: int,
    measured: list[int],
) -> None:
    monkeypatch.setattr(throughput, "train_pack", device_that_gains(seconds, memory))
    run = make_run("vae")
    rates = models_per_hour(run, few_digits, CPU, (1, 3, 6, 12))
    assert list(rates) == measured
    steps = run.protocol.steps
    expected = {n: n * 3600 * throughput.TIMED_STEPS / steps / seconds[n] for n in measured}
    assert rates == pytest.approx(expected)
