"""MNIST's digits out of IDX or Parquet files: the training files, and the official test files as the held-out set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wae_core.data.idx import read_idx
from wae_core.data.interface import BadImage
from wae_core.data.parquet import ParquetSource, parquet_files, parquet_source
from wae_core.data.pixels import Images, open_picture

IDX_FILES = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte")  # plain, or with .gz
SIZE = 28


def read_mnist(folder: Path) -> tuple[Images, Images, str]:
    """The training and the test images in the files' order, uint8 [N, 1, 28, 28] each, and the kind of the source.

    Raises:
        ValueError: the files are not there, or a file is not what it should be; the sentence names it.
    """
    train_idx, test_idx = (_idx_file(folder, name) for name in IDX_FILES)
    if train_idx and test_idx:
        return read_idx(train_idx, (SIZE, SIZE))[:, None], read_idx(test_idx, (SIZE, SIZE))[:, None], "idx"
    files = parquet_files(folder)
    train, test = ([path for path in files if path.name.startswith(part)] for part in ("train", "test"))
    if train and test:
        return _decode(parquet_source(folder, train)), _decode(parquet_source(folder, test)), "parquet"
    raise ValueError(
        f"{folder} holds neither {IDX_FILES[0]}[.gz] and {IDX_FILES[1]}[.gz] nor train*.parquet and test*.parquet"
    )


def _idx_file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _decode(source: ParquetSource) -> Images:
    images = np.empty((len(source.names), 1, SIZE, SIZE), np.uint8)
    for index, name in enumerate(source.names):
        try:
            with open_picture(source.read(index)) as image:
                if image.size != (SIZE, SIZE):
                    raise BadImage(f"it is {image.width}×{image.height}, not {SIZE}×{SIZE}")
                images[index, 0] = np.asarray(image.convert("L"))
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(f"{source.path / name} cannot be decoded: {error}") from error
    return images
