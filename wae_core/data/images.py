"""The images of a data set, as uint8 tensors: the embedded digits, or a packed set, memory-mapped."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wae_core.data.idx import read_idx
from wae_core.data.manifest import IMAGES, Manifest, images_sha256, read_manifest

DIGITS = Path(__file__).parent / "digits"  # 5,000 of MNIST's; their origin and licence stand in its README
# What packs a data set; any other name is a folder's.
COMMANDS = {
    "mnist": "make data DATA=mnist SOURCE=<folder>",
    "celeba": "make data DATA=celeba SOURCE=<zip or folder>",
}
# (C, H, W), as they are packed unless told otherwise.
SHAPES = {"digits": (1, 28, 28), "mnist": (1, 28, 28), "celeba": (3, 64, 64)}


@dataclass(frozen=True)
class ImageData:
    """A data set with its fixed split; uint8, `train` [N, C, H, W] and `held_out` [M, C, H, W]."""

    name: str
    train: Tensor
    held_out: Tensor

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.train.shape[1:]
        return channels, height, width

    @property
    def pixel_range(self) -> tuple[float, float]:
        """What 0 and 255 become: grey images lie in [0, 1], colour images in [−1, 1] (paper, Appendix C)."""
        return (0.0, 1.0) if self.train.shape[1] == 1 else (-1.0, 1.0)

    def to(self, device: torch.device) -> ImageData:
        """The same images on `device`."""
        return ImageData(self.name, self.train.to(device), self.held_out.to(device))

    def split(self, name: str) -> Tensor:
        """The images of one of wae_core.names.REFERENCES."""
        return {"train": self.train, "held_out": self.held_out}[name]


def load_dataset(name: str, folder: Path = Path("data")) -> ImageData:
    """Load the data set called `name`: the embedded 'digits', or one that `make data` packed into `folder`.

    A packed set is memory-mapped, so processes share its memory; its hash is not compared (`prepare --check` does).

    Raises:
        ValueError: there is no such data set, or it is damaged; the sentence says which command makes it.
    """
    if name == "digits":
        return _digits()
    command, manifest = _command(name), _packed_manifest(name, folder)
    path = folder / name / IMAGES
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is no file")
        # Copy-on-write: torch warns of arrays that it may not write to.
        images = np.lib.format.open_memmap(path, mode="c")
    except Exception as error:  # numpy reads a header as Python's source, and raises what comes of that
        raise ValueError(f"data set {name!r} in {folder}/ is damaged ({error}): delete it, then {command}") from error
    if images.dtype != np.uint8 or images.shape != manifest.shape:
        raise ValueError(
            f"data set {name!r} in {folder}/ is damaged (its images are {images.dtype} {images.shape}, "
            f"its manifest says uint8 {manifest.shape}): delete it, then {command}"
        )
    tensor = torch.from_numpy(images)
    return ImageData(name, train=tensor[: manifest.train_count], held_out=tensor[manifest.train_count :])


def image_shape(name: str, folder: Path = Path("data")) -> tuple[int, int, int]:
    """(C, H, W) of the data set called `name`; of those that bigwae knows also before they are packed.

    Raises:
        ValueError: there is no such data set, or its manifest is damaged.
    """
    manifest = None if name == "digits" else _manifest(name, folder)
    if manifest is not None:
        return manifest.shape[1:]
    if name not in SHAPES:
        raise ValueError(_unknown(name, folder))
    return SHAPES[name]


def data_sha256(name: str, folder: Path = Path("data")) -> str:
    """Return the identity of the data set called `name`: the sha256 in its manifest, which names pixels and split.

    Cheap: of a packed set, only the manifest is read.

    Raises:
        ValueError: there is no such data set, or its manifest is damaged.
    """
    if name == "digits":
        digits = _digits()
        return images_sha256(torch.cat([digits.train, digits.held_out]).numpy(), len(digits.train))
    return _packed_manifest(name, folder).sha256


def reference_count(name: str, folder: Path, split: str, wanted: int | None) -> int:
    """Return how many images of a split FIDs are measured against: `wanted`, or all where that is None.

    Cheap: of a packed set, only the manifest is read.

    Raises:
        ValueError: there is no such data set, or it has fewer than are wanted.
    """
    if name == "digits":
        count = len(_digits().split(split))
    else:
        manifest = _packed_manifest(name, folder)
        count = manifest.train_count if split == "train" else manifest.count - manifest.train_count
    if wanted is not None and wanted > count:
        raise ValueError(f"{wanted:,} reference images are asked for, but {name}/{split} has {count:,}")
    return count if wanted is None else wanted


def reference_name(name: str, split: str, count: int) -> str:
    """Return what the column `fid_reference` says: data set, split and count."""
    return f"{name}/{split}/{count}"


def _packed_manifest(name: str, folder: Path) -> Manifest:
    """The manifest of a packed set; raises ValueError where there is none."""
    manifest = _manifest(name, folder)
    if manifest is None and name in COMMANDS:
        raise ValueError(f"data set {name!r} is not in {folder}/: {_command(name)}")
    if manifest is None:
        raise ValueError(_unknown(name, folder))
    return manifest


def _manifest(name: str, folder: Path) -> Manifest | None:
    return read_manifest(folder / name) if re.fullmatch("[a-z0-9][a-z0-9_-]*", name) else None


def _command(name: str) -> str:
    return COMMANDS.get(name, f"make data DATA=folder NAME={name} SOURCE=<folder or zip of images>")


def _unknown(name: str, folder: Path) -> str:
    known = ", ".join(COMMANDS)
    return f"unknown data set {name!r}: it is neither digits, {known} nor in {folder}/: {_command(name)}"


def _digits() -> ImageData:
    """5,000 MNIST digits, 500 of each class: 4,000 to train on, 1,000 held out."""
    # The classes take turns in the file: all that is taken from an end, as the held-out fifth, is stratified.
    pixels = read_idx(DIGITS / "images-idx3-ubyte.gz", (28, 28)).reshape(5000, 1, 28, 28)
    images = torch.from_numpy(pixels.copy())  # what is read cannot be written to, of which torch warns
    return ImageData("digits", train=images[:4000], held_out=images[4000:])


def to_float(images: Tensor, pixel_range: tuple[float, float]) -> Tensor:
    """uint8 images as float32 in `pixel_range`; any shape."""
    low, high = pixel_range
    return images.float() * ((high - low) / 255) + low


def to_uint8(images: Tensor, pixel_range: tuple[float, float]) -> Tensor:
    """Float images in `pixel_range`, rounded to the 256 levels that real images have; any shape."""
    low, high = pixel_range
    return ((images - low) * (255 / (high - low))).round().clamp(0, 255).to(torch.uint8)
