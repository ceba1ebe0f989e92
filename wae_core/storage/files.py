"""The files of a results folder, on a disk or in an object store: read whole, written whole, created only once."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from wae_core.storage.naming import name_if_free
from wae_core.storage.objects import ObjectPath, StorageError

STORES = ("s3://", "gs://")
WEB = ("http://", "https://")  # what can be read, and not written
TEMPORARIES = ".*.tmp"  # what a process that died in the middle of a write may have left
ROOM = 2**24  # bytes; for some checkpoints
# Full, read-only, broken, or somewhere else on the network, by the names that an operating system may know.
_AWAY = """
    ENOSPC EDQUOT EROFS EIO ESTALE ETIMEDOUT ENODEV ENXIO ENOMEDIUM EMEDIUMTYPE EUCLEAN EREMOTEIO ENOLINK ENOTCONN
    ESHUTDOWN ECONNREFUSED ECONNRESET ECONNABORTED ENETDOWN ENETUNREACH EHOSTDOWN EHOSTUNREACH EACCES EPERM
    ENOKEY EKEYEXPIRED EKEYREVOKED
"""
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
AWAY = frozenset(getattr(errno, name) for name in _AWAY.split() if hasattr(errno, name))

Location = Path | ObjectPath


def location(text: str | Location, schemes: tuple[str, ...] = STORES) -> Location:
    """A local path, where ~ is the home folder, or one in an object store where the text begins with s3:// or gs://.

    Args:
        schemes: with what the text of one that is not local begins; WEB may be among them.
    """
    if not isinstance(text, str):
        return text
    if not text.startswith(schemes):
        return Path(os.path.expanduser(text))  # noqa: PTH111 (Path's raises where there is no such user)
    scheme, _, rest = text.partition("://")
    bucket, _, key = rest.partition("/")
    return ObjectPath(f"{scheme}://{bucket}", "/".join(part for part in key.split("/") if part))


class NotAFile(OSError):
    """There is a folder, a pipe or a device where a file is read."""


def listed(folder: Location, pattern: str) -> list[Location]:
    """What lies at `pattern` in the folder, in the order of the names, without what is hidden.

    Hidden files are those of other programs (._x, .DS_Store, .nfs…, .ipynb_checkpoints): pandas, too, reads none.
    """
    levels = pattern.count("/") + 1
    found = [path for path in folder.glob(pattern) if "/." not in "/".join(["", *str(path).split("/")[-levels:]])]
    return sorted(found, key=str)


def read(path: Location) -> bytes:
    """Read a file whole.

    Raises:
        FileNotFoundError: there is none.
        NotAFile: there is something else, which may have no end.
        OSError: it cannot be read.
    """
    if isinstance(path, Path):
        size(path)
    return path.read_bytes()


def size(path: Location) -> int:
    """Return the length of a file or an object, in bytes.

    Raises:
        FileNotFoundError: there is none.
        NotAFile: there is something else, which may have no end.
        OSError: it cannot be asked for.
    """
    if isinstance(path, ObjectPath):
        return path.size()
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise NotAFile(errno.EINVAL, "it is not a file", str(path))
    return found.st_size


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
            # A plain rename would let the later of two win.
            with _complete(path, data) as temporary:
                name_if_free(temporary, path)
            with contextlib.suppress(OSError):  # it is created, whatever becomes of its first name
                temporary.unlink()
    except FileExistsError:
        return False
    return True


def storage_unavailable(error: BaseException) -> bool:
    """Say whether the error means that the storage is full or cannot be used, so that a later try may succeed."""
    return isinstance(error, StorageError) or (isinstance(error, OSError) and error.errno in AWAY)


def probe(folder: Location) -> None:
    """Find out whether the folder takes files: write a small one, and delete it.

    Raises:
        OSError: it does not.
    """
    path = folder / f".probe.{os.uname().nodename}.{os.getpid()}.tmp"
    write_atomically(path, b"probe")
    path.unlink(missing_ok=True)


def check_room(folder: Location, wanted: int = ROOM) -> None:
    """Find out whether the folder's disk has room to go on; it is asked, since to try would take it from others.

    Args:
        wanted: how much, in bytes.

    Raises:
        OSError: less is left.
    """
    if isinstance(folder, Path):
        disk = os.statvfs(folder)
        if disk.f_blocks and disk.f_bavail * disk.f_frsize < wanted:  # of 0 blocks, it is a disk that does not say
            raise OSError(errno.ENOSPC, f"less than {-(-wanted // 2**20):,} MiB are left", str(folder))


def probe_creation(folder: Location) -> None:
    """Find out whether a file can be created in the folder only where there is none, as publishing needs.

    Raises:
        OSError: it cannot.
    """
    path = folder / f".probe.{os.uname().nodename}.{os.getpid()}.{os.urandom(4).hex()}.tmp"
    answers = create(path, b"first"), create(path, b"second"), read(path)
    path.unlink(missing_ok=True)
    if answers != (True, False, b"first"):
        raise OSError(errno.EOPNOTSUPP, "a file that is there can be created a second time", str(folder))


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
    # Never an earlier one's name: that may still be a second name of what was created.
    temporary = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    except OSError:
        with contextlib.suppress(OSError):  # what the disk does not delete now, the next launch does
            temporary.unlink()
        raise
