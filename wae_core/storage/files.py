"""The files of a results folder, on a disk or in an object store: read whole, written whole, created only once."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

STORES = ("s3://", "gs://")
TEMPORARIES = ".*.tmp"  # what a process that died in the middle of a write may have left

Version = dict[str, str]  # of an object: its ETag and, where the store counts them, its generation


class StorageError(OSError):
    """An object store refused, or could not be reached in spite of its client's retries."""


class ConflictError(OSError):
    """The object is not of the version any more that was to be replaced."""


@dataclass(frozen=True, order=True)
class ObjectPath:
    """An object, or what begins with its name, with that part of pathlib.Path's interface which results need.

    Credentials and endpoint come from the environment (AWS_…, GOOGLE_…) and stand in no path. Every method that
    asks the store may raise StorageError.

    Attributes:
        root: scheme and bucket, `s3://bucket`.
        key: the name within the bucket, without slashes at its ends.
    """

    root: str
    key: str

    def __str__(self) -> str:
        return f"{self.root}/{self.key}"

    def __truediv__(self, name: str) -> ObjectPath:
        return ObjectPath(self.root, f"{self.key}/{name}".strip("/"))

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return Path(self.name).stem

    @property
    def parent(self) -> ObjectPath:
        return ObjectPath(self.root, self.key.rpartition("/")[0])

    def with_suffix(self, suffix: str) -> ObjectPath:
        return self.parent / Path(self.name).with_suffix(suffix).name

    def absolute(self) -> ObjectPath:
        return self

    def exists(self) -> bool:
        """Whether there is an object of this very name."""
        with _store_of(self) as store:
            try:
                store.head(self.key)
            except FileNotFoundError:
                return False
        return True

    def is_dir(self) -> bool:
        """Whether there are objects below."""
        return any(True for _ in self.glob("*"))

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """A store has no folders; where it matters who was first, an object below marks the name as taken.

        Raises:
            FileExistsError: it is taken, and that matters.
        """
        if not exist_ok and not create(self / ".folder", os.urandom(16)):
            raise FileExistsError(f"{self} exists")

    def read_bytes(self) -> bytes:
        """The object.

        Raises:
            FileNotFoundError: there is none.
        """
        return self.read_version()[0]

    def read_version(self) -> tuple[bytes, Version]:
        """The object and its version, for `put`.

        Raises:
            FileNotFoundError: there is none.
        """
        with _store_of(self) as store:
            found = store.get(self.key)
            return bytes(found.bytes()), _version(found.meta)

    def put(self, data: bytes, *, only: Version | None = None) -> Version:
        """Write the object, `only` if it is still of that version.

        Raises:
            ConflictError: it is not.
        """
        with _store_of(self) as store:
            return _version(store.put(self.key, data, mode=only or "overwrite", use_multipart=False))

    def create(self, data: bytes) -> Version:
        """Write the object if there is none.

        An answer that was lost is settled by reading back, so `data` must be what nobody else would write.

        Raises:
            FileExistsError: there is another one.
        """
        try:
            with _store_of(self) as store:
                return _version(store.put(self.key, data, mode="create", use_multipart=False))
        except (FileExistsError, StorageError):  # the client itself tries again where an answer was lost
            with contextlib.suppress(FileNotFoundError):
                found, version = self.read_version()
                if found == data:
                    return version
            raise

    def replace(self, target: ObjectPath) -> None:
        """Give the object another name."""
        with _store_of(self) as store:
            store.rename(self.key, target.key)

    def unlink(self, missing_ok: bool = False) -> None:
        with _store_of(self) as store, contextlib.suppress(FileNotFoundError):
            store.delete(self.key)

    def glob(self, pattern: str) -> Iterator[ObjectPath]:
        """What lies at `pattern` below, objects and folders; `*` stands for anything but a slash."""
        first, _, rest = pattern.partition("/")
        with _store_of(self) as store:
            listing = store.list_with_delimiter(self.key or None)
        keys = list(listing["common_prefixes"])
        if not rest:
            keys += [found["path"] for found in listing["objects"]]
        for key in keys:
            below = ObjectPath(self.root, key)
            if fnmatchcase(below.name, first):
                yield from below.glob(rest) if rest else [below]

    def delete_below(self) -> None:
        """Delete all objects below, however deep."""
        with _store_of(self) as store:
            for page in store.list(self.key):
                with contextlib.suppress(FileNotFoundError):
                    store.delete([found["path"] for found in page])


class OwnObject:
    """An object that one process at a time replaces: each write swaps the version that this process wrote last.

    The answer to a write may be lost after the store has done it, and its client then meets its own write as a
    conflict. What the store did is settled by reading back, at once or, where that fails too, at the next write.
    """

    def __init__(self, path: ObjectPath) -> None:
        self.path = path
        self._version: Version | None = None
        self._unsettled: set[str] = set()  # sha256 of what may have been written since the last answer

    def read(self) -> bytes:
        """Return the object, which becomes the version that the next write replaces.

        Raises:
            FileNotFoundError: there is none.
        """
        data, self._version = self.path.read_version()
        return data

    def create(self, data: bytes) -> None:
        """Write the object if there is none.

        Raises:
            FileExistsError: there is another one.
        """
        self._version = self.path.create(data)

    def put(self, data: bytes) -> None:
        """Replace the version that was read or written last; where there was none, whatever is there.

        Raises:
            ConflictError: another process has written meanwhile.
            StorageError: the store did not take it, or it is not known whether it did.
        """
        self._unsettled.add(_sha256(data))
        try:
            self._version = self.path.put(data, only=self._version)
        except (ConflictError, StorageError):
            self._version = self._settle(data)
        self._unsettled.clear()

    def _settle(self, data: bytes) -> Version:
        """Find out what became of a write that failed; returns the version in which the object is `data`."""
        try:
            found, version = self.path.read_version()
        except FileNotFoundError:
            if self._version is None:  # there never was one: the write did not arrive
                return self.path.put(data)
            raise ConflictError(f"{self.path} was deleted by another") from None
        if found == data:
            return version
        if version != self._version and _sha256(found) not in self._unsettled:
            raise ConflictError(f"{self.path} was changed by another")
        return self.path.put(data, only=version)


Location = Path | ObjectPath


def location(text: str | Location) -> Location:
    """A local path, or one in an object store where the text begins with s3:// or gs://."""
    if not isinstance(text, str):
        return text
    if not text.startswith(STORES):
        return Path(text)
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


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextlib.contextmanager
def _store_of(path: ObjectPath) -> Iterator[Any]:
    """The path's store; the errors of its methods become OSErrors."""
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    try:
        yield _open_store(path.root)
    except AlreadyExistsError as error:
        raise FileExistsError(f"{path} exists") from error
    except PreconditionError as error:
        raise ConflictError(f"{path} was changed by another") from error
    except BaseError as error:
        raise StorageError(f"{path}: {str(error).splitlines()[0]}") from error


@functools.cache
def _open_store(root: str) -> Any:
    from obstore.store import from_url

    return from_url(root)


def _version(meta: Any) -> Version:
    return {name: meta[name] for name in ("e_tag", "version") if meta[name]}
