"""A step is the same for the device every time: what a CUDA graph replays, and a compiler compiles once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from tests.wae_core.variants import every_variant
from wae_core.data.images import ImageData
from wae_core.networks import ARCHITECTURES
from wae_core.randomness import Streams
from wae_core.run import ALGORITHMS, Run
from wae_core.training.state import TrainingState
from wae_core.training.step import Step

CPU = torch.device("cpu")
MakeRun = Callable[..., Run]


def step_of(run: Run, data: ImageData, size: int) -> Step:
    runs = [replace(run, seed=seed) for seed in range(size)]
    states = [TrainingState(member, data, CPU) for member in runs]
    for state in states:
        state.autoencoder.train()
    return Step(runs, data, data.train, [Streams(member, CPU) for member in runs], states)


class Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down each operator with its arguments: of tensors type, shape and strides, of all else the value.

    Of a tensor that was there before, it writes down the address too: a replayed step finds it nowhere else.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: list[Any] = []
        self._made: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        arguments = [self._describe(value) for value in tree_flatten((args, kwargs or {}))[0]]
        before = {a.untyped_storage().data_ptr() for a in tree_flatten((args, kwargs))[0] if isinstance(a, Tensor)}
        result = function(*args, **(kwargs or {}))
        made = {r.untyped_storage().data_ptr() for r in tree_flatten(result)[0] if isinstance(r, Tensor)}
        self._made |= made - before
        self.operators.append((str(function), arguments))
        return result

    def _describe(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value if isinstance(value, int | float | bool | str) else str(value)
        address = value.untyped_storage().data_ptr()
        where = None if address in self._made else (address, value.storage_offset())
        return str(value.dtype), tuple(value.shape), value.stride(), where


def traces(step: Step, numbers: range) -> list[list[Any]]:
    taken = []
    for number in numbers:
        step.prepare(number)
        with Trace() as trace:
            step.take()
        taken.append(trace.operators)
    return taken


def assert_all_are_the_same(taken: list[list[Any]]) -> None:
    first, *others = taken
    assert len(first) > 50
    for other in others:
        assert len(other) == len(first)
        assert [pair for pair in zip(first, other, strict=True) if pair[0] != pair[1]] == []


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float64"])
@pytest.mark.parametrize("size", [1, 3])
@every_variant
def test_all_steps_launch_the_same(
    make_run: MakeRun, few_digits: ImageData, algorithm: str, encoder: str | None, size: int, precision: str
) -> None:
    """Through the end of an epoch, which has five steps, and a drop of the learning rate."""
    run = make_run(algorithm, encoder=encoder, precision=precision, learning_rate_drops=((1, 2.0),))
    assert_all_are_the_same(traces(step_of(run, few_digits, size), range(1, 8)))


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_all_steps_of_every_architecture_launch_the_same(
    make_run: MakeRun, few_digits: ImageData, algorithm: str, architecture: str, size: int
) -> None:
    run = make_run(algorithm, architecture=architecture)
    assert_all_are_the_same(traces(step_of(run, few_digits, size), range(1, 4)))


@pytest.mark.parametrize("size", [1, 3])
@every_variant
def test_a_step_runs_without_a_value(
    make_run: MakeRun,
    few_digits: ImageData,
    monkeypatch: pytest.MonkeyPatch,
    algorithm: str,
    encoder: str | None,
    size: int,
) -> None:
    """FakeTensor, which knows shapes alone, raises where anything asks a tensor for its value."""
    monkeypatch.setattr("wae_core.networks.initialise", lambda *_, **__: None)  # it rejects draws by their values
    monkeypatch.setattr(torch.nn.Module, "to", lambda network, *_, **__: network)  # it cannot swap FakeTensors
    run = make_run(algorithm, encoder=encoder)
    with FakeTensorMode():
        fake = replace(few_digits, train=torch.zeros(few_digits.train.shape, dtype=torch.uint8))
        step = step_of(run, fake, size)
        step.prepare(1)
        step.take()
        with pytest.raises(Exception, match="_local_scalar_dense"):
            step.loss_sums[0, 0].item()
