"""IDX files, the format in which MNIST is published: unsigned bytes behind a header that states their shape."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def read_idx(path: Path, item_shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """One IDX file, plain or .gz, of items of a known shape: uint8 [N, *item_shape], N >= 1, read-only.

    The format is that of LeCun, Cortes & Burges, "The MNIST database of handwritten digits": the magic number
    0x800 + the number of dimensions, the dimensions, the bytes; the numbers are big-endian and of 32 bits.

    Args:
        item_shape: (28, 28) for MNIST's images, () for its labels.

    Raises:
        ValueError: a damaged file, another magic number, another shape, or a length that is not the header's.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged or cut off: {error}") from error
    header = struct.Struct(f">{2 + len(item_shape)}I")
    if len(data) < header.size:
        raise ValueError(f"{path} has {len(data)} bytes: too short for an IDX file")
    magic, *shape = header.unpack_from(data)
    expected_magic = 0x800 + len(shape)
    if magic != expected_magic:
        raise ValueError(
            f"{path} is not an IDX file of bytes in {len(shape)} dimensions: "
            f"it begins with {magic:#010x}, not {expected_magic:#010x}"
        )
    if shape[0] == 0 or tuple(shape[1:]) != item_shape:
        wanted = "×".join(["N", *map(str, item_shape)])
        raise ValueError(f"{path} is of shape {'×'.join(map(str, shape))}, but {wanted} with N at least 1 is wanted")
    expected_size = header.size + math.prod(shape)
    if len(data) != expected_size:
        raise ValueError(
            f"{path} has {len(data)} bytes, but its header's shape {'×'.join(map(str, shape))} needs {expected_size}"
        )
    return np.frombuffer(data, np.uint8, offset=header.size).reshape(shape)
