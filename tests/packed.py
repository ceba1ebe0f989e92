"""Small packed data sets of grey noise, as `make data` leaves them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wae_core.data.manifest import Manifest
from wae_core.data.preparing import write_images

COUNT, TRAINED = 480, 400


def pack_noise(folder: Path, name: str = "noise", seed: int = 0) -> Manifest:
    """Pack the set that the seed makes; returns its manifest."""
    images = np.random.RandomState(seed).randint(0, 256, (COUNT, 1, 28, 28), dtype=np.uint8)
    (folder / name).mkdir(parents=True)
    manifest = Manifest(
        name=name,
        source={"kind": "noise", "fingerprint": str(seed)},
        count=COUNT,
        train_count=TRAINED,
        shape=(COUNT, 1, 28, 28),
        sha256=write_images(images, np.arange(COUNT), TRAINED, folder / name),
        crop=None,
        filter=None,
        pillow=None,
        split="the last ones",
        split_seed=None,
        skipped=[],
    )
    manifest.write(folder / name)
    return manifest
