"""Fixtures that several test files share: one thread, tiny runs, a few digits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from wae_core.algorithms.registry import ALGORITHMS
from wae_core.data.idx import read_idx
from wae_core.data.images import DIGITS, ImageData, load_dataset
from wae_core.domains import Domain, PositiveNumber, Text
from wae_core.hyperparameters import DECLARED
from wae_core.run import Hyperparameters, Protocol, Run

torch.set_num_threads(1)

PROTOCOL = Protocol(
    dataset="digits",
    width=2,
    steps=4,
    evaluation_steps=(2, 4),
    fid_features="digits",
    fid_samples=200,
    evaluation_images=100,
    prior_variance=1.0,
    cost_scale=0.05,
    input_noise=0.01,
    pretraining_steps=3,
    pretraining_images=50,
)
HYPERPARAMETERS = Hyperparameters(latent_dim=4, batch_size=40, learning_rate=1e-3, architecture="dcgan_small")
BY_ALGORITHM: dict[str, dict[str, Any]] = {
    "wae-mmd": {"encoder": "deterministic", "wae_lambda": 10.0, "kernel_scale": 8.0},
    "wae-gan": {"encoder": "deterministic", "wae_lambda": 2.0, "adversary_learning_rate": 5e-4},
    "vae": {"decoder_variance": 0.3},
}


def some_value(domain: Domain) -> Any:
    """A value for a hyperparameter of an algorithm that these tests do not know."""
    if isinstance(domain, Text):
        return domain.options[0]
    return 1.0 if isinstance(domain, PositiveNumber) else domain.minimum


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-positions", action="store_true", help="faults at every write and every request: an hour")


@pytest.fixture(scope="session")
def all_positions(pytestconfig: pytest.Config) -> bool:
    """Whether a fault comes at every position, or at a sample of them."""
    return bool(pytestconfig.getoption("--all-positions"))


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    """make_run(algorithm, **overrides): a tiny run; overrides are fields of Hyperparameters, Protocol or Run."""

    def make(algorithm: str, **overrides: Any) -> Run:
        own = {name: some_value(DECLARED[name].domain) for name in ALGORITHMS[algorithm].hyperparameters}
        overrides = own | BY_ALGORITHM.get(algorithm, {}) | overrides
        parts: list[Any] = []
        for part in (HYPERPARAMETERS, PROTOCOL):
            names = {field.name for field in fields(part)} & overrides.keys()
            parts.append(replace(part, **{name: overrides.pop(name) for name in names}))
        return replace(Run("test", 0, algorithm, 0, 0, *parts), **overrides)

    return make


@pytest.fixture(scope="session")
def digits() -> ImageData:
    return load_dataset("digits")


@pytest.fixture(scope="session")
def few_digits(digits: ImageData) -> ImageData:
    """200 training and 100 held-out images, all classes alike."""
    return ImageData("digits", train=digits.train[:200].clone(), held_out=digits.held_out[:100].clone())


@pytest.fixture(scope="session")
def digit_classes(digits: ImageData) -> dict[bytes, int]:
    """The class of each of the 5,000 digits by the bytes of its uint8 image."""
    images = [*digits.train, *digits.held_out]
    labels = read_idx(DIGITS / "labels-idx1-ubyte.gz", ())
    return {image.numpy().tobytes(): int(label) for image, label in zip(images, labels, strict=True)}
