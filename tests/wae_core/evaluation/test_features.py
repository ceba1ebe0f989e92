"""The feature network `digits`: what it refuses, how well it sees digits, and how it ranks damage done to them."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from wae_core.data.idx import read_idx
from wae_core.data.images import DIGITS
from wae_core.evaluation import digit_classifier
from wae_core.evaluation.digit_classifier import accuracy, load_digit_classifier
from wae_core.evaluation.features import FeatureNetwork, load_features
from wae_core.evaluation.frechet import frechet_distance
from wae_core.evaluation.gaussian import GaussianStatistics
from wae_core.evaluation.weights_file import read_weights

Images = NDArray[np.uint8]  # [n, 28, 28]
Labels = NDArray[np.int64]  # [n]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def labelled() -> tuple[Images, Labels]:
    """The 5,000 digits, in an order that mixes the classes."""
    pixels = read_idx(DIGITS / "images-idx3-ubyte.gz", (28, 28))
    labels = read_idx(DIGITS / "labels-idx1-ubyte.gz", ())
    order = np.random.default_rng(0).permutation(len(labels))
    return pixels[order], labels[order].astype(np.int64)


@pytest.fixture(scope="module")
def network() -> FeatureNetwork:
    return load_features("digits", CPU)


def as_batch(images: Images) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images)).unsqueeze(1)


# --- loading -----------------------------------------------------------------------------------------------


def test_name_tells_the_weights(network: FeatureNetwork) -> None:
    digest = hashlib.sha256(digit_classifier.WEIGHTS.read_bytes()).hexdigest()
    assert network.name == f"digit_classifier-64@{digest[:12]}"


def test_a_pipe_is_no_weights_file_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "weights")
    with pytest.raises(ValueError, match="it is a file, and no pipe, socket or device"):
        read_weights(tmp_path / "weights", "0" * 64)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    content = bytearray(digit_classifier.WEIGHTS.read_bytes())
    content[-1] ^= 1
    changed = tmp_path / "weights.safetensors"
    changed.write_bytes(content)
    with pytest.raises(ValueError, match=hashlib.sha256(content).hexdigest()):
        load_digit_classifier(changed)


def test_unknown_name_is_refused_and_the_known_ones_listed() -> None:
    with pytest.raises(ValueError, match=r"'inceptoin'.*digits"):
        load_features("inceptoin", CPU)


# --- the border --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "named"),
    [
        (torch.zeros(2, 1, 28, 28), "torch.float32"),
        (torch.zeros(2, 1, 28, 28, dtype=torch.int64), "torch.int64"),
        (torch.zeros(2, 3, 28, 28, dtype=torch.uint8), "[2, 3, 28, 28]"),
        (torch.zeros(2, 1, 32, 32, dtype=torch.uint8), "[2, 1, 32, 32]"),
        (torch.zeros(1, 28, 28, dtype=torch.uint8), "[1, 28, 28]"),
    ],
)
def test_other_images_are_refused(network: FeatureNetwork, images: Tensor, named: str) -> None:
    with pytest.raises(ValueError, match=re.escape(named)):
        network(images)


@pytest.mark.slow
def test_features_do_not_depend_on_the_batch_size(network: FeatureNetwork, labelled: tuple[Images, Labels]) -> None:
    images = as_batch(labelled[0][:60])
    whole = network(images)
    assert whole.shape == (60, network.dim)
    assert whole.dtype == torch.float32
    assert not whole.requires_grad
    for size in (1, 7, 59):
        parts = torch.cat([network(batch) for batch in torch.split(images, size)])
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5 * float(whole.abs().max()))


# --- what it sees ------------------------------------------------------------------------------------------


def test_digits_are_classified(labelled: tuple[Images, Labels]) -> None:
    # These digits are among the classifier's training images: this shows that weights, architecture and scaling
    # belong together. How well it generalises, the training script says (test accuracy on MNIST).
    images, labels = labelled
    assert accuracy(load_digit_classifier(), as_batch(images), torch.from_numpy(labels)) > 0.97


def test_features_keep_their_scale(network: FeatureNetwork, labelled: tuple[Images, Labels]) -> None:
    # Distances grow with the square of the scale, so a change here makes stored ones incomparable. Measured once.
    features = network(as_batch(labelled[0]))
    assert float(features.square().mean().sqrt()) == pytest.approx(4.47275, rel=1e-4)


def blurred(images: Images, labels: Labels, sigma: float) -> Images:
    return to_bytes(gaussian_filter(images.astype(float), (0, sigma, sigma)))


def noisy(images: Images, labels: Labels, deviation: float) -> Images:
    return to_bytes(images + deviation * np.random.default_rng(1).standard_normal(images.shape))


def without_classes(images: Images, labels: Labels, dropped: float) -> Images:
    return images[labels >= dropped]


def salt_and_pepper(images: Images, labels: Labels, share: float) -> Images:
    draws = np.random.default_rng(1).random((2, *images.shape))
    return np.where(draws[0] < share, 255 * (draws[1] < 0.5), images).astype(np.uint8)


def shuffled_patches(images: Images, labels: Labels, moved: float) -> Images:
    """`moved` of the 16 patches of 7×7 pixels change places in a ring, others in each image."""
    order = np.random.default_rng(1).random((len(images), 16)).argsort(axis=1)[:, : int(moved)]
    patches = images.reshape(-1, 4, 7, 4, 7).swapaxes(2, 3).reshape(-1, 16, 7, 7)
    result, rows = patches.copy(), np.arange(len(images))[:, None]
    result[rows, order] = patches[rows, np.roll(order, 1, axis=1)]
    return result.reshape(-1, 4, 4, 7, 7).swapaxes(2, 3).reshape(-1, 28, 28)


def mixed(images: Images, labels: Labels, weight: float) -> Images:
    return to_bytes((1 - weight) * images + weight * np.roll(images, 1, axis=0))


def to_bytes(pixels: NDArray[np.float64]) -> Images:
    return pixels.round().clip(0, 255).astype(np.uint8)


@pytest.mark.slow
# The first degree leaves the images as they are; the others have to be farther from the reference than that.
@pytest.mark.parametrize(
    ("damage", "degrees"),
    [
        (blurred, (0, 0.5, 1, 1.5, 2, 3)),
        (noisy, (0, 10, 20, 40, 80, 120)),
        (without_classes, (0, 1, 3, 5, 7, 9)),
        (salt_and_pepper, (0, 0.01, 0.03, 0.1, 0.2, 0.4)),
        (shuffled_patches, (0, 2, 4, 8, 12, 16)),
        (mixed, (0, 0.05, 0.1, 0.2, 0.35, 0.5)),
    ],
)
def test_distance_grows_with_the_damage(
    network: FeatureNetwork,
    labelled: tuple[Images, Labels],
    damage: Callable[[Images, Labels, float], Images],
    degrees: Sequence[float],
) -> None:
    def fitted(images: Images) -> GaussianStatistics:
        statistics = GaussianStatistics(network.dim)
        statistics.update(network(as_batch(images)))
        return statistics

    images, labels = labelled
    reference = fitted(images[::2])
    distances = []
    for degree in degrees:
        candidate = fitted(damage(images[1::2], labels[1::2], degree))
        distances.append(frechet_distance(candidate.mean, candidate.covariance, reference.mean, reference.covariance))
    # The smallest damage, too, is to stand clear of what the draw of 2,500 undamaged images gives.
    assert distances[1] > 1.5 * distances[0]
    assert all(nearer < farther for nearer, farther in pairwise(distances)), distances


# --- training ----------------------------------------------------------------------------------------------


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.mark.slow
def test_training_repeats_itself_from_idx_files(
    labelled: tuple[Images, Labels], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = labelled
    for part, chosen in (("train", slice(0, 640)), ("t10k", slice(640, 740))):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", images[chosen])
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", labels[chosen].astype(np.uint8))
    monkeypatch.setattr(digit_classifier, "EPOCHS", 1)
    outputs = [tmp_path / "first.safetensors", tmp_path / "second.safetensors"]
    try:
        for output in outputs:
            monkeypatch.setattr("sys.argv", ["digit_classifier", str(tmp_path), "--output", str(output)])
            digit_classifier.main()
    finally:
        torch.use_deterministic_algorithms(False)
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    with pytest.raises(ValueError, match="sha256"):
        load_digit_classifier(outputs[0])
