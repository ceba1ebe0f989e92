"""The runs and images that the parts train: random pixels, which change no step's time."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from tests.benchmarks.measuring import PROTOCOL
from wae_core.data.images import ImageData
from wae_core.run import Hyperparameters, Protocol, Run

LIKE_DIGITS, LIKE_CELEBA = (1, 28, 28), (3, 64, 64)
OWN: dict[str, dict[str, Any]] = {
    "wae-mmd": {"encoder": "deterministic", "wae_lambda": 10.0, "kernel_scale": 16.0},
    "wae-gan": {"encoder": "deterministic", "wae_lambda": 10.0, "adversary_learning_rate": 5e-4},
    "vae": {"decoder_variance": 0.1},
}


def run_of(algorithm: str, architecture: str, batch_size: int = 64, protocol: Protocol = PROTOCOL) -> Run:
    """A run of a shipped algorithm, of 8 latent dimensions."""
    shared = Hyperparameters(latent_dim=8, batch_size=batch_size, learning_rate=1e-3, architecture=architecture)
    return Run("bench", 0, algorithm, 0, 0, dataclasses.replace(shared, **OWN[algorithm]), protocol)


def random_images(shape: tuple[int, int, int], train: int, held_out: int = 0) -> ImageData:
    """So many images of (C, H, W), each time the same."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (train + held_out, *shape), generator=generator, dtype=torch.uint8)
    name = "mnist" if shape == LIKE_DIGITS else "celeba"
    return ImageData(name, train=images[:train], held_out=images[train:])
