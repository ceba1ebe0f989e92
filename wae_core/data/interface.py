"""What a source of images is, to those who decode them: names in a fixed order, and the bytes of each."""

from __future__ import annotations

import hashlib
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

MAX_IMAGE_BYTES = 256 * 2**20  # an encoded image that claims more is no picture to train on
_READ_AT_A_TIME = 2**20


class BadImage(ValueError):
    """One image that cannot be used; the message is the reason, without the image's name."""


@dataclass(frozen=True)
class ImageSource(ABC):
    """Encoded images in an order that depends on their names alone; small enough to be sent to other processes."""

    path: Path
    names: tuple[str, ...]
    fingerprint: str  # of the names and contents
    ignored: Mapping[str, int]  # why something that lies there is none of the images → how often
    kind: ClassVar[str]

    @abstractmethod
    def read(self, index: int) -> bytes:
        """Return the encoded image called names[index].

        Raises:
            BadImage: this one image is damaged.
            OSError: the source as a whole cannot be read.
        """


def fingerprint(entries: Iterable[tuple[Any, ...]]) -> str:
    """Return a sha256 of what is known of each image, or file of images."""
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(repr(entry).encode(errors="surrogateescape") + b"\n")
    return digest.hexdigest()


def size_and_checksum(path: Path) -> tuple[int, int]:
    """Return the bytes of a file and their CRC-32, which the directory of a zip knows of its members."""
    size = checksum = 0
    with path.open("rb") as file:
        while block := file.read(_READ_AT_A_TIME):
            size, checksum = size + len(block), zlib.crc32(block, checksum)
    return size, checksum
