"""The objectives against their formulas written out, in float64, and against finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from wae_core.algorithms import objectives

N, D = 6, 3


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


X, Y = normal(N, 2, 5, 4, seed=1), normal(N, 2, 5, 4, seed=2)
LOGITS_PRIOR, LOGITS_ENCODED = 2 * normal(N, seed=3), 2 * normal(N, seed=4)
MEAN, LOG_VARIANCE = normal(N, D, seed=5), normal(N, D, seed=6)


def squared_errors(x: Tensor, y: Tensor) -> list[float]:
    """||x − y||² of each image, summed over pixels and channels."""
    return [
        sum(float(a - b) ** 2 for a, b in zip(p.flatten(), q.flatten(), strict=True))
        for p, q in zip(x, y, strict=True)
    ]


def test_reconstruction_cost() -> None:
    expected = 0.05 * sum(squared_errors(X, Y)) / N
    assert float(objectives.reconstruction_cost(X, Y, 0.05)) == pytest.approx(expected, rel=1e-13)


def test_negative_log_likelihood() -> None:
    expected = sum(error / (2 * 0.3) for error in squared_errors(X, Y)) / N
    assert float(objectives.gaussian_negative_log_likelihood(X, Y, 0.3)) == pytest.approx(expected, rel=1e-13)


def test_bernoulli_negative_log_likelihood() -> None:
    x, p = torch.sigmoid(X), torch.sigmoid(Y)
    expected = -(x * torch.log(p) + (1 - x) * torch.log(1 - p)).sum() / N
    torch.testing.assert_close(objectives.bernoulli_negative_log_likelihood(x, Y), expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("prior_variance", [1.0, 2.0])
def test_log_prior(prior_variance: float) -> None:
    prior: Any = Normal(torch.zeros_like(MEAN), math.sqrt(prior_variance))
    expected = prior.log_prob(MEAN).sum(dim=1)
    actual = objectives.log_prior(MEAN, prior_variance)
    torch.testing.assert_close(actual, expected, rtol=1e-13, atol=0)
    assert actual.shape == (N,)  # one scalar a code: [n, 1] would broadcast against D's logits


def test_reparameterise() -> None:
    noise = normal(N, D, seed=7)
    expected = MEAN + noise * torch.sqrt(torch.exp(LOG_VARIANCE))
    torch.testing.assert_close(objectives.reparameterise(MEAN, LOG_VARIANCE, noise), expected, rtol=1e-14, atol=0)
    assert torch.equal(objectives.reparameterise(MEAN, None, noise), MEAN)


def test_reparameterised_codes_have_the_encoder_s_moments() -> None:
    n = 200_000
    codes = objectives.reparameterise(MEAN[:1], LOG_VARIANCE[:1], normal(n, D, seed=8))
    deviation = torch.exp(LOG_VARIANCE[0]).sqrt()
    assert ((codes.mean(0) - MEAN[0]).abs() < 5 * deviation / math.sqrt(n)).all()
    assert ((codes.std(0) / deviation - 1).abs() < 5 / math.sqrt(2 * n)).all()


def test_discriminator_loss() -> None:
    log_d = torch.log(torch.sigmoid(LOGITS_PRIOR))
    log_not_d = torch.log(1 - torch.sigmoid(LOGITS_ENCODED))
    expected = -(7.0 / N) * (log_d + log_not_d).sum()
    actual = objectives.discriminator_loss(LOGITS_PRIOR, LOGITS_ENCODED, 7.0)
    torch.testing.assert_close(actual, expected, rtol=1e-13, atol=0)


def test_adversarial_penalty_is_the_non_saturating_one() -> None:
    expected = -torch.log(torch.sigmoid(LOGITS_ENCODED)).sum() / N
    torch.testing.assert_close(objectives.adversarial_penalty(LOGITS_ENCODED), expected, rtol=1e-13, atol=0)


def test_adversarial_losses_are_finite_where_the_sigmoid_is_exactly_0_or_1() -> None:
    far = torch.tensor([-2000.0, 2000.0])
    assert float(objectives.adversarial_penalty(far)) == 1000.0
    assert float(objectives.discriminator_loss(far, far, 1.0)) == 2000.0


@pytest.mark.parametrize("prior_variance", [1.0, 2.0, 0.25])
def test_gaussian_kl(prior_variance: float) -> None:
    encoder = Normal(MEAN, torch.exp(LOG_VARIANCE).sqrt())
    prior = Normal(torch.zeros_like(MEAN), math.sqrt(prior_variance))
    expected = kl_divergence(encoder, prior).sum(dim=1).mean()
    actual = objectives.gaussian_kl(MEAN, LOG_VARIANCE, prior_variance)
    torch.testing.assert_close(actual, expected, rtol=1e-13, atol=0)


def test_gaussian_kl_of_the_prior_itself_is_zero() -> None:
    mean, log_variance = torch.zeros(N, D), torch.full((N, D), math.log(2.0))
    assert float(objectives.gaussian_kl(mean, log_variance, 2.0)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("d", [1, 3])
def test_moment_mismatch(d: int) -> None:
    codes = normal(N, d, seed=9) * 1.5 + 0.3
    array = codes.numpy()
    mean = array.sum(0) / N
    covariance = (array - mean).T @ (array - mean) / (N - 1)
    expected = np.mean(mean**2) + np.mean((covariance - 2.0 * np.eye(d)) ** 2)
    assert float(objectives.moment_mismatch(codes, 2.0)) == pytest.approx(expected, rel=1e-13)


GRADIENTS: list[tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = [
    (lambda x, y: objectives.reconstruction_cost(x, y, 0.05), (X, Y)),
    (lambda x, y: objectives.gaussian_negative_log_likelihood(x, y, 0.3), (X, Y)),
    (lambda x, y: objectives.bernoulli_negative_log_likelihood(torch.sigmoid(x), y), (X, Y)),
    (lambda z: objectives.log_prior(z, 2.0), (MEAN,)),
    (objectives.reparameterise, (MEAN, LOG_VARIANCE, normal(N, D, seed=10))),
    (lambda p, q: objectives.discriminator_loss(p, q, 7.0), (LOGITS_PRIOR, LOGITS_ENCODED)),
    (objectives.adversarial_penalty, (LOGITS_ENCODED,)),
    (lambda m, v: objectives.gaussian_kl(m, v, 2.0), (MEAN, LOG_VARIANCE)),
    (lambda z: objectives.moment_mismatch(z, 2.0), (MEAN,)),
]


@pytest.mark.parametrize(("function", "inputs"), GRADIENTS)
def test_gradients_agree_with_finite_differences(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
    assert torch.autograd.gradcheck(function, [x.clone().requires_grad_() for x in inputs])
