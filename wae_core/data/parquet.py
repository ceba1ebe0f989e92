"""Images in Parquet files as the Hugging Face hub writes them: a struct column `image` with a field `bytes`."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from wae_core.data.interface import BadImage, ImageSource, fingerprint, size_and_checksum
from wae_core.data.listing import PARQUET, files_below, sort_out

# train-00000-of-00019.parquet; older files have a hash at the end: train-00000-of-00019-0f1e2d3c4b5a6978.parquet.
SHARD = re.compile(r"(?P<split>.*?)-?(?P<number>\d+)-of-(?P<count>\d+)(?!\d).*\.parquet", re.IGNORECASE)


@dataclass(frozen=True)
class ParquetSource(ImageSource):
    """The rows of Parquet files, read a row group at a time."""

    groups: tuple[tuple[str, int], ...]  # (file, row group) in order
    starts: tuple[int, ...]  # the index of each group's first image
    kind = "parquet"

    def read(self, index: int) -> bytes:
        position = bisect_right(self.starts, index) - 1
        file, group = self.groups[position]
        encoded: bytes | None = _row_group(self.path / file, group)[index - self.starts[position]].as_py()
        if encoded is None:
            raise BadImage("the row has no bytes")
        return encoded


def parquet_files(folder: Path) -> list[Path]:
    """Return the Parquet files in `folder` and its subfolders, by name; none where it is no folder."""
    names, _ = sort_out(files_below(folder)[0] if folder.is_dir() else [], (PARQUET,))
    return [folder / name for name in names]


def holds_images(path: Path) -> bool:
    """Say whether a file has the column of images.

    Raises:
        ValueError: it is no Parquet file.
    """
    return _has_images(_schema_and_metadata(path)[0])


def parquet_source(folder: Path, files: Sequence[Path], ignored: Mapping[str, int] | None = None) -> ParquetSource:
    """Return the rows of `files`, which lie under `folder`, in the given order.

    Raises:
        ValueError: a file is missing, is no Parquet, or has no column `image` with bytes, or there are no rows.
    """
    _require_all_shards(files)
    names: list[str] = []
    groups, starts, contents = [], [], []
    for path in files:
        schema, metadata = _schema_and_metadata(path)
        if not _has_images(schema):
            raise ValueError(f"{path} has no column 'image' with bytes: its columns are {', '.join(schema.names)}")
        relative = path.relative_to(folder).as_posix()
        contents.append((relative, *size_and_checksum(path)))
        first = len(names)
        names += [f"{relative}:{row}" for row in range(metadata.num_rows)]
        for group in range(metadata.num_row_groups):
            groups.append((relative, group))
            starts.append(first)
            first += metadata.row_group(group).num_rows
    if not names:
        raise ValueError(f"{folder} holds no images: its Parquet files have no rows")
    known = fingerprint(contents), dict(ignored or {})
    return ParquetSource(folder, tuple(names), *known, tuple(groups), tuple(starts))


def _schema_and_metadata(path: Path) -> tuple[Any, Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return file.schema_arrow, file.metadata
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a Parquet file, or is cut off: {error}") from error


def _has_images(schema: Any) -> bool:
    import pyarrow as pa

    image = schema.field("image").type if "image" in schema.names else None
    return image is not None and pa.types.is_struct(image) and image.get_field_index("bytes") >= 0


def _require_all_shards(files: Sequence[Path]) -> None:
    """A download that was cut off lacks some of its train-00000-of-00019.parquet, and says so by their names."""
    shards = defaultdict(list)
    for path in files:
        if match := SHARD.fullmatch(path.name):
            shards[path.parent, match["split"], match["count"]].append(int(match["number"]))
    for (folder, split, count), numbers in shards.items():
        wanted = f"the {int(count)} files {split}{'-' if split else ''}*-of-{count}.parquet"
        if len(set(numbers)) < len(numbers):
            twice = next(number for number in numbers if numbers.count(number) > 1)
            raise ValueError(f"{folder} holds number {twice} of {wanted} twice: delete the copy")
        if len(numbers) != int(count):
            missing = sorted(set(range(int(count))) - set(numbers))[:5]
            raise ValueError(
                f"{folder} holds {len(numbers)} of {wanted}: it lacks number {', '.join(map(str, missing))}"
            )


@lru_cache(maxsize=1)
def _row_group(path: Path, group: int) -> Any:
    """The encoded images of one row group: a pyarrow array of bytes. Kept, since neighbours are asked for next."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            table = file.read_row_group(group, columns=["image.bytes"])
    except (OSError, pa.ArrowException) as error:
        raise OSError(f"{path}, row group {group}, cannot be read: {error}") from error
    return pc.struct_field(table["image"], "bytes")
