"""Part `celeba`: a step of the paper's width as a share of the device's rate of matrix products, and its memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from tests.benchmarks.measuring import PROTOCOL, Options, Row, forget_peak, peak_gigabytes, seconds, within
from tests.benchmarks.models import LIKE_CELEBA, random_images, run_of
from wae_core.device import tensor_cores
from wae_core.flops import step_flops
from wae_core.run import Run
from wae_core.training.loop import train
from wae_core.training.state import TrainingState

SIDE = {"cpu": 2048, "cuda": 8192}  # of the square matrices whose product is the yardstick
BATCH = {"cpu": 32, "cuda": 512}
STEPS = {"cpu": 1, "cuda": 20}
PRECISIONS = {"cpu": ("float32",), "cuda": ("bfloat16", "tf32")}


def measure(options: Options, say: Callable[[str], None]) -> list[Row]:
    rows = []
    for architecture in ("dcgan", "resnet50v2"):
        for precision in PRECISIONS[options.device.type]:
            say(f"{architecture} at width 128, batch {BATCH[options.device.type]}, {precision}")
            rows += _rows(architecture, precision, options)
    return rows


def _rows(architecture: str, precision: str, options: Options) -> list[Row]:
    device, kind = options.device, options.device.type
    run = _run(architecture, precision, options)
    forget_peak(device)
    step = _steps(run, device)
    step()  # the first one chooses algorithms and fills caches
    peak = peak_gigabytes(device)
    flops = step_flops(run, LIKE_CELEBA) * STEPS[kind]
    shares, took = [], []
    for _ in within(min(options.rounds, 3), options.until):
        yardstick = _matrix_product_rate(device, precision)
        took.append(seconds(step, device))
        shares.append(100 * flops / took[-1] / yardstick)
    note = f"{1000 * min(took) / STEPS[kind]:.0f} ms a step, {flops / min(took) / 1e12:.2f} TFLOP/s"
    what = f"{architecture}, batch {BATCH[kind]}, {precision}"
    target = 50 if kind == "cuda" else None
    whose = "of tensors on the device, from the networks' making on" if kind == "cuda" else "of the process so far"
    return [
        Row(f"{what}: rate of a step / of a matrix product", tuple(shares), "%", at_least=target, note=note),
        Row(f"{what}: peak memory", (peak,), "GB", note=whose),
    ]


def _steps(run: Run, device: torch.device) -> Callable[[], object]:
    data = random_images(LIKE_CELEBA, run.hyperparameters.batch_size).to(device)
    training = train(run, data, device, TrainingState(run, data, device))
    return lambda: next(training)


def _run(architecture: str, precision: str, options: Options) -> Run:
    kind, blocks = options.device.type, options.rounds + 2
    steps = tuple(STEPS[kind] * (i + 1) for i in range(blocks))
    protocol = replace(PROTOCOL, width=128, steps=steps[-1], evaluation_steps=steps, precision=precision)
    run = run_of("wae-mmd", architecture, BATCH[kind], protocol)
    return replace(run, hyperparameters=replace(run.hyperparameters, latent_dim=64, kernel_scale=128.0))


def _matrix_product_rate(device: torch.device, precision: str) -> float:
    """FLOPs a second of a large product in the step's precision."""
    side = SIDE[device.type]
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16 if precision == "bfloat16" else torch.float32)
    times = 10 if device.type == "cuda" else 1
    with tensor_cores(device, precision):
        a @ a
        return 2 * side**3 * times / seconds(lambda: [a @ a for _ in range(times)], device)
