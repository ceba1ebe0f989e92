"""Device xla, by XLA for CPUs (make test-xla): it trains what the CPU does, and compiles each program once."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from wae_core.data.images import ImageData
from wae_core.device import describe, select_device
from wae_core.evaluation.evaluator import Evaluator
from wae_core.evaluation.features import load_features
from wae_core.run import ALGORITHMS, Run
from wae_core.snapshot import Snapshot
from wae_core.storage.checkpoint import load_checkpoint, save_checkpoint
from wae_core.training.loop import train, train_pack
from wae_core.training.state import TrainingState
from wae_core.training.step import Step

metrics: Any = pytest.importorskip("torch_xla.debug.metrics", reason="torch_xla is not installed: make test-xla")

CPU = torch.device("cpu")
MakeRun = Callable[..., Run]
LONG: dict[str, Any] = {  # an epoch has 5 steps
    "precision": "float64",
    "steps": 8,
    "evaluation_steps": (2, 5, 8),
    "learning_rate_drops": ((1, 2.0),),
}
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
every_size = pytest.mark.parametrize("size", [1, 3])


@pytest.fixture(scope="module")
def xla() -> torch.device:
    return select_device("xla")


def compilations() -> int:
    data = metrics.metric_data("CompileTime")
    return int(data[0]) if data else 0


def pack_of(run: Run, size: int) -> list[Run]:
    return [replace(run, seed=seed) for seed in range(size)]


def train_through(
    runs: list[Run], data: ImageData, device: torch.device
) -> tuple[list[list[Snapshot]], list[TrainingState]]:
    states = [TrainingState(run, data, device) for run in runs]
    return list(train_pack(runs, data.to(device), device, states)), states


def assert_equal_within_rounding(a: TrainingState, b: TrainingState) -> None:
    ours, theirs = a.tensors(), b.tensors()
    assert ours.keys() == theirs.keys() and a.step == b.step
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=1e-6, msg=name)


@every_algorithm
@every_size
def test_a_model_is_trained_as_on_the_cpu(
    make_run: MakeRun, few_digits: ImageData, xla: torch.device, algorithm: str, size: int
) -> None:
    """In float64: weights, batch-norm statistics, Adam's moments and losses, through pre-training and a new epoch."""
    runs = pack_of(make_run(algorithm, **LONG), size)
    ours, states = train_through(runs, few_digits, xla)
    theirs, expected = train_through(runs, few_digits, CPU)
    for state, other in zip(states, expected, strict=True):
        assert_equal_within_rounding(state, other)
    for snapshots, others in zip(ours, theirs, strict=True):
        for ours_at, theirs_at in zip(snapshots, others, strict=True):
            assert ours_at.loss == pytest.approx(theirs_at.loss, rel=1e-6)
            assert ours_at.penalty == pytest.approx(theirs_at.penalty, rel=1e-6, abs=1e-9)


@every_algorithm
@every_size
def test_a_step_is_compiled_once(
    make_run: MakeRun,
    few_digits: ImageData,
    xla: torch.device,
    monkeypatch: pytest.MonkeyPatch,
    algorithm: str,
    size: int,
) -> None:
    """Through two epochs, two checkpoints and a drop of the learning rate; what lies between is counted apart."""
    overrides = {**LONG, "precision": "float32", "steps": 12, "evaluation_steps": (4, 12)}
    runs = pack_of(make_run(algorithm, **overrides), size)
    before: list[int] = []
    within: list[int] = []
    take = Step.take

    def counted(step: Step) -> None:
        before.append(compilations())
        take(step)

    monkeypatch.setattr(Step, "take", counted)
    monkeypatch.setattr("wae_core.training.loop.end_step", lambda device: _end(device, within))
    train_through(runs, few_digits, xla)
    steps = within[1::2] if runs[0].is_stochastic else within[-2 * 12 :][1::2]  # pre-training has three before
    assert len(steps) == 12 and len(before) == 12
    assert sum(steps) == 1 and steps[0] == 1, "the first step, and no other"


def _end(device: torch.device, within: list[int]) -> None:
    from wae_core.device import end_step

    began = compilations()
    end_step(device)
    within.append(compilations() - began)


@every_algorithm
def test_an_evaluation_compiles_each_phase_once(
    make_run: MakeRun, few_digits: ImageData, xla: torch.device, algorithm: str
) -> None:
    run = make_run(algorithm, steps=6, evaluation_steps=(2, 4, 6), fid_samples=1500)  # three batches of samples
    on_device = few_digits.to(xla)
    evaluator = Evaluator(on_device, load_features("digits", xla), xla)
    state = TrainingState(run, few_digits, xla)
    counts, evaluations = [], []
    for snapshot in train(run, on_device, xla, state):
        began = compilations()
        evaluations.append(evaluator.evaluate(run, snapshot, 1.0))
        counts.append(compilations() - began)
    assert counts[0] <= MOST_AT_AN_EVALUATION and counts[1:] == [0, 0]
    on_cpu = Evaluator(few_digits, load_features("digits", CPU), CPU)
    other = TrainingState(run, few_digits, CPU)
    expected = [on_cpu.evaluate(run, snapshot, 1.0) for snapshot in train(run, few_digits, CPU, other)]
    for ours, theirs in zip(evaluations, expected, strict=True):
        assert asdict(ours) == pytest.approx(asdict(theirs), rel=0.02, abs=1e-4)
    assert all(math.isfinite(evaluation.fid) for evaluation in evaluations)


MOST_AT_AN_EVALUATION = 6  # what training left to do, samples, features, reconstructions, codes, and the mismatch


@every_algorithm
def test_a_resumed_run_ends_where_the_undisturbed_one_does(
    make_run: MakeRun, few_digits: ImageData, xla: torch.device, tmp_path: Path, algorithm: str
) -> None:
    run = make_run(algorithm, **{**LONG, "precision": "float32"})
    _, (undisturbed,) = train_through([run], few_digits, xla)
    path, killed = tmp_path / "step.safetensors", TrainingState(run, few_digits, xla)
    next(train(run, few_digits, xla, killed))
    save_checkpoint(path, killed.tensors(), {"step": killed.step, "train_seconds": killed.train_seconds})
    tensors, content = load_checkpoint(path)
    resumed = TrainingState(run, few_digits, xla)
    resumed.load(tensors, content["step"], content["train_seconds"])
    assert resumed.step == 2
    for _ in train(run, few_digits, xla, resumed):
        pass
    ours, theirs = resumed.tensors(), undisturbed.tensors()
    assert [name for name in ours if not ours[name].equal(theirs[name])] == []


def test_the_row_says_which_hardware_it_was(xla: torch.device) -> None:
    assert describe(xla).lower() == "xla: cpu"


def test_a_machine_without_a_tpu_is_refused_unless_the_environment_asks_for_its_cpu() -> None:
    """`PJRT_DEVICE` is what the runtime itself reads; where it is not set, it writes its own choice there."""
    code = "from wae_core.device import require_device\nfor _ in range(2):\n try: require_device('xla')\n"
    code += " except ValueError as error: print(error)\n else: print('taken')"
    environment = {name: value for name, value in os.environ.items() if name != "PJRT_DEVICE"}
    for more, words in (({}, "this machine has no TPU"), ({"PJRT_DEVICE": "CPU"}, "taken")):
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment | more, capture_output=True, text=True, check=True
        )
        assert [words in line for line in done.stdout.splitlines()] == [True, True]
