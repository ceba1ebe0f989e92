"""The networks of a pack against each member's own, alone: outputs, gradients and running averages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from wae_core.networks import ARCHITECTURES, AutoEncoder, LatentDiscriminator, build_autoencoder
from wae_core.networks.pack import member_of

K, LATENT_DIM = 3, 5
GREY, COLOUR = ((1, 28, 28), (0.0, 1.0)), ((3, 64, 64), (-1.0, 1.0))
every_architecture = pytest.mark.parametrize(
    "architecture", [pytest.param(name, marks=pytest.mark.slow if "50" in name else ()) for name in ARCHITECTURES]
)


def autoencoders(architecture: str, data: Any, batch_norm: bool = True) -> list[AutoEncoder]:
    torch.manual_seed(0)
    options: dict[str, Any] = {"latent_dim": LATENT_DIM, "width": 2, "stochastic": True, "batch_norm": batch_norm}
    models = [build_autoencoder(architecture, *data, **options).double() for _ in range(K)]
    for model in models:
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)  # biases and batch norms too
    return [model.to(memory_format=torch.channels_last) for model in models]  # type: ignore[call-overload]


def stacked(networks: list[Any]) -> dict[str, Tensor]:
    """Parameters and buffers by name, [K, ...]."""
    states = [network.state_dict() for network in networks]
    tensors = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    return {name: t.requires_grad_(name in dict(networks[0].named_parameters())) for name, t in tensors.items()}


def together(networks: list[Any], weights: dict[str, Tensor], x: Tensor, in_dim: int | None = 0) -> Any:
    def member(number: Tensor, x: Tensor) -> Any:
        return member_of(networks[0], weights, number)(x)

    return torch.vmap(member, in_dims=(0, in_dim))(torch.arange(K), x)


def cubes(parts: Iterable[Tensor]) -> Tensor:
    return torch.stack([(part**3).sum() for part in parts]).sum()


def assert_same(networks: list[Any], x: Tensor) -> None:
    """Of K networks, on x [K, n, ...]: outputs, the gradients of their cubes' sum, and what training changes."""
    weights = stacked(networks)
    outputs = [network(own) for network, own in zip(networks, x, strict=True)]
    alone = [
        torch.stack(part) for part in (zip(*outputs, strict=True) if isinstance(outputs[0], tuple) else [outputs])
    ]
    fused = together(networks, weights, x)
    fused = fused if isinstance(fused, tuple) else (fused,)
    torch.testing.assert_close(list(fused), alone, rtol=1e-10, atol=1e-10)
    cubes(alone).backward()  # type: ignore[no-untyped-call]
    names = [name for name, _ in networks[0].named_parameters()]
    gradients = torch.autograd.grad(cubes(fused), [weights[name] for name in names])
    for name, gradient in zip(names, gradients, strict=True):
        own = torch.stack([network.get_parameter(name).grad for network in networks])
        assert (gradient - own).norm() <= 1e-9 * own.norm(), name
    for name, _ in networks[0].named_buffers():
        own = torch.stack([network.get_buffer(name) for network in networks])
        torch.testing.assert_close(weights[name], own, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("data", [GREY, pytest.param(COLOUR, marks=pytest.mark.slow)], ids=["grey", "colour"])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@every_architecture
def test_a_pack_s_autoencoders_are_its_members_own(architecture: str, training: bool, data: Any) -> None:
    models = [model.train(training) for model in autoencoders(architecture, data)]
    assert_same([model.encoder for model in models], torch.rand(K, 4, *data[0], dtype=torch.float64))
    assert_same([model.decoder for model in models], torch.randn(K, 4, LATENT_DIM, dtype=torch.float64))


@pytest.mark.parametrize("architecture", ["dcgan_small", "resnet11v2"])
def test_a_pack_without_batch_norm(architecture: str) -> None:
    models = autoencoders(architecture, COLOUR, batch_norm=False)
    assert_same([model.encoder for model in models], torch.rand(K, 4, 3, 64, 64, dtype=torch.float64))
    assert_same([model.decoder for model in models], torch.randn(K, 4, LATENT_DIM, dtype=torch.float64))


def test_a_pack_of_discriminators() -> None:
    torch.manual_seed(0)
    networks = [LatentDiscriminator(LATENT_DIM, 2).double() for _ in range(K)]
    assert_same(networks, torch.randn(K, 7, LATENT_DIM, dtype=torch.float64))


def test_all_members_may_be_given_the_same() -> None:
    networks = [model.decoder.eval() for model in autoencoders("dcgan_small", GREY)]
    z = torch.randn(4, LATENT_DIM, dtype=torch.float64)
    logits = together(networks, stacked(networks), z, in_dim=None)
    torch.testing.assert_close(logits, torch.stack([network(z) for network in networks]))


@pytest.mark.parametrize("architecture", ["dcgan_small", "resnet11v2"])
def test_autocast_reaches_a_pack(architecture: str) -> None:
    networks = [model.decoder.float() for model in autoencoders(architecture, GREY)]
    z = torch.randn(K, 4, LATENT_DIM)
    exact = together(networks, stacked(networks), z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = together(networks, stacked(networks), z)
        alone = torch.stack([network(own) for network, own in zip(networks, z, strict=True)])
    assert logits.dtype == alone.dtype == torch.bfloat16
    assert 0 < (logits - alone).norm() + (logits - exact).norm() < 0.1 * exact.norm()


def test_outside_vmap_there_is_no_member() -> None:
    networks = [model.decoder for model in autoencoders("dcgan_small", GREY)]
    with pytest.raises(NotImplementedError, match=r"within torch\.vmap"):
        member_of(networks[0], stacked(networks), torch.tensor(0))(torch.zeros(4, LATENT_DIM).double())
