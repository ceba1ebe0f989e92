"""What all parts of the benchmark share: options, protocol, rows, interleaved timing, the machine described."""

from __future__ import annotations

import gc
import math
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from sweep.commit import git_commit
from wae_core.run import Protocol

# Of the parts that train, each with its own changes: nothing is evaluated or pre-trained, the counts are the least.
PROTOCOL = Protocol(
    dataset="mnist",
    width=8,
    steps=100_000,
    evaluation_steps=(100_000,),
    fid_features="digits",
    fid_samples=4,
    evaluation_images=1,
    prior_variance=1.0,
    cost_scale=0.05,
    input_noise=0.01,
    pretraining_steps=0,
    pretraining_images=2,
)
PACKAGES = ("torch", "numpy", "scipy", "ray", "mlflow", "pandas", "pyarrow", "safetensors")


@dataclass(frozen=True)
class Options:
    """What the command line chooses for all parts.

    device: of the parts that exercise wae_core.
    runs: of the orchestration's long block.
    rounds: interleaved repetitions, whose median is shown.
    pythae: a Python that has pythae, or None.
    until: of time.monotonic(), when the part should be done.
    """

    device: torch.device
    runs: int
    rounds: int
    pythae: Path | None
    until: float = math.inf


@dataclass(frozen=True)
class Row:
    """One figure: its median, lowest and highest over the rounds, and what it must be to meet its target."""

    what: str
    values: tuple[float, ...]
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def value(self) -> float | None:
        """None where nothing was measured."""
        return statistics.median(self.values) if self.values else None

    @property
    def meets_target(self) -> bool | None:
        """None without a target, or without a figure."""
        if self.value is None:
            return None
        if self.at_least is not None:
            return self.value >= self.at_least
        return None if self.at_most is None else self.value <= self.at_most

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"value": self.value, "meets_target": self.meets_target}


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time of `work`, until the device has done it."""
    _synchronize(device)
    began = time.perf_counter()
    work()
    _synchronize(device)
    return time.perf_counter() - began


def within(rounds: int, until: float) -> Iterator[int]:
    """Number the rounds. The first is always had; another, if it ends before `until` by the time of the longest."""
    longest = 0.0
    for number in range(rounds):
        began = time.monotonic()
        if number > 0 and began + longest > until:
            return
        yield number
        longest = max(longest, time.monotonic() - began)


def interleave(
    contestants: Mapping[str, Callable[[], float]], rounds: int, until: float = math.inf
) -> dict[str, tuple[float, ...]]:
    """Call A, B, …, A, B, …, as `within` has it; returns what each returned, in the order of the rounds.

    Whatever else the machine does then falls on all of them alike, and a round's ratios hold.
    """
    figures: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in within(rounds, until):
        for name, measure in contestants.items():
            figures[name].append(measure())
    return {name: tuple(values) for name, values in figures.items()}


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, ...]:
    """Round by round."""
    return tuple(a / b for a, b in zip(numerators, denominators, strict=True))


def forget_peak(device: torch.device) -> None:
    """Let `peak_gigabytes` begin anew, where the device can."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_gigabytes(device: torch.device) -> float:
    """Most memory that tensors had on a CUDA device at once; of the CPU, most that this process ever had (Linux)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def describe_machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_commit": git_commit(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_average": os.getloadavg()[0],  # of the minute before: what else the machine was doing
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cuda": torch.version.cuda,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
