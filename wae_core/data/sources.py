"""Where images come from: a folder, a zip or Parquet files, in a fixed order, read one image at a time."""

from __future__ import annotations

import importlib
import zipfile
import zlib
from collections import Counter
from functools import lru_cache
from pathlib import Path

from wae_core.data.interface import MAX_IMAGE_BYTES, BadImage, ImageSource, fingerprint, size_and_checksum
from wae_core.data.listing import IMAGE_SUFFIXES, PARQUET, count_in_words, files_below, sort_out
from wae_core.data.parquet import holds_images, parquet_source

REPOSITORIES = {"mnist": "ylecun/mnist", "celeba": "flwrlabs/celeba"}  # data sets of the Hugging Face hub


class FolderSource(ImageSource):
    """Image files in a folder and its subfolders, by their names relative to it."""

    kind = "folder"

    def read(self, index: int) -> bytes:
        path = self.path / self.names[index]
        _require_size(path.stat().st_size)
        return path.read_bytes()


class ZipSource(ImageSource):
    """Image members of a zip, which is never extracted."""

    kind = "zip"

    def read(self, index: int) -> bytes:
        archive, name = _open_zip(self.path), self.names[index]
        _require_size(archive.getinfo(name).file_size)
        try:
            return archive.read(name)
        # RuntimeError: encrypted; NotImplementedError, its subclass: a compression that zipfile does not know.
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise BadImage(str(error)) from error


def open_source(path: Path) -> ImageSource:
    """Return the images at `path`: a zip, a Parquet file, a folder with Parquet files, or a folder with image files.

    Raises:
        ValueError: it does not exist, is none of these, holds no images, or holds them in both ways.
    """
    if path.is_dir():
        return _folder_source(path)
    if not path.exists():
        raise ValueError(f"source {path} does not exist")
    if path.is_file() and path.suffix.lower() == PARQUET:
        return parquet_source(path.parent, [path])
    if path.is_file() and (path.suffix.lower() == ".zip" or zipfile.is_zipfile(path)):
        return _zip_source(path)
    raise ValueError(f"source {path} is neither a folder nor a zip nor a Parquet file")


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


def _folder_source(path: Path) -> ImageSource:
    """Of the two ways to hold images the one that the folder has; a table without any, of labels say, is left out."""
    found, ignored = files_below(path)
    names, others = sort_out((name for name in found if not name.lower().endswith(PARQUET)), IMAGE_SUFFIXES)
    tables = [path / name for name in found if name.lower().endswith(PARQUET)]
    if tables and not names:
        return parquet_source(path, tables, ignored + others)
    if any(map(holds_images, tables)):
        raise ValueError(
            f"{path} holds images in Parquet files and {len(names):,} image files, {names[0]!r} say: give one of them"
        )
    ignored += others
    if tables:
        ignored["Parquet file without images"] += len(tables)
    _require_images(path, names, ignored)
    contents = ((name, *size_and_checksum(path / name)) for name in names)
    return FolderSource(path, tuple(names), fingerprint(contents), dict(ignored))


def _zip_source(path: Path) -> ZipSource:
    try:
        members = [member for member in _open_zip(path).infolist() if not member.is_dir()]
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a zip, or its end is missing: {error}") from error
    by_name = {member.filename: member for member in members}
    names, ignored = sort_out(by_name, IMAGE_SUFFIXES)
    if len(by_name) < len(members):  # what an archiver has updated stands there twice; the last one counts
        ignored["earlier member of the same name"] = len(members) - len(by_name)
    _require_images(path, names, ignored)
    contents = ((name, by_name[name].file_size, by_name[name].CRC) for name in names)
    return ZipSource(path, tuple(names), fingerprint(contents), dict(ignored))


def _require_images(path: Path, names: list[str], ignored: Counter[str]) -> None:
    if not names:
        raise ValueError(
            f"{path} holds no images ({' '.join(IMAGE_SUFFIXES)}) and no Parquet files; "
            f"what is there: {count_in_words(ignored)}"
        )


def _require_size(count: int) -> None:
    if count > MAX_IMAGE_BYTES:
        raise BadImage(f"larger than {MAX_IMAGE_BYTES} bytes")


@lru_cache(maxsize=1)
def _open_zip(path: Path) -> zipfile.ZipFile:
    """Kept open: reading the directory of 200,000 members takes a second."""
    return zipfile.ZipFile(path)
