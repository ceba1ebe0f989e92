"""Several processes that share a batch train what one process trains: gloo on CPUs, in float64."""

from __future__ import annotations

import multiprocessing
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.wae_core.variants import VARIANTS
from wae_core.data.images import ImageData
from wae_core.networks.layers import BatchNorm2d
from wae_core.randomness import Streams
from wae_core.run import Run
from wae_core.storage.checkpoint import load_checkpoint, save_checkpoint
from wae_core.training.loop import train
from wae_core.training.sharding import ALONE, Group, join, leave, listen
from wae_core.training.state import TrainingState
from wae_core.training.step import Step

CPU = torch.device("cpu")
FORK = multiprocessing.get_context("fork")  # nothing is imported again
SECONDS = 300  # for all processes of a test
MakeRun = Callable[..., Run]
Tensors = dict[str, Tensor]
Case = tuple[str, str | None, str]
CASES = [(*variant, "dcgan_small") for variant in VARIANTS] + [
    ("wae-mmd", "deterministic", "resnet11v2"),
    ("wae-gan", "stochastic", "resnet11v2"),
    ("vae", None, "resnet11v2"),
]
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
every_size = pytest.mark.parametrize("size", [2, 4])


def run_of(case: Case, make_run: MakeRun, **overrides: Any) -> Run:
    algorithm, encoder, architecture = case
    return make_run(algorithm, encoder=encoder, architecture=architecture, precision="float64", **overrides)


def in_processes(size: int, job: Callable[[Group], Any], folder: Path) -> list[Any]:
    """What the job gives in each of so many processes of one model."""
    listener, address = listen("127.0.0.1")

    def process(rank: int) -> None:
        group = Group(rank, size)
        join(group, address, CPU, listener if rank == 0 else None)
        torch.save(job(group), folder / str(rank))
        leave()

    processes = [FORK.Process(target=process, args=(rank,)) for rank in range(size)]
    for each in processes:
        each.start()
    listener.close()
    for each in processes:
        each.join(SECONDS)
    assert [each.exitcode for each in processes] == [0] * size
    return [torch.load(folder / str(rank)) for rank in range(size)]


def state_after(run: Run, data: ImageData, steps: int, group: Group) -> Tensors:
    """Every tensor of the state after some steps, without pre-training."""
    state = TrainingState(run, data, CPU, group)
    state.autoencoder.train()
    step = Step([run], data, data.train, [Streams(run, CPU)], [state])
    for number in range(1, steps + 1):
        step.prepare(number)
        step.take()
    return state.tensors() | {"loss_sums": step.loss_sums[0], "first_bad_step": step.first_bad_step[0]}


def trained(run: Run, data: ImageData, group: Group, checkpoint: Path | None = None) -> tuple[list[Any], Tensors]:
    """The figures of all evaluations, and the state's tensors; only the first process reads the checkpoint."""
    state = TrainingState(run, data, CPU, group)
    if checkpoint is not None and group.rank == 0:
        tensors, content = load_checkpoint(checkpoint)
        state.load(tensors, content["step"], 0.0)
    figures = [(s.step, s.loss, s.penalty, s.diverged_at) for s in train(run, data, CPU, state)]
    return figures, state.tensors()


def distance(ours: Tensors, theirs: Tensors) -> float:
    """The largest relative distance among a network's weights, its statistics, and the moments of its gradient."""
    assert ours.keys() == theirs.keys()
    kinds = defaultdict(list)
    for name in ours:
        network, kind = name.removeprefix("adam.").split(".")[0], name.split(".")[-1]
        kinds[network, kind].append(name)
    pairs = [
        [torch.cat([t[name].double().flatten() for name in names]) for t in (ours, theirs)]
        for names in kinds.values()
    ]
    return max(float((a - b).norm() / b.norm().clamp(min=1e-30)) for a, b in pairs)


def assert_all_processes_have_the_same(states: list[Tensors]) -> None:
    first, *others = states
    assert all(state[name].equal(first[name]) for state in others for name in first)


@pytest.mark.slow
@every_size
@every_case
def test_a_gradient_is_that_of_one_process(
    make_run: MakeRun, few_digits: ImageData, tmp_path: Path, case: Case, size: int
) -> None:
    """After one step, Adam's moments are the gradient and its square, up to a factor."""
    run = run_of(case, make_run)
    states = in_processes(size, lambda group: state_after(run, few_digits, 1, group), tmp_path)
    assert_all_processes_have_the_same(states)
    assert distance(states[0], state_after(run, few_digits, 1, ALONE)) < 1e-12


