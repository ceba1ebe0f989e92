"""The manifest of a packed data set: what images.npy holds, and how it was made.

It is written last, and makes the data set valid.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wae_core.storage.files import write_atomically

FORMAT = 1
IMAGES = "images.npy"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """`images.npy` is uint8 [N, C, H, W]: the `train_count` training images first, then the held-out ones."""

    name: str
    source: dict[str, str]  # kind and fingerprint; repository and revision where it was downloaded
    count: int  # N
    train_count: int
    shape: tuple[int, int, int, int]  # (N, C, H, W)
    sha256: str  # of the file images.npy
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
