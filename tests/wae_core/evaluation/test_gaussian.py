"""GaussianStatistics against numpy's mean and covariance of all features at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from wae_core.evaluation.gaussian import GaussianStatistics


def merged(features: Tensor, sizes: tuple[int, ...]) -> GaussianStatistics:
    statistics = GaussianStatistics(features.shape[1])
    for batch in torch.split(features, list(sizes)):
        statistics.update(batch)
    return statistics


def correlated(n: int, d: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(d, d, generator=generator, dtype=torch.float64)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) @ mixing


@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize("sizes", [(301,), (1, 7, 64, 128, 101), (300, 1), (1,) * 301])
def test_equals_numpy(sizes: tuple[int, ...], offset: float) -> None:
    features = correlated(301, 12)
    statistics = merged(features + offset, sizes)
    # The offset costs the features themselves digits; so the reference is taken of what was passed in.
    expected = np.cov((features + offset).numpy() - offset, rowvar=False)
    assert statistics.count == 301
    assert statistics.mean.dtype == statistics.covariance.dtype == np.float64
    np.testing.assert_allclose(statistics.mean, (features + offset).numpy().mean(0), rtol=1e-12, atol=1e-14)
    assert np.abs(statistics.covariance - expected).max() < 1e-12 * np.abs(expected).max()


def test_float32_features_are_summed_in_float64() -> None:
    features = (correlated(1000, 4) + 1e4).float()
    expected = np.cov(features.double().numpy() - 1e4, rowvar=False)
    covariance = merged(features, (100,) * 10).covariance
    assert np.abs(covariance - expected).max() < 1e-12 * np.abs(expected).max()


def test_order_of_the_batches_matters_in_the_last_bits_only() -> None:
    batches = torch.split(correlated(200, 6), [3, 50, 47, 99, 1])
    forwards, backwards = (merged(torch.cat(order), tuple(map(len, order))) for order in (batches, batches[::-1]))
    np.testing.assert_allclose(forwards.covariance, backwards.covariance, rtol=1e-11)
    again = merged(torch.cat(batches), tuple(map(len, batches)))
    assert (forwards.covariance == again.covariance).all()


def test_results_are_copies() -> None:
    statistics = merged(correlated(10, 3), (10,))
    mean, covariance = statistics.mean.copy(), statistics.covariance.copy()
    statistics.mean[:] = 0
    statistics.covariance[:] = 0
    assert (statistics.mean == mean).all()
    assert (statistics.covariance == covariance).all()
    earlier = statistics.mean
    statistics.update(torch.ones(5, 3))
    assert (earlier == mean).all()


def test_no_gradient_is_kept() -> None:
    statistics = GaussianStatistics(3)
    statistics.update(torch.randn(4, 3, requires_grad=True))
    assert statistics.covariance.shape == (3, 3)


@pytest.mark.parametrize("shape", [(5,), (5, 4), (0, 3), (2, 3, 3)])
def test_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    statistics = GaussianStatistics(3)
    with pytest.raises(ValueError, match=r"allowed: \[n, 3\]"):
        statistics.update(torch.zeros(shape))
    assert statistics.count == 0


def test_refuses_to_report_too_few() -> None:
    statistics = GaussianStatistics(3)
    with pytest.raises(ValueError, match="mean of 0"):
        _ = statistics.mean
    statistics.update(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="covariance of 1"):
        _ = statistics.covariance
    with pytest.raises(ValueError, match="dim=0"):
        GaussianStatistics(0)
