"""Where images come from: a folder, a zip or Parquet files, in a fixed order, read one image at a time."""

from __future__ import annotations

import hashlib
import importlib
import re
import zipfile
import zlib
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
MAX_MEMBER_BYTES = 256 * 2**20  # a member of a zip that claims more is no picture to train on
SHARD = re.compile(r"(?P<split>.+)-\d{5}-of-(?P<count>\d{5})\.parquet")
REPOSITORIES = {"mnist": "ylecun/mnist", "celeba": "flwrlabs/celeba"}  # data sets of the Hugging Face hub


class BadImage(ValueError):
    """One image that cannot be used; the message is the reason, without the image's name."""


@dataclass(frozen=True)
class ImageSource(ABC):
    """Encoded images in an order that depends on their names alone; small enough to be sent to other processes."""

    path: Path
    names: tuple[str, ...]
    fingerprint: str  # sha256 of what is known of the images without reading them
    kind: ClassVar[str]

    @abstractmethod
    def read(self, index: int) -> bytes:
        """The encoded image called names[index].

        Raises:
            BadImage: this one image is damaged.
            OSError: the source as a whole cannot be read.
        """


class FolderSource(ImageSource):
    """Image files in a folder and its subfolders, by their names relative to it."""

    kind = "folder"

    def read(self, index: int) -> bytes:
        return (self.path / self.names[index]).read_bytes()


class ZipSource(ImageSource):
    """Image members of a zip, which is never extracted."""

    kind = "zip"

    def read(self, index: int) -> bytes:
        archive, name = _open_zip(self.path), self.names[index]
        if archive.getinfo(name).file_size > MAX_MEMBER_BYTES:
            raise BadImage(f"larger than {MAX_MEMBER_BYTES} bytes")
        try:
            return archive.read(name)
        # RuntimeError: encrypted; NotImplementedError, its subclass: a compression that zipfile does not know.
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise BadImage(str(error)) from error


@dataclass(frozen=True)
class ParquetSource(ImageSource):
    """Rows of Parquet files as the Hugging Face hub writes them: a struct column `image` with a field `bytes`."""

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


def open_source(path: Path) -> ImageSource:
    """The images at `path`: a zip, a Parquet file, a folder with Parquet files, or a folder with image files.

    Raises:
        ValueError: it does not exist, is none of these, or holds no images.
    """
    if path.is_dir():
        files = parquet_files(path)
        return parquet_source(path, files) if files else _folder_source(path)
    if not path.exists():
        raise ValueError(f"source {path} does not exist")
    if path.suffix.lower() == ".parquet":
        return parquet_source(path.parent, [path])
    if path.suffix.lower() == ".zip" or zipfile.is_zipfile(path):
        return _zip_source(path)
    raise ValueError(f"source {path} is neither a folder nor a zip nor a Parquet file")


def parquet_files(folder: Path) -> list[Path]:
    """The Parquet files in `folder` and its subfolders, by name."""
    return sorted(path for path in folder.rglob("*.parquet") if path.is_file())


def parquet_source(folder: Path, files: Sequence[Path]) -> ParquetSource:
    """The rows of `files`, which lie under `folder`, in the given order.

    Raises:
        ValueError: a file is missing, is no Parquet, or has no column `image` with bytes, or there are no rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    _require_all_shards(files)
    names: list[str] = []
    groups, starts, sizes = [], [], []
    for path in files:
        try:
            with pq.ParquetFile(path) as file:
                schema, metadata = file.schema_arrow, file.metadata
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} is not a Parquet file, or is cut off: {error}") from error
        image = schema.field("image").type if "image" in schema.names else None
        if image is None or not pa.types.is_struct(image) or image.get_field_index("bytes") < 0:
            raise ValueError(f"{path} has no column 'image' with bytes: its columns are {', '.join(schema.names)}")
        relative = path.relative_to(folder).as_posix()
        sizes.append((relative, path.stat().st_size))
        first = len(names)
        names += [f"{relative}:{row}" for row in range(metadata.num_rows)]
        for group in range(metadata.num_row_groups):
            groups.append((relative, group))
            starts.append(first)
            first += metadata.row_group(group).num_rows
    if not names:
        raise ValueError(f"{folder} holds no images: its Parquet files have no rows")
    return ParquetSource(folder, tuple(names), _fingerprint(sizes), tuple(groups), tuple(starts))


def download(dataset: str) -> Path:
    """Bring the Parquet files of 'mnist' or 'celeba' from the Hugging Face hub into its cache; the snapshot's folder.

    The folder's name is the revision, a commit's hash. Files that are in the cache are not fetched again.

    Raises:
        ValueError: there is no network, no huggingface_hub, or the hub refuses; the sentence says which.
    """
    try:
        hub = importlib.import_module("huggingface_hub")
        return Path(hub.snapshot_download(REPOSITORIES[dataset], repo_type="dataset", allow_patterns="*.parquet"))
    except ImportError:
        reason = "the package huggingface_hub is not installed: pip install 'bigwae[hub]'"
    except Exception as error:  # of the hub, of its HTTP client, of the disk: they share no class
        reason = str(error).partition("\n")[0] or type(error).__name__
    raise ValueError(f"{dataset} could not be downloaded ({reason}): give SOURCE=<zip or folder>")


def _folder_source(path: Path) -> FolderSource:
    files = {file.relative_to(path).as_posix(): file for file in path.rglob("*")}
    names = sorted(name for name, file in files.items() if _is_image(name) and file.is_file())
    _require_images(path, names)
    return FolderSource(path, tuple(names), _fingerprint((name, files[name].stat().st_size) for name in names))


def _zip_source(path: Path) -> ZipSource:
    try:
        members = {member.filename: member for member in _open_zip(path).infolist() if not member.is_dir()}
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a zip, or its end is missing: {error}") from error
    names = sorted(filter(_is_image, members))
    _require_images(path, names)
    sizes = ((name, members[name].file_size, members[name].CRC) for name in names)
    return ZipSource(path, tuple(names), _fingerprint(sizes))


def _is_image(name: str) -> bool:
    """By its suffix; hidden files and the Mac's resource forks are none."""
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in IMAGE_SUFFIXES and not hidden


def _require_images(path: Path, names: Sequence[str]) -> None:
    if not names:
        raise ValueError(f"{path} holds no images ({' '.join(IMAGE_SUFFIXES)}) and no Parquet files")


def _require_all_shards(files: Sequence[Path]) -> None:
    """A download that was cut off lacks some of its train-00000-of-00019.parquet, and says so by their names."""
    shards = [(path, match) for path in files if (match := SHARD.fullmatch(path.name))]
    counts = Counter((path.parent, match["split"], int(match["count"])) for path, match in shards)
    for (folder, split, count), found in counts.items():
        if found != count:
            raise ValueError(f"{folder} holds {found} of the {count} files {split}-*-of-{count:05d}.parquet")


def _fingerprint(entries: Iterable[tuple[Any, ...]]) -> str:
    digest = hashlib.sha256()
    for entry in entries:
        digest.update(repr(entry).encode(errors="surrogateescape") + b"\n")
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _open_zip(path: Path) -> zipfile.ZipFile:
    """Kept open: reading the directory of 200,000 members takes a second."""
    return zipfile.ZipFile(path)


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
