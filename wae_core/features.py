"""The feature networks of the Fréchet distance, by name: 8-bit images to feature vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wae_core import digit_classifier
from wae_core.device import memory_format


@dataclass(frozen=True)
class FeatureNetwork:
    """A frozen network; real and generated images go through it alike, as uint8.

    `name` tells weights apart as well as architectures: distances are comparable where it is equal.
    """

    name: str
    dim: int  # d
    module: nn.Module  # uint8 [n, C, H, W] -> float32 [n, d]; scales the pixels and checks C, H, W itself

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features [n, d], float32, of uint8 images [n, C, H, W], on the device of both.

        Raises:
            ValueError: images that are not uint8, or not of a shape that the network takes.
        """
        if images.dtype != torch.uint8:
            raise ValueError(f"images have dtype {images.dtype}; features are taken of torch.uint8 alone")
        if images.ndim != 4:
            raise ValueError(f"images have shape {list(images.shape)}; allowed: [n, C, H, W]")
        features: Tensor = self.module(images)
        return features


def load_features(name: str, device: torch.device) -> FeatureNetwork:
    """Load the feature network called `name` onto `device`.

    Raises:
        ValueError: the name is unknown, or the weights are not those that the code was written for.
    """
    if name not in _LOADERS:
        raise ValueError(f"unknown feature network {name!r}: it is one of {', '.join(_LOADERS)}")
    return _LOADERS[name](device)


def _digits(device: torch.device) -> FeatureNetwork:
    dim, weights = digit_classifier.FEATURE_DIM, digit_classifier.WEIGHTS_SHA256[:12]
    module = digit_classifier.load_digit_classifier().features.to(device)
    nn.utils.convert_conv2d_weight_memory_format(module, memory_format(device))
    return FeatureNetwork(f"digit_classifier-{dim}@{weights}", dim, module)


_LOADERS: dict[str, Callable[[torch.device], FeatureNetwork]] = {"digits": _digits}
