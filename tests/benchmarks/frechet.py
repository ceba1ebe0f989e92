"""Part `frechet`: the Fréchet distance against scipy's matrix root, and evaluations with an FID of 10,000 samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from tests.benchmarks.measuring import (
    PROTOCOL,
    Options,
    Row,
    forget_peak,
    interleave,
    peak_gigabytes,
    ratios,
    seconds,
)
from tests.benchmarks.models import LIKE_CELEBA, random_images, run_of
from wae_core.device import memory_format
from wae_core.evaluation.evaluator import Evaluator
from wae_core.evaluation.features import FeatureNetwork, load_features
from wae_core.evaluation.frechet import FrechetReference
from wae_core.evaluation.gaussian import GaussianStatistics
from wae_core.evaluation.inception import FEATURE_DIM as INCEPTION_DIM
from wae_core.evaluation.inception import InceptionV3
from wae_core.snapshot import Snapshot
from wae_core.training.state import TrainingState

DIM = INCEPTION_DIM
SAMPLES = 10_000
EVALUATED = {"cpu": 20, "cuda": SAMPLES}
BATCH = 500


def measure(options: Options, say: Callable[[str], None]) -> list[Row]:
    return [_fid(options, say), _evaluation(options, say), *_distance(options, say)]


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
        options.until,
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


def _evaluation(options: Options, say: Callable[[str], None]) -> Row:
    """A checkpoint of the paper's width scored by Inception's network, whose weights change no time."""
    device, samples = options.device, EVALUATED[options.device.type]
    say(f"an evaluation with an FID of {samples:,} samples, Inception's network")
    protocol = replace(PROTOCOL, width=128, fid_samples=samples, evaluation_images=min(samples, 1000))
    run, data = run_of("wae-mmd", "dcgan", protocol=protocol), random_images(LIKE_CELEBA, 64, min(samples, 1000))
    torch.manual_seed(0)
    module = InceptionV3().eval().to(device, memory_format=memory_format(device))  # type: ignore[call-overload]
    forget_peak(device)
    evaluator = Evaluator(data, FeatureNetwork("random", INCEPTION_DIM, module), device)
    snapshot = Snapshot(1, TrainingState(run, data, device).autoencoder, 0.0, 0.0, None)

    def evaluate() -> None:
        evaluation = evaluator.evaluate(run, snapshot, 0.0)
        assert np.isfinite(evaluation.fid)

    if device.type == "cuda":
        evaluate()  # the first one chooses algorithms
    took = interleave({"ours": lambda: seconds(evaluate, device)}, options.rounds, options.until)["ours"]
    note = f"dcgan of width 128, Inception's network; peak memory {peak_gigabytes(device):.2f} GB"
    return Row(f"an evaluation with an FID of {samples:,} samples", took, "s", note=note)


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

    took = interleave({"fid": lambda: seconds(fid, device)}, options.rounds, options.until)["fid"]
    return Row(
        f"FID of {SAMPLES:,} images, {network.name}",
        tuple(SAMPLES / one for one in took),
        "images/s",
        note="features, statistics and distance; one thread on the CPU",
    )
