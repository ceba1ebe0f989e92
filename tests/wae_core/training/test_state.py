"""A training state: what is in it, that it comes back whole, and where its first weights come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from wae_core.data.images import ImageData
from wae_core.run import ALGORITHMS, Run
from wae_core.training.loop import train
from wae_core.training.state import TrainingState

CPU = torch.device("cpu")
MakeRun = Callable[..., Run]


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[name].equal(b[name]) for name in a)


def trained(run: Run, data: ImageData) -> TrainingState:
    state = TrainingState(run, data, CPU)
    for _ in train(run, data, CPU, state):
        pass
    return state


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_tensors_are_the_same_ones_before_and_after_the_first_step(
    make_run: MakeRun, few_digits: ImageData, algorithm: str
) -> None:
    run = make_run(algorithm)
    before = TrainingState(run, few_digits, CPU).tensors()
    after = trained(run, few_digits).tensors()
    assert [(name, t.shape, t.dtype) for name, t in before.items()] == [
        (name, t.shape, t.dtype) for name, t in after.items()
    ]
    unmoved = {name for name in before if before[name].equal(after[name])}
    assert unmoved == {"first_bad_step", "loss_sums"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_tensors_hold_all_weights_buffers_and_moments(
    make_run: MakeRun, few_digits: ImageData, algorithm: str
) -> None:
    state = trained(make_run(algorithm), few_digits)
    tensors = state.tensors()
    networks = {"autoencoder": state.autoencoder}
    if state.discriminator is not None:
        networks["discriminator"] = state.discriminator  # type: ignore[assignment]
    expected = {f"{prefix}.{name}": t for prefix, net in networks.items() for name, t in net.state_dict().items()}
    for (prefix, network), optimiser in zip(networks.items(), state.optimisers, strict=True):
        for moment in ("first_moments", "second_moments"):
            moments: list[Tensor] = getattr(optimiser, moment)
            names = [name for name, _ in network.named_parameters()]
            expected |= {f"adam.{prefix}.{name}.{moment}": t for name, t in zip(names, moments, strict=True)}
    expected |= {"first_bad_step": torch.tensor(-1), "loss_sums": torch.zeros(2)}
    assert equal(tensors, expected)
    assert all(tensor.device == CPU and tensor.is_contiguous() for tensor in tensors.values())
    assert ("discriminator.0.weight" in tensors) == (algorithm == "wae-gan")


def test_tensors_are_copies(make_run: MakeRun, few_digits: ImageData) -> None:
    state = TrainingState(make_run("wae-gan"), few_digits, CPU)
    before = state.tensors()
    kept = {name: tensor.clone() for name, tensor in before.items()}
    for _ in train(make_run("wae-gan"), few_digits, CPU, state):
        pass
    assert equal(before, kept)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_load_takes_over_everything(make_run: MakeRun, few_digits: ImageData, algorithm: str) -> None:
    run = make_run(algorithm)
    tensors = trained(run, few_digits).tensors() | {"first_bad_step": torch.tensor(3)}
    fresh = TrainingState(run, few_digits, CPU)
    fresh.load(tensors, step=4, train_seconds=1.5)
    assert equal(fresh.tensors(), tensors)
    assert (fresh.step, fresh.train_seconds, int(fresh.first_bad_step)) == (4, 1.5, 3)
    assert [optimiser.steps for optimiser in fresh.optimisers] == [4] * len(fresh.optimisers)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("autoencoder.encoder.head.bias"), "encoder.head.bias"),
        (lambda tensors: tensors.pop("adam.autoencoder.encoder.head.bias.first_moments"), "head.bias.first"),
        (lambda tensors: tensors.update(surplus=torch.zeros(1)), "surplus"),
        (
            lambda tensors: tensors.update({"autoencoder.encoder.head.bias": torch.zeros(1, 4)}),
            r"head.bias.*\[1, 4\]",
        ),
    ],
    ids=["missing weight", "missing moment", "unknown", "another shape"],
)
def test_load_refuses_another_run_s_tensors(
    make_run: MakeRun, few_digits: ImageData, change: Callable[[dict[str, Tensor]], Any], message: str
) -> None:
    state = TrainingState(make_run("wae-mmd"), few_digits, CPU)
    before = state.tensors()
    tensors = {name: tensor + 1 for name, tensor in before.items()}
    change(tensors)
    with pytest.raises(ValueError, match=message):
        state.load(tensors, step=2, train_seconds=0.0)
    assert state.step == 0 and equal(state.tensors(), before)


def test_first_weights_are_the_run_s_own(make_run: MakeRun, few_digits: ImageData) -> None:
    def first(**overrides: Any) -> dict[str, Tensor]:
        return TrainingState(make_run("wae-gan", **overrides), few_digits, CPU).tensors()

    plain = first()
    torch.manual_seed(17)
    assert equal(first(), plain)
    assert equal(first(learning_rate=0.1), plain)
    for change in ({"seed": 1}, {"config_index": 1}, {"study_seed": 1}):
        other = first(**change)
        for network in ("autoencoder.encoder.head", "discriminator.0"):
            assert not torch.isclose(other[f"{network}.weight"], plain[f"{network}.weight"]).any()


def test_first_weights_leave_the_global_generator_alone(make_run: MakeRun, few_digits: ImageData) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    TrainingState(make_run("wae-gan"), few_digits, CPU)
    assert torch.equal(torch.rand(3), expected)


def test_each_network_has_an_adam_with_its_own_learning_rate(make_run: MakeRun, few_digits: ImageData) -> None:
    run = make_run("wae-gan", learning_rate=0.003, adversary_learning_rate=0.07)
    state = TrainingState(run, few_digits, CPU)
    assert state.discriminator is not None
    for optimiser, network, rate in zip(
        state.optimisers, [state.autoencoder, state.discriminator], [0.003, 0.07], strict=True
    ):
        assert optimiser.learning_rate.tolist() == pytest.approx([rate])
        assert [id(p) for p in optimiser.parameters] == [id(p) for p in network.parameters()]


@pytest.mark.parametrize("algorithm", ["wae-mmd", "vae"])
def test_only_wae_gan_has_a_discriminator(make_run: MakeRun, few_digits: ImageData, algorithm: str) -> None:
    state = TrainingState(make_run(algorithm), few_digits, CPU)
    assert state.discriminator is None and len(state.optimisers) == 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_batch_norm_is_left_out_for_the_algorithms_named(
    make_run: MakeRun, few_digits: ImageData, algorithm: str
) -> None:
    state = TrainingState(make_run(algorithm, without_batch_norm=("vae",)), few_digits, CPU)
    norms = [module for module in state.autoencoder.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert bool(norms) == (algorithm != "vae")


def test_a_fresh_state_is_at_the_beginning(make_run: MakeRun, few_digits: ImageData) -> None:
    state = TrainingState(make_run("vae"), few_digits, CPU)
    assert (state.step, state.train_seconds, int(state.first_bad_step)) == (0, 0.0, -1)
