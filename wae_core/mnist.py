"""MNIST's digits out of IDX or Parquet files: the training files, and the official test files as the held-out set."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wae_core.sources import BadImage, ParquetSource, parquet_files, parquet_source

IDX_FILES = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")  # plain, or with .gz
SIZE = 28
MAGIC = 0x00000803  # unsigned bytes in three dimensions
HEADER = struct.Struct(">4I")  # magic, count, rows, columns

Images = NDArray[np.uint8]


def read_mnist(folder: Path) -> tuple[Images, Images, str]:
    """The training and the test images in the files' order, uint8 [N, 1, 28, 28] each, and the kind of the source.

    Raises:
        ValueError: the files are not there, or a file is not what it should be; the sentence names it.
    """
    idx = [_idx_file(folder, name) for name in IDX_FILES]
    if idx[0] and idx[1]:
        return read_idx(idx[0]), read_idx(idx[1]), "idx"
    files = parquet_files(folder)
    train, test = ([path for path in files if path.name.startswith(part)] for part in ("train", "test"))
    if train and test:
        return _decode(parquet_source(folder, train)), _decode(parquet_source(folder, test)), "parquet"
    raise ValueError(
        f"{folder} holds neither {IDX_FILES[0]}[.gz] and {IDX_FILES[1]}[.gz] nor train*.parquet and test*.parquet"
    )


def read_idx(path: Path) -> Images:
    """One IDX file of 28×28 images, uint8 [N, 1, 28, 28] (yann.lecun.com/exdb/mnist, "The IDX file format").

    Raises:
        ValueError: another magic number, other dimensions, or a length that is not the header's.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is damaged or cut off: {error}") from error
    if len(data) < HEADER.size:
        raise ValueError(f"{path} has {len(data)} bytes: too short for an IDX file")
    magic, count, rows, columns = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise ValueError(f"{path} is not an IDX file of images: it begins with {magic:#010x}, not {MAGIC:#010x}")
    if (rows, columns) != (SIZE, SIZE) or count == 0:
        raise ValueError(f"{path} holds {count} images of {rows}×{columns}, not images of {SIZE}×{SIZE}")
    expected = HEADER.size + count * SIZE * SIZE
    if len(data) != expected:
        raise ValueError(f"{path} has {len(data)} bytes, but its header's {count} images need {expected}")
    return np.frombuffer(data, np.uint8, offset=HEADER.size).reshape(count, 1, SIZE, SIZE)


def _idx_file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _decode(source: ParquetSource) -> Images:
    images = np.empty((len(source.names), 1, SIZE, SIZE), np.uint8)
    for index, name in enumerate(source.names):
        try:
            with Image.open(io.BytesIO(source.read(index))) as image:
                if image.size != (SIZE, SIZE):
                    raise BadImage(f"it is {image.width}×{image.height}, not {SIZE}×{SIZE}")
                images[index, 0] = np.asarray(image.convert("L"))
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(f"{source.path / name} cannot be decoded: {error}") from error
    return images