@pytest.mark.slow
@every_size
@every_case
def test_twenty_steps_are_those_of_one_process(
    make_run: MakeRun, few_digits: ImageData, tmp_path: Path, case: Case, size: int
) -> None:
    """With pre-training, through four epochs and a drop of the learning rate."""
    run = run_of(
        case,
        make_run,
        pretraining_steps=12,
        pretraining_images=48,
        steps=20,
        evaluation_steps=(10, 20),
        learning_rate_drops=((2, 2.0),),
    )
    (figures, *others), states = zip(
        *in_processes(size, lambda group: trained(run, few_digits, group), tmp_path), strict=True
    )
    assert_all_processes_have_the_same(list(states))
    assert all(other == figures for other in others)
    alone_figures, alone = trained(run, few_digits, ALONE)
    assert distance(states[0], alone) < 1e-9
    assert [figure[-1] for figure in figures] == [None, None], "none has diverged"
    for ours, theirs in zip(figures, alone_figures, strict=True):
        assert ours[:-1] == pytest.approx(theirs[:-1], rel=1e-9)


@pytest.mark.slow
def test_processes_go_on_from_the_first_one_s_checkpoint(
    make_run: MakeRun, few_digits: ImageData, tmp_path: Path
) -> None:
    """The others have read none, and would begin with the first step."""
    run = make_run("wae-gan", precision="float64", steps=8, evaluation_steps=(3, 8))
    state = TrainingState(run, few_digits, CPU)
    next(train(run, few_digits, CPU, state))
    save_checkpoint(tmp_path / "checkpoint", state.tensors(), {"step": state.step})
    ours = in_processes(2, lambda group: trained(run, few_digits, group, tmp_path / "checkpoint"), tmp_path)
    assert_all_processes_have_the_same([state for _, state in ours])
    figures, undisturbed = trained(run, few_digits, ALONE)
    assert distance(ours[0][1], undisturbed) < 1e-9
    assert [figure[0] for figure in ours[1][0]] == [figure[0] for figure in figures[1:]]


@pytest.mark.slow
def test_what_is_gathered_has_the_gradient_of_all_losses(tmp_path: Path) -> None:
    """Each process's loss weighs all parts in its own way; a part's gradient is that of their sum."""

    def job(group: Group) -> tuple[Tensor, Tensor]:
        part = torch.full((2, 3), float(group.rank + 1), dtype=torch.float64, requires_grad=True)
        whole = group.gather(part, 1)
        weights = torch.arange(12.0, dtype=torch.float64).view(2, 6) * 10**group.rank
        (gradient,) = torch.autograd.grad((whole * weights).sum(), part)
        return whole.detach(), gradient

    (whole, first), (_, second) = in_processes(2, job, tmp_path)
    assert whole.tolist() == [[1, 1, 1, 2, 2, 2]] * 2
    assert first.tolist() == [[0, 11, 22], [66, 77, 88]] and second.tolist() == [[33, 44, 55], [99, 110, 121]]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_batch_norm_over_parts_is_torch_s_over_the_whole(tmp_path: Path, dtype: torch.dtype) -> None:
    """Far from 0 as well, where a difference of squares would lose its digits; its output has the input's type."""
    torch.manual_seed(0)
    x, slopes = (3 + torch.randn(8, 4, 3, 3)).to(dtype), torch.randn(8, 4, 3, 3).to(dtype)
    theirs = nn.BatchNorm2d(4).to(dtype if dtype == torch.float64 else torch.float32)
    nn.init.normal_(theirs.weight)

    def job(group: Group) -> tuple[Tensor, ...]:
        ours = BatchNorm2d(4).to(theirs.weight.dtype)
        ours.load_state_dict(theirs.state_dict())
        ours.gather = group.gather
        part = group.part(x).clone().requires_grad_()
        y = ours(part)
        (gradient,) = torch.autograd.grad((y * group.part(slopes)).sum(), part)
        return y.detach(), gradient, ours.running_mean, ours.running_var, ours.num_batches_tracked  # type: ignore[return-value]

    parts = in_processes(2, job, tmp_path)
    whole = x.clone().requires_grad_()
    expected = theirs(whole)
    (gradient,) = torch.autograd.grad((expected * slopes).sum(), whole)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]
    for number, theirs_whole in enumerate((expected, gradient)):
        ours_whole = torch.cat([part[number] for part in parts])
        assert ours_whole.dtype == dtype
        torch.testing.assert_close(ours_whole, theirs_whole, rtol=tolerance, atol=tolerance)
    for part in parts:
        torch.testing.assert_close(part[2:], tuple(theirs.buffers()), rtol=1e-6, atol=1e-6)
