"""Part `numerics`: what the device computes against the CPU in float64, from the same weights, images and draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from tests.benchmarks.measuring import PROTOCOL, Options, Row
from tests.benchmarks.models import LIKE_CELEBA, LIKE_DIGITS, random_images, run_of
from wae_core.data.images import ImageData, to_float
from wae_core.device import dtype, has_graphs, memory_format, tensor_cores
from wae_core.evaluation.features import load_features
from wae_core.evaluation.frechet import FrechetReference
from wae_core.evaluation.gaussian import GaussianStatistics
from wae_core.names import PRECISIONS, YARDSTICK
from wae_core.randomness import StepDraws, Streams
from wae_core.run import ALGORITHMS, Run
from wae_core.training.loop import train_pack
from wae_core.training.members import Solo
from wae_core.training.state import TrainingState
from wae_core.training.step import draw_shapes, update

CPU = torch.device("cpu")
# Relative; of float64 the order of sums is left, of the others rounding at each operator as well.
ALLOWED = {"float64": 1e-10, "float32": 1e-3, "tf32": 5e-2, "bfloat16": 2e-1}
ROUNDING = {"float64": 2**-53, "float32": 2**-24, "tf32": 2**-11, "bfloat16": 2**-8}
TIMES = 8  # by which a device's sums may round worse than the CPU's
CASES = {"dcgan_small": LIKE_DIGITS, "resnet11v2": LIKE_DIGITS, "resnet50v2": LIKE_CELEBA}
IMAGES = {"cpu": 2000, "cuda": 10_000}
CAPTURED_STEPS = 30
SAME_LOSS = 1e-4


def measure(options: Options, say: Callable[[str], None]) -> list[Row]:
    device = options.device
    rows = []
    for architecture, shape in CASES.items():
        data = random_images(shape, 64)
        for algorithm in ALGORITHMS:
            say(f"{algorithm}, {architecture}")
            run = run_of(algorithm, architecture, 16)
            exact = _update(run, data, CPU, YARDSTICK)
            single = _difference(_update(run, data, CPU, "float32")[1], exact[1])
            for precision in (YARDSTICK, *PRECISIONS):
                off = [_difference(*pair) for pair in zip(_update(run, data, device, precision), exact, strict=True)]
                what = f"{algorithm}, {architecture}, {precision}: an update's gradient, off by"
                note = f"loss and penalty off by {off[0]:.1e}"
                rows.append(Row(what, (off[1],), "of its norm", at_most=allowed(precision, single), note=note))
    say("features and FID")
    rows += _scores(device)
    if has_graphs(device):
        say("captured steps")
        rows += [_captured(run_of(algorithm, "dcgan_small"), device) for algorithm in ALGORITHMS]
    return rows


def allowed(precision: str, single: float) -> float | None:
    """Return by how much a gradient may be off; None where it is rounding alone, which tells nothing.

    Args:
        single: by how much the CPU's own is off in float32: deep networks magnify rounding, of each type alike.
    """
    most = max(ALLOWED[precision], TIMES * single * ROUNDING[precision] / ROUNDING["float32"])
    return most if most < 1 else None


def _update(run: Run, data: ImageData, device: torch.device, precision: str) -> tuple[Tensor, Tensor]:
    """Loss and penalty of one update, and the gradient of all networks, as Adam's first moments hold it."""
    run = replace(run, protocol=replace(run.protocol, precision=precision))
    state = TrainingState(run, data, device)
    draws = StepDraws([Streams(run, CPU)], draw_shapes(run, data), torch.float64)
    draws.prepare(1)
    images = to_float(data.train[: run.hyperparameters.batch_size], data.pixel_range)
    batch = {"x": images[None], **draws.at(torch.zeros(1, dtype=torch.int64))}
    batch = {name: tensor.to(device, dtype(precision)) for name, tensor in batch.items()}
    batch["x"] = batch["x"][0].contiguous(memory_format=memory_format(device))[None]
    with tensor_cores(device, precision):
        figures = update(run, Solo(run, state), batch)
    moments = [tensor.flatten() for name, tensor in state.named().items() if name.endswith(".first_moments")]
    return figures.double().cpu(), torch.cat(moments).double().cpu()


def _difference(ours: Tensor, exact: Tensor) -> float:
    return float((ours - exact).norm() / exact.norm())


def _scores(device: torch.device) -> list[Row]:
    """Of random images against others: features, and the distance of their Gaussians."""
    count = IMAGES[device.type]
    data = random_images(LIKE_DIGITS, count, count)
    features, distances = zip(*[_score(data, where) for where in (device, CPU)], strict=True)
    off = abs(distances[0] / distances[1] - 1)
    return [
        Row("digit features, off by", (_difference(*features),), "of their norm", at_most=1e-5),
        Row(f"FID of {count:,} images, off by", (off,), "of it", at_most=1e-3, note=f"{distances[1]:.4f} on the CPU"),
    ]


@torch.no_grad()
def _score(data: ImageData, device: torch.device) -> tuple[Tensor, float]:
    network = load_features("digits", device)
    features = [
        torch.cat([network(batch.to(device)) for batch in torch.split(images, 500)])
        for images in (data.train, data.held_out)
    ]
    gaussians = []
    for own in features:
        statistics = GaussianStatistics(network.dim)
        statistics.update(own)
        gaussians.append((statistics.mean, statistics.covariance))
    return features[0].double().cpu(), FrechetReference(*gaussians[1]).distance(*gaussians[0])


def _captured(run: Run, device: torch.device) -> Row:
    """Steps by a CUDA graph against the same steps one operator after the other."""
    protocol = replace(PROTOCOL, steps=CAPTURED_STEPS, evaluation_steps=(CAPTURED_STEPS,))
    run = replace(run, protocol=protocol)
    data = random_images(LIKE_DIGITS, 4000).to(device)
    losses = []
    for is_captured in (True, False):
        state = TrainingState(run, data, device)
        ((snapshot,),) = train_pack([run], data, device, [state], is_captured=is_captured)
        losses.append(snapshot.loss)
    off = abs(losses[0] / losses[1] - 1) if math.isfinite(losses[1]) else math.nan
    what = f"{run.algorithm}: mean loss of {CAPTURED_STEPS} steps by a CUDA graph, off by"
    return Row(what, (off,), "of the steps' own", at_most=SAME_LOSS)
