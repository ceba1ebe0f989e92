"""The Fréchet distance on Gaussians whose distance is known exactly, singular ones among them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from numpy.typing import NDArray

from wae_core.evaluation.frechet import FrechetReference, frechet_distance

Array = NDArray[np.float64]


def wishart(d: int, rank: int, seed: int) -> Array:
    samples = np.random.default_rng(seed).normal(size=(rank, d))
    covariance: Array = samples.T @ samples / rank
    return covariance


def rotation(d: int, seed: int) -> Array:
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def centred(cov_a: Array, cov_b: Array) -> float:
    zero = np.zeros(len(cov_a))
    return frechet_distance(zero, cov_a, zero, cov_b)


def test_isotropic_gaussians_apart() -> None:
    distance = frechet_distance(np.zeros(4), 4 * np.eye(4), np.array([1, 2, 0, -1]), 9 * np.eye(4))
    assert distance == pytest.approx(10, rel=1e-14)
    assert type(distance) is float


@pytest.mark.parametrize(
    ("cov_a", "cov_b", "expected"),
    [
        (np.diag([1.0, 4, 9]), np.diag([4.0, 1, 16]), 3.0),
        (np.array([[2.0, 1], [1, 2]]), np.diag([1.0, 4]), 0.77122044765434024),
        (np.outer([1.0, 2, 2], [1.0, 2, 2]), np.outer([2.0, 1, 0], [2.0, 1, 0]), 6.0),  # rank one
        (np.diag([4.0, 0]), np.diag([0.0, 9]), 13.0),  # singular, nothing in common
        (np.zeros((3, 3)), np.diag([1.0, 2, 3]), 6.0),
        (np.zeros((3, 3)), np.zeros((3, 3)), 0.0),
    ],
)
def test_known_values_both_ways(cov_a: Array, cov_b: Array, expected: float) -> None:
    assert centred(cov_a, cov_b) == pytest.approx(expected, rel=1e-14, abs=1e-14)
    assert centred(cov_b, cov_a) == pytest.approx(expected, rel=1e-14, abs=1e-14)


def test_two_points() -> None:
    zero = np.zeros((3, 3))
    assert frechet_distance(np.zeros(3), zero, np.array([2.0, 3, 6]), zero) == 49.0


@pytest.mark.parametrize("rank", [300, 40, 7])  # d = 40: full, barely full (condition 1e4 and more), singular
def test_scaled_covariance(rank: int) -> None:
    covariance, c = wishart(40, rank, seed=rank), 1.7
    expected = (1 - c) ** 2 * np.trace(covariance)
    assert centred(covariance, c**2 * covariance) == pytest.approx(expected, rel=1e-8)
    assert centred(c**2 * covariance, covariance) == pytest.approx(expected, rel=1e-8)


def test_near_singular_covariances_with_common_axes() -> None:
    axes = rotation(6, seed=1)
    a, b = np.array([1, 1e-3, 1e-6, 1e-9, 4, 2]), np.array([2, 1e-9, 1e-5, 1e-3, 1, 3])
    expected = ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert centred(axes * a @ axes.T, axes * b @ axes.T) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("d", [3, 32])
def test_agrees_with_the_matrix_square_root_and_is_symmetric(d: int) -> None:
    a, b = wishart(d, 4 * d, seed=1), 2 * wishart(d, 4 * d, seed=2)
    mean_a, mean_b = np.random.default_rng(3).normal(size=(2, d))
    root = scipy.linalg.sqrtm(a @ b).real
    expected = ((mean_a - mean_b) ** 2).sum() + np.trace(a + b - 2 * root)
    assert frechet_distance(mean_a, a, mean_b, b) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(mean_b, b, mean_a, a) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("rank_a", "rank_b"), [(5, 100), (100, 5), (5, 7)])
def test_is_symmetric_where_a_covariance_is_singular(rank_a: int, rank_b: int) -> None:
    a, b = wishart(20, rank_a, seed=1), wishart(20, rank_b, seed=2)
    assert centred(a, b) == pytest.approx(centred(b, a), rel=1e-7)


@pytest.mark.parametrize("rank", [200, 10])
def test_distance_from_itself_is_zero(rank: int) -> None:
    covariance = wishart(50, rank, seed=rank)
    mean = np.full(50, 3.0)
    assert 0 <= frechet_distance(mean, covariance, mean, covariance) < 1e-12 * np.trace(covariance)


@pytest.mark.slow
def test_unit_shift_in_2048_dimensions_is_exact() -> None:
    identity = np.eye(2048)
    assert frechet_distance(np.zeros(2048), identity, np.ones(2048), identity) == 2048.0


def test_reference_serves_many_and_is_independent_of_its_source() -> None:
    mean, covariance = np.zeros(8), wishart(8, 40, seed=5)
    reference = FrechetReference(mean, covariance)
    expected = [frechet_distance(np.ones(8), wishart(8, 40, seed), mean, covariance) for seed in range(3)]
    mean += 9  # the caller's arrays are the caller's
    covariance *= 9
    assert [reference.distance(np.ones(8), wishart(8, 40, seed)) for seed in range(3)] == expected


def test_float32_is_taken_into_float64() -> None:
    covariance = wishart(64, 300, seed=1).astype(np.float32)
    mean = np.random.default_rng(2).normal(size=64).astype(np.float32)
    assert frechet_distance(mean, covariance, mean, covariance) < 1e-12
    wide = [array.astype(np.float64) for array in (mean, covariance)]
    assert frechet_distance(mean, covariance, 2 * mean, 2 * covariance) == frechet_distance(
        *wide, *[2 * array for array in wide]
    )


@pytest.mark.parametrize("position", range(4))
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_names_the_argument_that_is_not_finite(position: int, bad: float) -> None:
    arguments = [np.zeros(3), np.eye(3), np.zeros(3), np.eye(3)]
    arguments[position].flat[-1] = bad
    with pytest.raises(ValueError, match=f"^{('mean_a', 'cov_a', 'mean_b', 'cov_b')[position]} .*finite"):
        frechet_distance(*arguments)


@pytest.mark.parametrize(
    ("shapes", "name"),
    [
        (((3,), (2, 2), (3,), (3, 3)), "cov_a"),
        (((3,), (3,), (3,), (3, 3)), "cov_a"),
        (((3,), (3, 3), (3,), (3, 4)), "cov_b"),
        (((1, 3), (3, 3), (3,), (3, 3)), "mean_a"),
        (((3,), (3, 3), (), (3, 3)), "mean_b"),
        (((0,), (0, 0), (0,), (0, 0)), "mean_b"),
        (((2,), (2, 2), (3,), (3, 3)), "mean_a has 2 .* mean_b has 3"),
    ],
)
def test_names_the_argument_whose_shape_is_wrong(shapes: tuple[tuple[int, ...], ...], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}"):
        frechet_distance(*[np.zeros(shape) for shape in shapes])
