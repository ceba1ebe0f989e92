"""The files of a results folder, on a disk or in an object store: read whole, written whole, created only once."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from wae_core.storage.objects import ObjectPath, StorageError

STORES = ("s3://", "gs://")
TEMPORARIES = ".*.tmp"  # what a process that died in the middle of a write may have left

Location = Path | ObjectPath


def location(text: str | Location) -> Location:
    """A local path, where ~ is the home folder, or one in an object store where the text begins with s3:// or gs://."""
    if not isinstance(text, str):
        return text
    if not text.startswith(STORES):
        return Path(os.path.expanduser(text))  # noqa: PTH111 (Path's raises where there is no such user)
    scheme, _, rest = text.partition("://")
    bucket, _, key = rest.partition("/")
    return ObjectPath(f"{scheme}://{bucket}", "/".join(part for part in key.split("/") if part))


def listed(folder: Location, pattern: str) -> list[Location]:
    """What lies at `pattern` in the folder, in the order of the names."""
    return sorted(folder.glob(pattern), key=str)


def write_atomically(path: Location, data: bytes) -> None:
    """Replace `path` by `data`: a reader, or a crash at any moment, sees the old file or the new one, whole."""
    if isinstance(path, ObjectPath):
        path.put(data)
        return
    with _complete(path, data) as temporary:
        temporary.replace(path)


def create(path: Location, data: bytes) -> bool:
    """Write `path` whole if there is no such file; returns whether this call did."""
    try:
        if isinstance(path, ObjectPath):
            path.create(data)
        else:
            # A rename would let the later of two win; a link fails where the name is taken.
            with _complete(path, data) as temporary:
                _link(temporary, path)
            temporary.unlink(missing_ok=True)
    except FileExistsError:
        return False
    return True


def storage_unavailable(error: BaseException) -> bool:
    """Say whether the error means that the storage is full or cannot be reached, so that a later try may succeed."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or isinstance(error, StorageError)


def probe(folder: Location, count: int) -> None:
    """Find out whether the folder can be written: write a file of `count` bytes into it, and delete it.

    Raises:
        OSError: it cannot, or has no room for so many bytes.
    """
    path = folder / f".probe.{os.uname().nodename}.{os.getpid()}.tmp"
    write_atomically(path, bytes(count))
    path.unlink()


def delete_folder(path: Location) -> None:
    """Delete a folder and all in it; what cannot be deleted stays."""
    if isinstance(path, ObjectPath):
        path.delete_below()
    else:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def local_copy(path: Location) -> Iterator[Path]:
    """The file on a disk, under its own name: itself, or a copy for the time being."""
    if isinstance(path, Path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(path.read_bytes())
        yield copy


@contextlib.contextmanager
def _complete(path: Path, data: bytes) -> Iterator[Path]:
    """The data in a file beside `path`, safe on the disk, until it gets its name; it is gone after an error."""
    temporary = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, if that is free; over NFS a link that was made may be answered as an error."""
    try:
        os.link(source, target)
    except OSError:
        if not (target.exists() and target.samefile(source)):
            raise
