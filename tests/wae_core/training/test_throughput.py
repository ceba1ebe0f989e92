"""Models per hour by pack size: what is measured, and where it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import torch

from wae_core.data.images import ImageData
from wae_core.run import Run
from wae_core.snapshot import Snapshot
from wae_core.training import throughput
from wae_core.training.throughput import Packing, models_per_hour

CPU = torch.device("cpu")
MakeRun = Callable[..., Run]


@pytest.mark.slow
def test_rates_are_those_of_the_run_s_own_steps(make_run: MakeRun, few_digits: ImageData) -> None:
    short, long = (make_run("wae-gan", steps=n, evaluation_steps=(n,)) for n in (100, 100_000))
    rates = [models_per_hour(run, few_digits, CPU, (1,))[Packing(1)] for run in (short, long)]
    assert 200 < rates[0] / rates[1] < 5000  # 1000, but for what else the machine does meanwhile


def device_that_gains(
    seconds: dict[int, float], memory: int, by_graph: Callable[[float], float] = float
) -> Callable[..., Iterator[list[Snapshot]]]:
    """Stands in for a device: a pack's time by its size, how many models it holds, the loss that a graph leads to."""

    def train_pack(
        runs: Sequence[Run], _: Any, __: Any, states: Sequence[Any], is_captured: bool
    ) -> Iterator[list[Snapshot]]:
        for step in (1, 2):
            if len(runs) > memory:
                raise torch.OutOfMemoryError("CUDA out of memory")
            states[0].train_seconds += seconds[len(runs)] / len(runs) / (2 if is_captured else 1)
            loss = by_graph(7.0) if is_captured else 7.0
            yield [Snapshot(step, states[0].autoencoder, loss, 0.0, None, True)]

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
    assert list(rates) == [Packing(size) for size in measured]
    steps = run.protocol.steps
    expected = {Packing(n): n * 3600 * throughput.TIMED_STEPS / steps / seconds[n] for n in measured}
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(("by_graph", "is_used"), [(float, True), (lambda loss: loss * 1.01, False)])
def test_a_captured_step_is_measured_where_there_are_graphs_and_left_out_where_it_computes_something_else(
    make_run: MakeRun,
    few_digits: ImageData,
    monkeypatch: pytest.MonkeyPatch,
    by_graph: Callable[[float], float],
    is_used: bool,
) -> None:
    monkeypatch.setattr(throughput, "train_pack", device_that_gains({1: 1.0, 3: 2.0}, 100, by_graph))
    monkeypatch.setattr(throughput, "has_graphs", lambda _: True)
    rates = models_per_hour(make_run("vae"), few_digits, CPU, (1, 3))
    captured = [packing for packing in rates if packing.is_captured]
    assert captured == [Packing(size, is_captured=True) for size in (1, 3) if is_used]
    assert [rates[packing] / rates[Packing(packing.size)] for packing in captured] == [2.0] * len(captured)
