"""IDX files, the format in which MNIST is published: unsigned bytes behind a header that states their shape."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MOST_TOO_MANY = 2**20  # bytes behind the last item, of which the sentence tells
MOST_ITEMS = 1_000_000  # of a file; a damaged header may claim 4,294,967,295


def read_idx(path: Path, item_shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """One IDX file, plain or .gz, of items of a known shape: uint8 [N, *item_shape], N >= 1, read-only.

    The format is that of LeCun, Cortes & Burges, "The MNIST database of handwritten digits": the magic number
    0x800 + the number of dimensions, the dimensions, the bytes; the numbers are big-endian and of 32 bits.

    Args:
        item_shape: (28, 28) for MNIST's images, () for its labels.

    Raises:
        ValueError: a damaged file, another magic number, another shape, or a length that is not the header's.
    """
    header = struct.Struct(f">{2 + len(item_shape)}I")
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            start = file.read(header.size)
            shape = _shape(path, header, start, item_shape)
            size = math.prod(shape)
            data = file.read(size + MOST_TOO_MANY)  # a few bytes of gzip may go on without end
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged or cut off: {error}") from error
    if len(data) != size:
        raise ValueError(
            f"{path} has {header.size + len(data)} bytes, "
            f"but its header's shape {'×'.join(map(str, shape))} needs {header.size + size}"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def _shape(path: Path, header: struct.Struct, start: bytes, item_shape: tuple[int, ...]) -> list[int]:
    """The shape that a header states, its first number the count of items; raises ValueError."""
    if len(start) < header.size:
        raise ValueError(f"{path} has {len(start)} bytes: too short for an IDX file")
    magic, *shape = header.unpack(start)
    expected_magic = 0x800 + len(shape)
    if magic != expected_magic:
        raise ValueError(
            f"{path} is not an IDX file of bytes in {len(shape)} dimensions: "
            f"it begins with {magic:#010x}, not {expected_magic:#010x}"
        )
    if shape[0] == 0 or tuple(shape[1:]) != item_shape:
        wanted = "×".join(["N", *map(str, item_shape)])
        raise ValueError(f"{path} is of shape {'×'.join(map(str, shape))}, but {wanted} with N at least 1 is wanted")
    if shape[0] > MOST_ITEMS:
        raise ValueError(f"{path} claims {shape[0]} items, but {MOST_ITEMS} are the most that are read")
    return shape
