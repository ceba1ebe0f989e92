"""Part `step`: the digits training step against the plain eager loop and pythae's trainer, at equal architecture."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from tests.benchmarks import plain
from tests.benchmarks.measuring import PROTOCOL, Options, Row, interleave, ratios, seconds
from wae_core.data.images import ImageData
from wae_core.run import Hyperparameters, Run
from wae_core.training.loop import train
from wae_core.training.state import TrainingState

STEPS = 30  # of one measurement
IMAGES = 4000  # what the digits study trains on; what they show does not change a step's time


def measure(options: Options, say: Callable[[str], None]) -> list[Row]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (IMAGES, 1, 28, 28), generator=generator, dtype=torch.uint8)
    milliseconds = {
        "ours": _ours(images, options.rounds + 1, options.device),
        "plain": _plain(images, options.device),
    }
    pythae = None
    if options.pythae is not None:
        command = [str(options.pythae), "-m", "tests.benchmarks.pythae_server", str(STEPS), options.device.type]
        pythae = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env=os.environ | {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"},
        )
        milliseconds["pythae"] = lambda: _ask(pythae)
    try:
        say("warming up")
        for one in milliseconds.values():
            one()
        say(f"{options.rounds} rounds of {STEPS} steps each: {', '.join(milliseconds)}")
        took = interleave(milliseconds, options.rounds, options.until)
    finally:
        if pythae is not None:
            pythae.communicate()
    note = ", ".join(f"{name} {statistics.median(values):.2f} ms" for name, values in took.items())
    rows = [
        Row(
            "training step: plain eager float32 / ours",
            ratios(took["plain"], took["ours"]),
            "×",
            at_least=1.5,
            note=f"dcgan_small of width {plain.WIDTH}, batch {plain.BATCH}, WAE-MMD; {note}",
        )
    ]
    if pythae is None:
        rows.append(Row("training step: pythae / ours", (), "×", note="not measured: give --pythae PYTHON"))
    else:
        rows.append(Row("training step: pythae / ours", ratios(took["pythae"], took["ours"]), "×", at_least=2))
    return rows


def _ours(images: torch.Tensor, measurements: int, device: torch.device) -> Callable[[], float]:
    """wae_core's training as the sweep runs it; a checkpoint, which nobody evaluates, ends each measurement."""
    steps = tuple(range(STEPS, STEPS * measurements + 1, STEPS))
    protocol = replace(
        PROTOCOL,
        dataset="digits",
        width=plain.WIDTH,
        steps=steps[-1],
        evaluation_steps=steps,
        cost_scale=plain.COST_SCALE,
        input_noise=0.0,  # the others have neither noise nor pre-training
    )
    hyperparameters = Hyperparameters(
        latent_dim=plain.LATENT_DIM,
        batch_size=plain.BATCH,
        learning_rate=plain.LEARNING_RATE,
        architecture="dcgan_small",
        encoder="deterministic",
        kernel_scale=2.0 * plain.LATENT_DIM,
        wae_lambda=plain.WAE_LAMBDA,
    )
    run = Run("bench", 0, "wae-mmd", 0, 0, hyperparameters, protocol)
    data = ImageData("digits", train=images, held_out=images[:0])
    state = TrainingState(run, data, device)
    count = sum(parameter.numel() for parameter in state.autoencoder.parameters())
    assert count == plain.parameter_count(), f"not the same architecture: {count}, {plain.parameter_count()}"
    training = train(run, data, device, state)
    return lambda: 1000 * seconds(lambda: next(training), device) / STEPS


def _plain(images: torch.Tensor, device: torch.device) -> Callable[[], float]:
    training = plain.train(images / 255, device)
    return lambda: 1000 * seconds(lambda: [next(training) for _ in range(STEPS)], device) / STEPS


def _ask(pythae: subprocess.Popen[str] | None) -> float:
    assert pythae is not None and pythae.stdin is not None and pythae.stdout is not None
    print(file=pythae.stdin, flush=True)
    answer = pythae.stdout.readline()
    if not answer:
        sys.exit("error: the Python given by --pythae did not answer; see above")
    return float(answer)
