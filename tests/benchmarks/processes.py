"""Part `processes`: several processes of one model each on one device, by CUDA's Multi-Process Service or without it.

python -m tests.benchmarks.processes DEVICE is one of them; it trains when its standard input tells it to.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median

import torch

from tests.benchmarks.measuring import PROTOCOL, Options, Row, ratios, within
from tests.benchmarks.models import LIKE_DIGITS, random_images, run_of
from wae_core.device import has_graphs, select_device
from wae_core.training.loop import train_pack
from wae_core.training.state import TrainingState

COUNTS = {"cpu": (1, 2), "cuda": (1, 2, 8)}  # 1 is the yardstick
SECONDS = 1.0  # of one measurement, in which all of them train
BLOCK = 20  # steps between two looks at the clock
MPS = "nvidia-cuda-mps-control"
CASE = ("wae-mmd", "dcgan_small")


def measure(options: Options, say: Callable[[str], None]) -> list[Row]:
    kind = options.device.type
    ways = ("plain", "captured") if has_graphs(options.device) else ("plain",)
    rates = {}
    for count in COUNTS[kind]:
        say(f"processes on the device: {count}")
        for way, values in _rates(count, ways, options, {}).items():
            rates[count, way, ""] = values
    missing = []
    if kind == "cuda":
        try:
            by_service = {}
            with _mps() as environment:
                for count in COUNTS[kind][1:]:
                    say(f"processes on the device, by MPS: {count}")
                    for way, values in _rates(count, ways, options, environment).items():
                        by_service[count, way, " by MPS"] = values
                # A process that cannot connect to the service goes on without it, and says nothing.
                if not _tell(environment, "get_server_list").strip():
                    raise RuntimeError("no process has connected to the service")
            rates |= by_service
        except (OSError, subprocess.SubprocessError, RuntimeError) as error:
            missing = [Row("several processes by MPS", (), "×", note=f"not measured: {error}")]
    return [*rows(rates), *missing]


def rows(rates: Mapping[tuple[int, str, str], tuple[float, ...]]) -> list[Row]:
    """The figures of (how many processes, how they take a step, by which service), beside those of one."""
    found = []
    alone = rates[1, "plain", ""]
    for (count, way, mps), values in rates.items():
        how = f"{count} process{'es' * (count > 1)} of one model{' by a CUDA graph' * (way == 'captured')}{mps}"
        note = f"{median(values):,.0f} models/h"
        if (count, way, mps) == (1, "plain", ""):
            found.append(Row(f"{', '.join(CASE)}: {how}", values, "models/h"))
        else:
            rounds = min(len(values), len(alone))
            gains = ratios(values[:rounds], alone[:rounds])
            found.append(Row(f"{', '.join(CASE)}: models an hour, {how} / one", gains, "×", note=note))
    return found


def _rates(
    count: int, ways: tuple[str, ...], options: Options, environment: Mapping[str, str]
) -> dict[str, tuple[float, ...]]:
    """Models an hour of so many processes that train at the same time, by the way in which they take a step."""
    command = [sys.executable, "-m", "tests.benchmarks.processes", options.device.type]
    processes = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
            env=os.environ | environment,
        )
        for _ in range(count)
    ]
    try:
        rates = {}
        for way in ways:
            _ask(processes, way)
            rounds = within(min(options.rounds, 3), options.until)
            rates[way] = tuple(sum(map(float, _ask(processes, "go"))) for _ in rounds)
        return rates
    finally:
        for process in processes:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()  # at its end they end
            process.wait()


def _ask(processes: list[subprocess.Popen[str]], word: str) -> list[str]:
    """Tell all of them, then hear all of them."""
    for process in processes:
        assert process.stdin is not None
        print(word, file=process.stdin, flush=True)
    answers = [process.stdout.readline() for process in processes if process.stdout is not None]
    if not all(answers):
        raise RuntimeError("a process did not answer; see above")
    return answers


@contextlib.contextmanager
def _mps() -> Iterator[dict[str, str]]:
    """Run a service of our own, in a folder of its own; yields what makes a process one of its clients.

    Raises:
        OSError: this machine has no such program.
        subprocess.SubprocessError: it does not start.
    """
    if shutil.which(MPS) is None:
        raise FileNotFoundError(f"there is no {MPS} here")
    with tempfile.TemporaryDirectory(prefix="mps", dir="/tmp") as folder:  # its sockets' paths are to be short
        environment = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        subprocess.run([MPS, "-d"], env=os.environ | environment, check=True, timeout=30)
        try:
            yield environment
        finally:
            _tell(environment, "quit")


def _tell(environment: Mapping[str, str], word: str) -> str:
    """Return what the service of that environment answers."""
    command, environ = [MPS], os.environ | environment
    done = subprocess.run(command, input=f"{word}\n", env=environ, text=True, capture_output=True, timeout=30)
    return done.stdout


def _serve(device: torch.device) -> None:
    """Make a training ready at `plain` and `captured`; measure it at `go`. Each line is answered by one."""
    torch.set_num_threads(1)
    run, data = run_of(*CASE), random_images(LIKE_DIGITS, 4000).to(device)
    training: Iterator[object] = iter(())
    for word in map(str.strip, iter(sys.stdin.readline, "")):
        if word == "go":
            began, steps = time.perf_counter(), 0
            while time.perf_counter() < began + SECONDS:
                next(training)
                steps += BLOCK
            print(3600 * steps / (time.perf_counter() - began) / PROTOCOL.steps, flush=True)
        else:
            state = TrainingState(run, data, device)
            training = train_pack([run], data, device, [state], BLOCK, is_captured=word == "captured")
            next(training)
            print("ready", flush=True)


if __name__ == "__main__":
    _serve(select_device(sys.argv[1]))
