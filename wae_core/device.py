"""Where tensors live: the one module that knows the cpu, CUDA and XLA devices apart."""

from __future__ import annotations

import contextlib
import importlib
import os
import platform
from collections.abc import Iterator
from typing import Any

import torch

from wae_core.names import DEVICES

# The hardware that a person asks XLA for; torch_xla writes its own choice there once it is imported.
XLA_ASKED = os.environ.get("PJRT_DEVICE")


def require_device(name: str) -> None:
    """Refuse a device that this machine has not. None is opened: a TPU chip belongs to the process that opens it.

    Raises:
        ValueError: the name is unknown, or this machine has no such device.
    """
    if name not in DEVICES:
        raise ValueError(f"unknown device {name!r}: it is one of {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' is asked for, but this machine has no CUDA device that torch can use")
    if name == "xla":
        _require_tpu()


def select_device(name: str) -> torch.device:
    """Return the device called `name`, whose products are IEEE float32 from now on.

    Raises:
        ValueError: the name is unknown, or this machine has no such device, or not one that can be opened.
    """
    require_device(name)
    if name == "cuda":
        # torch lets cuDNN's convolutions take TF32. Here only a training step that is to does (`tensor_cores`):
        # features, FIDs and pre-training are float32 throughout.
        for backend in _products():
            backend.fp32_precision = "ieee"
    if name == "xla":
        try:
            return torch.device(importlib.import_module("torch_xla").device())
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise ValueError(f"device 'xla' is asked for, but XLA's runtime cannot open it: {reason}") from error
    return torch.device(name)


def describe(device: torch.device) -> str:
    """Name the hardware behind `device`, as the column `device` of a result row shows it."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    if device.type == "xla":
        return f"xla: {importlib.import_module('torch_xla')._XLAC._xla_device_kind(str(device))}"
    return f"cpu: {platform.machine()}, {torch.get_num_threads()} thread" + "s" * (torch.get_num_threads() > 1)


@contextlib.contextmanager
def tensor_cores(device: torch.device, precision: str) -> Iterator[None]:
    """Within it, CUDA's matrix products and convolutions take TF32 if `precision` is tf32, and float32 if not."""
    if device.type != "cuda":
        yield
        return
    before = [backend.fp32_precision for backend in _products()]
    for backend in _products():
        backend.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        yield
    finally:
        for backend, value in zip(_products(), before, strict=True):
            backend.fp32_precision = value


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The networks' forward pass in bfloat16 where `precision` says so; the backward pass follows it."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def dtype(precision: str) -> torch.dtype:
    """The type of weights, inputs and losses."""
    return torch.float64 if precision == "float64" else torch.float32


def memory_format(device: torch.device) -> torch.memory_format:
    """The layout in which convolutions run fastest: channels last, where the device has the choice."""
    return torch.contiguous_format if device.type == "xla" else torch.channels_last


def eager_device(device: torch.device) -> torch.device:
    """Where single operators run, float64 and random draws among them: the device itself, or the host for XLA.

    XLA compiles what it is given, has no generators, and emulates float64.
    """
    return torch.device("cpu") if device.type == "xla" else device


def backend(device: torch.device) -> str:
    """Name what carries tensors between processes on such devices, for torch.distributed."""
    return "nccl" if device.type == "cuda" else "gloo"


def launches_kernels(device: torch.device) -> bool:
    """Whether an operator is a launch of its own, so that fewer are faster; XLA makes one program of them."""
    return device.type != "xla"


def has_running_statistics(device: torch.device) -> bool:
    """Whether torch's batch norm keeps them: XLA's has a variance over n, not over n − 1."""
    return device.type != "xla"


def has_graphs(device: torch.device) -> bool:
    """Whether the device replays launches that were captured once (`wae_core/training/replay.py`)."""
    return device.type == "cuda"


def end_step(device: torch.device) -> None:
    """Mark the end of a step; XLA compiles what was recorded since the last one, and launches it.

    What was recorded before with the same operators, shapes and constants is compiled once.
    """
    if device.type == "xla":
        importlib.import_module("torch_xla").sync()


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "xla":
        importlib.import_module("torch_xla").sync(wait=True)


def _require_tpu() -> None:
    """Refuse XLA on other hardware than a TPU, unless the environment asks for that."""
    try:
        hardware = importlib.import_module("torch_xla.runtime").device_type()
    except ImportError as error:
        raise ValueError(
            "device 'xla' is asked for, but the package torch_xla is not installed: make setup-tpu makes an "
            "environment that has it, .venv-tpu"
        ) from error
    if hardware != "TPU" and XLA_ASKED is None:
        raise ValueError(
            f"device 'xla' is asked for, but this machine has no TPU: XLA would use its {hardware}; "
            f"if you want that, set PJRT_DEVICE={hardware}"
        )


def _products() -> tuple[Any, Any]:
    """Where torch holds whether CUDA's matrix products and convolutions may take TF32."""
    return torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
