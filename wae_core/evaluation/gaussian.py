"""The Gaussian that is fitted to features: mean and covariance, accumulated over batches."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wae_core.device import eager_device


class GaussianStatistics:
    """Count, mean and scatter of feature vectors, in float64, on cpu or cuda where the features are.

    Batches are merged by the pairwise formula of Chan, Golub & LeVeque (1979), in the order of the calls: the
    last bits depend on that order. Nothing waits for the device before `mean` or `covariance` is read.

    Args:
        dim: d, the length of a feature vector.
    """

    def __init__(self, dim: int) -> None:
        if dim < 1:
            raise ValueError(f"dim={dim} is not allowed; it must be at least 1")
        self.count = 0
        self._mean = torch.zeros(dim, dtype=torch.float64)
        self._scatter = torch.zeros(dim, dim, dtype=torch.float64)  # Σ (x − mean)(x − mean)ᵀ

    def update(self, features: Tensor) -> None:
        """Add a batch of features [n, d], n >= 1.

        Raises:
            ValueError: any other shape.
        """
        dim = len(self._mean)
        if features.ndim != 2 or features.shape[1] != dim or len(features) == 0:
            raise ValueError(f"features have shape {list(features.shape)}; allowed: [n, {dim}] with n >= 1")
        batch = features.detach().to(eager_device(features.device)).to(torch.float64)
        self._mean, self._scatter = self._mean.to(batch.device), self._scatter.to(batch.device)

        added, total = len(batch), self.count + len(batch)
        batch_mean = batch.mean(0)
        centred = batch - batch_mean
        shift = batch_mean - self._mean
        self._scatter.addmm_(centred.T, centred)
        self._scatter.addr_(shift, shift, alpha=self.count * added / total)
        self._mean.add_(shift, alpha=added / total)
        self.count = total

    @property
    def mean(self) -> NDArray[np.float64]:
        """[d], a copy.

        Raises:
            ValueError: before the first feature vector.
        """
        if self.count < 1:
            raise ValueError("the mean of 0 feature vectors is not defined; it takes at least 1")
        return self._mean.cpu().numpy().copy()

    @property
    def covariance(self) -> NDArray[np.float64]:
        """[d, d], unbiased (n − 1), a copy.

        Raises:
            ValueError: before the second feature vector.
        """
        if self.count < 2:
            raise ValueError(f"the covariance of {self.count} feature vectors is not defined; it takes at least 2")
        return (self._scatter / (self.count - 1)).cpu().numpy()
