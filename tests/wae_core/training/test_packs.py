"""Packs: fused models are the solo ones, do not touch each other, and cost no more launches than two do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.wae_core.operators import Operators
from tests.wae_core.variants import every_variant
from wae_core.algorithms.algorithm import Batch
from wae_core.data.images import ImageData
from wae_core.randomness import StepDraws, Streams
from wae_core.run import ALGORITHMS, Run
from wae_core.snapshot import Snapshot
from wae_core.training.loop import train_pack
from wae_core.training.state import TrainingState

CPU = torch.device("cpu")
MakeRun = Callable[..., Run]
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
every_architecture = pytest.mark.parametrize(
    "architecture", ["dcgan_small", pytest.param("resnet11v2", marks=pytest.mark.slow)]
)


def pack_of(run: Run, size: int) -> list[Run]:
    """Runs that differ in all in which the members of a pack may differ."""
    changed = ("learning_rate", "adversary_learning_rate", "kernel_scale", "wae_lambda", "decoder_variance")

    def member(number: int) -> Run:
        values = {name: getattr(run.hyperparameters, name) for name in changed}
        scaled = {name: value * (1 + number / 2) for name, value in values.items() if value is not None}
        return replace(run, seed=number, hyperparameters=replace(run.hyperparameters, **scaled))

    return [member(number) for number in range(size)]


def train_through(runs: list[Run], data: ImageData) -> tuple[list[list[Snapshot]], list[TrainingState]]:
    states = [TrainingState(run, data, CPU) for run in runs]
    return list(train_pack(runs, data, CPU, states)), states


def largest_difference(a: TrainingState, b: TrainingState, prefix: str = "") -> float:
    ours, theirs = a.tensors(), b.tensors()
    assert ours.keys() == theirs.keys() and a.step == b.step
    return max(
        float((ours[name].double() - theirs[name].double()).abs().max()) for name in ours if name.startswith(prefix)
    )


@pytest.mark.slow
@every_architecture
@every_variant
def test_in_float64_a_fused_run_equals_its_solo_run(
    make_run: MakeRun, few_digits: ImageData, algorithm: str, encoder: str | None, architecture: str
) -> None:
    run = make_run(
        algorithm,
        encoder=encoder,
        architecture=architecture,
        precision="float64",
        steps=20,
        evaluation_steps=(7, 20),
        learning_rate_drops=((2, 2.0),),
    )
    runs = pack_of(run, 3)
    fused, states = train_through(runs, few_digits)
    for number, member in enumerate(runs):
        solo, (state,) = train_through([member], few_digits)
        assert largest_difference(states[number], state) < 1e-6
        for (alone,), together in zip(solo, fused, strict=True):
            assert together[number].loss == pytest.approx(alone.loss, rel=1e-9)
            assert together[number].penalty == pytest.approx(alone.penalty, rel=1e-6, abs=1e-9)
    assert largest_difference(states[0], states[1]) > 1e-3  # they are different runs


@every_architecture
@every_algorithm
def test_in_float32_a_fused_step_is_the_solo_step(
    make_run: MakeRun, few_digits: ImageData, algorithm: str, architecture: str
) -> None:
    overrides: dict[str, Any] = {"steps": 1, "evaluation_steps": (1,), "pretraining_steps": 0}
    runs = pack_of(make_run(algorithm, architecture=architecture, **overrides), 3)
    _, states = train_through(runs, few_digits)
    for member, together in zip(runs, states, strict=True):
        _, (alone,) = train_through([member], few_digits)
        ours, theirs = gradient(together), gradient(alone)
        assert (ours - theirs).norm() <= 0.01 * theirs.norm()


def gradient(state: TrainingState) -> torch.Tensor:
    """Of the first step, by Adam's first moments. Weights would not do: that step has one length for all gradients,
    those that are rounding alone included."""
    moments = [tensor for name, tensor in state.tensors().items() if name.endswith("first_moments")]
    return torch.cat([tensor.flatten() for tensor in moments])


@every_algorithm
def test_a_member_that_diverges_leaves_its_neighbours_alone(
    make_run: MakeRun, few_digits: ImageData, algorithm: str
) -> None:
    runs = pack_of(make_run(algorithm, precision="float64", pretraining_steps=0), 3)
    spoilt = replace(runs[1], hyperparameters=replace(runs[1].hyperparameters, learning_rate=1e300))
    good, states = train_through(runs, few_digits)
    mixed, mixed_states = train_through([runs[0], spoilt, runs[2]], few_digits)
    assert [checkpoint.diverged_at for checkpoint in mixed[-1]] == [None, mixed[-1][1].diverged_at, None]
    assert mixed[-1][1].diverged_at in (2, 3)
    for number in (0, 2):
        assert largest_difference(states[number], mixed_states[number]) < 1e-12
        assert mixed[-1][number].loss == pytest.approx(good[-1][number].loss, rel=1e-12)


def test_a_pack_ends_when_all_its_members_have_diverged(make_run: MakeRun, few_digits: ImageData) -> None:
    runs = pack_of(make_run("vae", learning_rate=1e30, steps=9, evaluation_steps=(3, 6, 9)), 2)
    reached, _ = train_through(runs, few_digits)
    assert all(checkpoint.diverged_at for checkpoint in reached[-1]) and reached[-1][0].step < 9


@pytest.mark.slow
@every_architecture
@every_algorithm
def test_the_operators_of_a_step_do_not_grow_with_the_pack(
    make_run: MakeRun, few_digits: ImageData, algorithm: str, architecture: str
) -> None:
    def launches(size: int, steps: int) -> Counter[str]:
        overrides = {"steps": steps, "evaluation_steps": (steps,), "pretraining_steps": 0}
        run = make_run(algorithm, architecture=architecture, **overrides)
        states = [TrainingState(member, few_digits, CPU) for member in pack_of(run, size)]
        with Operators() as counted:
            for _ in train_pack(pack_of(run, size), few_digits, CPU, states):
                pass
        count: Counter[str] = counted.dispatched
        return count

    # The third step is within the first epoch and the first block of random draws.
    two, five = (launches(size, 3) - launches(size, 2) for size in (2, 5))
    assert two == five and two.total() > 100


@pytest.mark.slow
@every_algorithm
def test_bfloat16_follows_the_float32_reference(make_run: MakeRun, few_digits: ImageData, algorithm: str) -> None:
    ends = {}
    for precision in ("float32", "bfloat16"):
        run = make_run(algorithm, precision=precision, steps=40, evaluation_steps=(40,), learning_rate=1e-3)
        ((checkpoint,),), (state,) = train_through([run], few_digits)
        ends[precision] = checkpoint.loss
        assert {tensor.dtype for name, tensor in state.named().items() if "weight" in name} == {torch.float32}
    assert ends["bfloat16"] == pytest.approx(ends["float32"], rel=0.05)
    assert ends["bfloat16"] != ends["float32"]


def drawn(draws: StepDraws, step: int) -> Batch:
    draws.prepare(step)
    return draws.at(torch.tensor([step - 1]))


def test_members_of_a_pack_draw_their_own_numbers_whatever_their_neighbours(make_run: MakeRun) -> None:
    shapes = {"z_prior": (40, 4), "input": (40, 1, 28, 28)}
    streams = [Streams(make_run("wae-mmd", seed=seed), CPU) for seed in range(3)]
    pack, solo = (StepDraws(own, shapes, torch.float32) for own in (streams, streams[2:]))
    for step in (1, 2, 100, 101, 102, 7):  # backwards as well: a resumed run begins anywhere
        together, alone = drawn(pack, step), drawn(solo, step)
        for purpose, shape in shapes.items():
            assert together[purpose].shape == (3, *shape)
            assert together[purpose][2].equal(alone[purpose][0])
            assert not torch.isclose(together[purpose][0], together[purpose][2]).all()
    first = drawn(pack, 1)["z_prior"]
    assert not any(first.equal(drawn(pack, step)["z_prior"]) for step in (2, 101))
