"""Weights files of the feature networks: read whole, and refused unless their sha256 is the known one."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from wae_core import checks


def read_weights(path: Path, sha256: str, origin: str = "") -> bytes:
    """Return the content of a weights file, after its sha256 was found to be the known one.

    Args:
        path: the file.
        sha256: the only one that is allowed, in hexadecimal digits.
        origin: the public file that has it, for the sentence.

    Raises:
        OSError: the file cannot be read.
        ValueError: its sha256 is another one, or it is a pipe or a device.
    """
    content = checks.file("the weights file", path).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        allowed = f"{sha256}, that of {origin}," if origin else sha256
        raise ValueError(f"weights file {path} has sha256 {found}; only {allowed} is allowed")
    return content


def unpickle_weights(content: bytes) -> dict[str, Any]:
    """Return the tensors, on the CPU, of a file that `torch.save` wrote; nothing but tensors is unpickled."""
    weights: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return weights
