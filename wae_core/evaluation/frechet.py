"""The Fréchet distance of two Gaussians: FID, once they are fitted to the features of two sets of images."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

SINGULAR = 1e-12  # eigenvalues of the reference below this share of its largest are rounding: dropped


class FrechetReference:
    """The Gaussian that others are measured against; what depends on it alone is computed once.

    ||m_a − m_b||² + tr(C_a + C_b − 2 (C_a C_b)^½), squared (Dowson & Landau 1982; Heusel et al. 2017, eq. 6).
    With C_b = F Fᵀ, C_a C_b has the eigenvalues of the symmetric Fᵀ C_a F and zeros beside: the trace of its
    root is the sum of their square roots. No matrix root is taken, and singular matrices are no exception.

    Args:
        mean, cov: [d] and [d, d] of the reference; all arithmetic is in float64.

    Raises:
        ValueError: shapes other than [d] and [d, d], or a value that is not finite.
    """

    def __init__(self, mean: ArrayLike, cov: ArrayLike) -> None:
        location, covariance = _gaussian(mean, cov, "mean_b", "cov_b")
        variances, directions = np.linalg.eigh(covariance)
        kept = variances > SINGULAR * max(variances[-1], 0.0)
        self._mean = location.copy()
        self._factor = directions[:, kept] * np.sqrt(variances[kept])  # F [d, rank]
        self._trace = np.trace(covariance)

    def distance(self, mean: ArrayLike, cov: ArrayLike) -> float:
        """Squared Fréchet distance of N(mean [d], cov [d, d]) from the reference; never below 0.

        Raises:
            ValueError: shapes other than the reference's, or a value that is not finite.
        """
        mean, covariance = _gaussian(mean, cov, "mean_a", "cov_a")
        if mean.shape != self._mean.shape:
            raise ValueError(f"mean_a has {len(mean)} components and mean_b has {len(self._mean)}: must be equal")
        difference = mean - self._mean
        eigenvalues = np.linalg.eigvalsh(self._factor.T @ covariance @ self._factor)
        root_trace = np.sqrt(eigenvalues.clip(min=0.0)).sum()
        squared = difference @ difference + np.trace(covariance) + self._trace - 2.0 * root_trace
        return float(squared.clip(min=0.0))  # of equal Gaussians rounding can leave −1e-15 of the trace


def frechet_distance(mean_a: ArrayLike, cov_a: ArrayLike, mean_b: ArrayLike, cov_b: ArrayLike) -> float:
    """Squared Fréchet distance of N(mean_a [d], cov_a [d, d]) and N(mean_b, cov_b): see FrechetReference.

    Raises:
        ValueError: shapes that do not agree, or a value that is not finite; the message names the argument.
    """
    return FrechetReference(mean_b, cov_b).distance(mean_a, cov_a)


def too_few_images(dim: int, samples: int, references: int) -> str | None:
    """Return, for a sentence, what is wrong with a distance of so few images in so many dimensions; None if nothing.

    A covariance of fewer images than dimensions is singular: its directions without images count as differences.
    """
    counts = {"samples": samples, "reference images": references}
    few = [f"{count:,} {what}" for what, count in counts.items() if count < dim]
    if not few:
        return None
    return (
        f"{' and '.join(few)} for {dim:,} feature dimensions: too few, such an FID is far too high and ranks poorly"
    )


def _gaussian(mean: ArrayLike, cov: ArrayLike, mean_name: str, cov_name: str) -> tuple[Array, Array]:
    """Both as float64, checked; the names are those of frechet_distance's arguments (b is the reference)."""
    location: Array = np.asarray(mean, dtype=np.float64)
    covariance: Array = np.asarray(cov, dtype=np.float64)
    if location.ndim != 1 or location.size == 0:
        raise ValueError(f"{mean_name} has shape {list(location.shape)}; allowed: [d] with d >= 1")
    if covariance.shape != (location.size, location.size):
        raise ValueError(
            f"{cov_name} has shape {list(covariance.shape)}; beside a mean of {location.size} components "
            f"it must be {[location.size, location.size]}"
        )
    for name, values in ((mean_name, location), (cov_name, covariance)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds {np.count_nonzero(~np.isfinite(values))} values that are not finite")
    return location, covariance
