"""Adam: torch's own, of one network and of stacked ones with a learning rate each."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.wae_core.operators import Operators
from wae_core.training.adam import BETAS, Adam

RATES = [1e-3, 0.1]
SHAPES = [(3,), (2, 4), (5, 2, 3, 3)]


def start(members: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(members, *shape, generator=generator) for shape in SHAPES]


def loss(parameters: list[Tensor]) -> Tensor:
    """A curved function whose gradients grow and shrink from parameter to parameter."""
    return torch.stack([((number + 1) * p.sin() + 0.1 * p**4).sum() for number, p in enumerate(parameters)]).sum()


def by_torch(parameters: list[Tensor], rate: float, steps: int) -> list[Tensor]:
    parameters = [p.clone().requires_grad_() for p in parameters]
    optimiser = torch.optim.Adam(parameters, lr=rate, betas=BETAS)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(parameters).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return [p.detach() for p in parameters]


@pytest.mark.parametrize("steps", [1, 25])
@pytest.mark.parametrize("members", [1, 2])
def test_every_member_moves_as_torch_s_adam_moves_it(members: int, steps: int) -> None:
    parameters = [p.requires_grad_() for p in start(members)]
    optimiser = Adam(parameters, torch.tensor(RATES[:members]))
    for _ in range(steps):
        optimiser.descend(loss(parameters))
    for member in range(members):
        expected = by_torch([p[member] for p in start(members)], RATES[member], steps)
        torch.testing.assert_close([p.detach()[member] for p in parameters], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rate", RATES)
def test_a_hundred_updates_are_torch_s_within_rounding(rate: float) -> None:
    """Along gradients that do not depend on the parameters: a curved loss would make rounding errors grow."""
    generator = torch.Generator().manual_seed(3)
    ours, theirs = ([p[0].clone().requires_grad_() for p in start(1)] for _ in range(2))
    optimiser = Adam(ours, torch.tensor([rate]))
    reference = torch.optim.Adam(theirs, lr=rate, betas=BETAS)
    for _ in range(100):
        slopes = [torch.randn(shape, generator=generator) for shape in SHAPES]
        optimiser.descend(torch.stack([(p * s).sum() for p, s in zip(ours, slopes, strict=True)]).sum())
        for parameter, slope in zip(theirs, slopes, strict=True):
            parameter.grad = slope
        reference.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_parameters_of_other_networks_stay_as_they_are() -> None:
    ours, theirs = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    Adam([ours], torch.tensor([0.1])).descend((ours * theirs).sum())
    assert ours.tolist() == pytest.approx([0.9, 0.9]) and theirs.tolist() == [1, 1]
    assert theirs.grad is None


def test_weights_moments_and_their_copies_keep_their_place_in_memory() -> None:
    """Kernels that read weights channels last go on to; no update copies them from one layout to the other."""
    weight = torch.randn(8, 3, 4, 4).to(memory_format=torch.channels_last).requires_grad_()
    before, stride = weight.detach().clone(), weight.stride()
    optimiser = Adam([torch.zeros(5, requires_grad=True), weight], torch.tensor([0.1]))
    assert weight.equal(before)
    for tensor in (weight, optimiser.first_moments[1], optimiser.second_moments[1]):
        assert tensor.stride() == stride and tensor.shape == before.shape


@pytest.mark.parametrize("members", [1, 2])
def test_an_update_launches_no_more_for_more_parameters(members: int) -> None:
    def launches(count: int) -> int:
        parameters = [torch.ones(members, 3, requires_grad=True) for _ in range(count)]
        optimiser = Adam(parameters, torch.tensor(RATES[:members]))
        value = torch.cat(parameters).square().sum()  # as many operators backward, whatever the count
        with Operators() as counted:
            optimiser.descend(value)
        return int(counted.launches.total())

    assert launches(40) == launches(2) < 25
