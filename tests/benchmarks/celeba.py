"""Part `celeba`: a step at the paper's width as a fraction of the device's own rate of matrix products."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from tests.benchmarks.measuring import PROTOCOL, Options, Row, seconds
from wae_core.data.images import ImageData
from wae_core.flops import step_flops
from wae_core.run import Hyperparameters, Run
from wae_core.training.loop import train
from wae_core.training.state import TrainingState

SIDE = {"cpu": 2048, "cuda": 8192}  # of the square matrices whose product is the yardstick
BATCH = {"cpu": 32, "cuda": 512}
STEPS = {"cpu": 1, "cuda": 20}
PRECISION = {"cpu": "float32", "cuda": "bfloat16"}


def measure(options: Options, say: Callable[[str], None]) -> list[Row]:
    kind = options.device.type
    rows = []
    for architecture in ("dcgan", "resnet50v2"):
        say(f"{architecture} at width 128, batch {BATCH[kind]}, {PRECISION[kind]}")
        step = _steps(architecture, options)
        step()  # the first one chooses algorithms and fills caches
        flops = step_flops(_run(architecture, options), (3, 64, 64)) * STEPS[kind]
        shares, took = [], []
        for _ in range(min(options.rounds, 3)):
            yardstick = _matrix_product_rate(options.device)
            took.append(seconds(step, options.device))
            shares.append(100 * flops / took[-1] / yardstick)
        note = f"{1000 * min(took) / STEPS[kind]:.0f} ms a step, {flops / min(took) / 1e12:.2f} TFLOP/s"
        what = f"{architecture}, batch {BATCH[kind]}: rate of a step / of a {PRECISION[kind]} matrix product"
        rows.append(Row(what, tuple(shares), "%", at_least=50 if kind == "cuda" else None, note=note))
    return rows


def _steps(architecture: str, options: Options) -> Callable[[], object]:
    run = _run(architecture, options)
    images = torch.randint(256, (run.hyperparameters.batch_size, 3, 64, 64), dtype=torch.uint8)
    data = ImageData("celeba", train=images, held_out=images[:0]).to(options.device)
    training = train(run, data, options.device, TrainingState(run, data, options.device))
    return lambda: next(training)


def _run(architecture: str, options: Options) -> Run:
    kind, blocks = options.device.type, options.rounds + 2
    steps = tuple(STEPS[kind] * (i + 1) for i in range(blocks))
    protocol = dataclasses.replace(
        PROTOCOL, dataset="celeba", width=128, steps=steps[-1], evaluation_steps=steps, precision=PRECISION[kind]
    )
    hyperparameters = Hyperparameters(
        latent_dim=64,
        batch_size=BATCH[kind],
        learning_rate=1e-4,
        architecture=architecture,
        encoder="deterministic",
        kernel_scale=128.0,
        wae_lambda=100.0,
    )
    return Run("bench", 0, "wae-mmd", 0, 0, hyperparameters, protocol)


def _matrix_product_rate(device: torch.device) -> float:
    """FLOPs a second of a large product in the step's precision."""
    dtype = getattr(torch, PRECISION[device.type])
    a = torch.randn(SIDE[device.type], SIDE[device.type], device=device).to(dtype)
    times = 10 if device.type == "cuda" else 1
    a @ a
    return 2 * SIDE[device.type] ** 3 * times / seconds(lambda: [a @ a for _ in range(times)], device)
