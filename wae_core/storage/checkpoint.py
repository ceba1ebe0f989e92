"""Checkpoints: safetensors beside a JSON manifest with hashes; a kill leaves no half of one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from wae_core.storage.files import Location, read, write_atomically

FORMAT = 3  # 2: linear layers beside feature maps order them channels last; 3: sums of the losses


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or of another format."""


def save_checkpoint(path: Location, tensors: dict[str, Tensor], content: dict[str, Any]) -> None:
    """Write `path` (.safetensors) and its manifest (.json); the manifest comes last and makes the checkpoint valid.

    Args:
        tensors: contiguous CPU tensors.
        content: JSON data stored in the manifest.
    """
    data = safetensors.torch.save(tensors)
    body = {"format": FORMAT, "tensors_sha256": hashlib.sha256(data).hexdigest(), "content": content}
    write_atomically(path, data)
    write_atomically(path.with_suffix(".json"), _written(body))


def read_manifest(path: Location) -> dict[str, Any]:
    """The content of the manifest of `path`, without reading the tensors.

    Raises:
        CheckpointError: there is no valid manifest.
    """
    content: dict[str, Any] = _read_body(path)["content"]
    return content


def load_checkpoint(path: Location) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint: (tensors on the CPU, content).

    Raises:
        CheckpointError: a file is missing, or a byte differs from what was written.
    """
    body = _read_body(path)
    try:
        data = read(path)
    except OSError as error:
        raise CheckpointError(f"checkpoint {path} cannot be read: {error}") from error
    if hashlib.sha256(data).hexdigest() != body["tensors_sha256"]:
        raise CheckpointError(f"checkpoint {path} is damaged: its sha256 is not the manifest's")
    try:
        return safetensors.torch.load(data), body["content"]
    except (SafetensorError, ValueError, KeyError, TypeError) as error:  # of one whose hash was made to fit
        raise CheckpointError(f"checkpoint {path} is not a safetensors file: {error}") from error


def valid_checkpoints(paths: Iterable[Location]) -> Iterator[tuple[Location, dict[str, Tensor], dict[str, Any]]]:
    """Read the valid checkpoints among `paths`, in descending order of their file names: (path, tensors, content)."""
    for path in sorted(paths, key=lambda path: path.name, reverse=True):
        try:
            tensors, content = load_checkpoint(path)
        except CheckpointError:
            continue
        yield path, tensors, content


def _read_body(path: Location) -> dict[str, Any]:
    manifest = path.with_suffix(".json")
    try:
        data = read(manifest)
        body: dict[str, Any] = json.loads(data)["body"]
        # Byte for byte: a space, the case of an exponent, a last digit may change without changing the values.
        valid = data == _written(body) and body["format"] == FORMAT and "content" in body
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"manifest {manifest} cannot be read: {error}") from error
    if not valid:
        raise CheckpointError(f"manifest {manifest} is damaged, or of another format than {FORMAT}")
    return body


def _written(body: dict[str, Any]) -> bytes:
    """The manifest's bytes: there is one way to write a body."""
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    return json.dumps({"sha256": digest, "body": body}, indent=1).encode()
