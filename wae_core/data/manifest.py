"""The manifest of a packed data set: what images.npy holds, and how it was made.

It is written last, and makes the data set valid.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wae_core.storage.files import write_atomically

FORMAT = 2
IMAGES = "images.npy"
MANIFEST = "manifest.json"
HASHED_AT_A_TIME = 1024  # images


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

    def write(self, folder: Path) -> None:
        """Write folder/manifest.json: it appears whole or not at all."""

        document = {"format": FORMAT, **asdict(self)}
        write_atomically(folder / MANIFEST, (json.dumps(document, indent=1) + "\n").encode())


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
        document: dict[str, Any] = json.loads(path.read_bytes())
        if document.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        document["shape"] = tuple(document["shape"])
        manifest = Manifest(**document)
        if len(manifest.shape) != 4 or manifest.shape[0] != manifest.count:
            raise ValueError(f"count {manifest.count} and shape {manifest.shape} disagree")
        if not 0 < manifest.train_count < manifest.count:
            raise ValueError(f"train_count {manifest.train_count} of {manifest.count} leaves a part empty")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be used ({error}): delete {folder} and pack it again") from error
    return manifest
