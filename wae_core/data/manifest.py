"""The manifest of a packed data set: what images.npy holds, and how it was made.

It is written last, and makes the data set valid.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wae_core.storage.files import write_atomically

FORMAT = 2
IMAGES = "images.npy"
MANIFEST = "manifest.json"
HASHED_AT_A_TIME = 1024  # images
LARGEST_SIDE = 1024  # pixels


@dataclass(frozen=True)
class Manifest:
    """`images.npy` is uint8 [N, C, H, W]: the `train_count` training images first, then the held-out ones."""

    name: str
    source: dict[str, str]  # kind and fingerprint; repository and revision where it was downloaded
    count: int  # N
    train_count: int
    shape: tuple[int, int, int, int]  # (N, C, H, W)
    sha256: str  # by `images_sha256`: the data set's identity
    crop: str | None
    filter: str | None  # of the resize; None where images keep their size
    pillow: str | None  # the version that decoded them, where Pillow did
    split: str  # the rule that chose the held-out images
    split_seed: int | None
    skipped: list[dict[str, str]]  # images left out: name and reason
    background: str | None = None  # the colour below what was transparent; None where no image can be
    ignored: Mapping[str, int] = field(default_factory=dict)  # why what lies there is no image → how often

    def write(self, folder: Path) -> None:
        """Write folder/manifest.json: it appears whole or not at all."""
        document = {"format": FORMAT, **asdict(self)}
        write_atomically(folder / MANIFEST, (json.dumps(document, indent=1) + "\n").encode())


def checked_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return (C, H, W) if images can have it: 1 or 3 channels, sides of 1 to LARGEST_SIDE pixels.

    Raises:
        ValueError: they cannot.
    """
    if len(shape) != 3 or any(type(number) is not int for number in shape):
        raise ValueError(f"the shape of its images is {list(shape)}, but it is channels, height and width")
    channels, height, width = shape
    if channels not in (1, 3) or not (1 <= height <= LARGEST_SIDE and 1 <= width <= LARGEST_SIDE):
        raise ValueError(
            f"the shape of its images is {channels}×{height}×{width}, but it is 1 or 3 channels and sides of 1 to "
            f"{LARGEST_SIDE} pixels"
        )
    return channels, height, width


def images_sha256(images: NDArray[np.uint8], train_count: int) -> str:
    """Return the identity of a data set: it differs where a pixel, the order, the shape or the split does.

    Where the images came from, and when they were packed, is no part of it.

    Args:
        images: uint8 [N, C, H, W]; may be memory-mapped, and is never copied whole.
        train_count: how many of them, from the first, are the training images.
    """
    shape = "×".join(map(str, images.shape))
    digest = hashlib.sha256(f"uint8 {shape}, the first {train_count} to train on\n".encode())
    for start in range(0, len(images), HASHED_AT_A_TIME):
        digest.update(np.ascontiguousarray(images[start : start + HASHED_AT_A_TIME]).data)
    return digest.hexdigest()


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of the data set in `folder`; None if there is none.

    Raises:
        ValueError: it is damaged, or of another format.
    """
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        if not path.is_file():
            raise ValueError("it is no file")
        return parse_manifest(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be used ({error}): delete {folder} and pack it again") from error


def parse_manifest(written: bytes) -> Manifest:
    """Return the manifest that was written so.

    Raises:
        ValueError: it is damaged, or of another format.
    """
    try:
        document: dict[str, Any] = json.loads(written)
        if document.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        document["shape"] = tuple(document["shape"])
        manifest = Manifest(**document)
        if len(manifest.shape) != 4 or manifest.shape[0] != manifest.count:
            raise ValueError(f"count {manifest.count} and shape {manifest.shape} disagree")
        checked_shape(manifest.shape[1:])
        if not 0 < manifest.train_count < manifest.count:
            raise ValueError(f"train_count {manifest.train_count} of {manifest.count} leaves a part empty")
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    return manifest
