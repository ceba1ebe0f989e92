"""Part `frechet`: the Fréchet distance at Inception's size against scipy's matrix root, and FID of 10,000 images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from tests.benchmarks.measuring import Options, Row, interleave, ratios, seconds
from wae_core.evaluation.features import load_features
from wae_core.evaluation.frechet import FrechetReference
from wae_core.evaluation.gaussian import GaussianStatistics

DIM = 2048
SAMPLES = 10_000
BATCH = 500


def measure(options: Options, say: Callable[[str], None]) -> list[Row]:
    return [*_distance(options, say), _fid(options, say)]


def _distance(options: Options, say: Callable[[str], None]) -> list[Row]:
    """As everybody computes it (sqrtm of the product) against the kernel with the reference's factor cached."""
    try:
        from scipy.linalg import sqrtm
    except ImportError:
        return [Row("Fréchet distance: needs scipy", (), "×")]
    mean_a, cov_a = _statistics(seed=0)
    mean_b, cov_b = _statistics(seed=1)
    reference = FrechetReference(mean_b, cov_b)
    found: dict[str, float] = {}

    def ours() -> None:
        found["ours"] = reference.distance(mean_a, cov_a)

    def scipys() -> None:
        root = sqrtm(cov_a @ cov_b)
        difference = mean_a - mean_b
        found["scipy"] = float(difference @ difference + np.trace(cov_a) + np.trace(cov_b) - 2 * np.trace(root).real)

    cpu = torch.device("cpu")
    say(f"Fréchet distance at d = {DIM}: {options.rounds} rounds of ours and scipy's sqrtm")
    took = interleave(
        {"ours": lambda: seconds(ours, cpu), "scipy": lambda: seconds(scipys, cpu)},
        options.rounds,
    )
    np.testing.assert_allclose(found["ours"], found["scipy"], rtol=1e-6)
    return [
        Row(
            f"Fréchet distance, d = {DIM}: scipy's sqrtm / ours",
            ratios(took["scipy"], took["ours"]),
            "×",
            at_least=7,
            note=f"ours {np.median(took['ours']):.2f} s, scipy {np.median(took['scipy']):.2f} s",
        )
    ]


def _statistics(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of features whose variances fall off as those of real ones do."""
    generator = np.random.default_rng(seed)
    scales = 1 / np.sqrt(1 + np.arange(DIM))
    features = np.abs(generator.standard_normal((SAMPLES, DIM)) * scales)
    return features.mean(0), np.cov(features, rowvar=False)


def _fid(options: Options, say: Callable[[str], None]) -> Row:
    """From uint8 images to the distance: features, statistics, distance."""
    say(f"FID of {SAMPLES:,} images with the digit features: {options.rounds} rounds")
    device = options.device
    network = load_features("digits", device)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (SAMPLES, 1, 28, 28), generator=generator, dtype=torch.uint8).to(device)

    @torch.no_grad()
    def statistics() -> GaussianStatistics:
        gathered = GaussianStatistics(network.dim)
        for batch in torch.split(images, BATCH):
            gathered.update(network(batch))
        return gathered

    gathered = statistics()
    reference = FrechetReference(gathered.mean, gathered.covariance)

    def fid() -> None:
        gathered = statistics()
        reference.distance(gathered.mean, gathered.covariance)

    took = interleave({"fid": lambda: seconds(fid, device)}, options.rounds)["fid"]
    return Row(
        f"FID of {SAMPLES:,} images, {network.name}",
        tuple(SAMPLES / one for one in took),
        "images/s",
        note="features, statistics and distance; one thread on the CPU",
    )
