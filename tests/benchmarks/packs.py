"""Part `packs`: how many models an hour one worker trains, by the number of models that it fuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from tests.benchmarks.measuring import PROTOCOL, Options, Row
from wae_core.data.images import ImageData
from wae_core.run import ALGORITHMS, Hyperparameters, Run
from wae_core.training import throughput
from wae_core.training.throughput import Packing

SIZES = {"cpu": (1, 3), "cuda": (1, 3, 6, 12, 24, 48)}


def measure(options: Options, say: Callable[[str], None]) -> list[Row]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (4000, 1, 28, 28), generator=generator, dtype=torch.uint8)
    data = ImageData("mnist", train=images, held_out=images[:0]).to(options.device)
    rows = []
    for algorithm in ALGORITHMS:
        for architecture in ("dcgan_small", "resnet11v2"):
            say(f"{algorithm}, {architecture}")
            run = _run(algorithm, architecture)
            rates = [_rates(run, data, options.device) for _ in range(options.rounds)]
            for packing in list(rates[0])[1:]:
                gains = tuple(rate[packing] / rate[Packing(1)] for rate in rates if packing in rate)
                how = f"{packing.size} fused" + " by CUDA graphs" * packing.is_captured
                what = f"{algorithm}, {architecture}: models an hour, {how} / one after the other"
                rows.append(Row(what, gains, "×", at_least=5 if options.device.type == "cuda" else None))
    return rows


def _rates(run: Run, data: ImageData, device: torch.device) -> dict[Packing, float]:
    return throughput.models_per_hour(run, data, device, SIZES[device.type])


def _run(algorithm: str, architecture: str) -> Run:
    names = {
        "wae-mmd": {"encoder": "deterministic", "wae_lambda": 10.0, "kernel_scale": 16.0},
        "wae-gan": {"encoder": "deterministic", "wae_lambda": 10.0, "adversary_learning_rate": 5e-4},
        "vae": {"decoder_variance": 0.1},
    }
    shared = Hyperparameters(latent_dim=8, batch_size=64, learning_rate=1e-3, architecture=architecture)
    return Run("bench", 0, algorithm, 0, 0, dataclasses.replace(shared, **names[algorithm]), PROTOCOL)  # type: ignore[arg-type]
