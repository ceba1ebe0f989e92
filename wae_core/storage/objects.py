"""Objects in a store (s3://, gs://) with that part of pathlib.Path's interface which results need, and web files."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

Version = dict[str, str]  # of an object: its ETag and, where the store counts them, its generation
PIECE = 2**16  # bytes; so many are read at a time, and lost where a connection breaks
PART, MOST_PARTS = 2**24, 10_000  # bytes, S3's limit; of what is sent in parts
PARTS_AT_A_TIME = 4
# Of a web server: a large file may take long, as long as something arrives.
CLIENT: Any = {"allow_http": True, "timeout": "1day", "read_timeout": "60s"}


class StorageError(OSError):
    """An object store refused, or could not be reached in spite of its client's retries."""


class ConflictError(OSError):
    """The object is not of the version any more that was to be replaced."""


@dataclass(frozen=True, order=True)
class ObjectPath:
    """An object, or what begins with its name, with that part of pathlib.Path's interface which results need.

    Credentials and endpoint come from the environment (AWS_…, GOOGLE_…) and stand in no path. Every method that
    asks the store may raise StorageError. A file on the web can be read: it has `size`, `pieces` and `read_bytes`.

    Attributes:
        root: scheme and bucket, `s3://bucket`; of the web scheme and server, `https://host:port`.
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
        if not exist_ok:
            (self / ".folder").create(os.urandom(16))

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

    def size(self) -> int:
        """The object's length, in bytes.

        Raises:
            FileNotFoundError: there is none.
        """
        with _store_of(self) as store:
            return int(store.head(self.key)["size"])

    def pieces(self, start: int = 0) -> Iterator[bytes]:
        """Yield the object's bytes from `start` on, a piece at a time.

        Raises:
            FileNotFoundError: there is none.
        """
        from obstore.exceptions import NotSupportedError

        dropped = 0
        with _store_of(self) as store:
            try:
                found = store.get(self.key, options={"range": {"offset": start}} if start else None)
            except NotSupportedError:  # a web server that sends all, whatever it is asked for
                found, dropped = store.get(self.key), start
            for piece in found.stream(PIECE):
                data = bytes(piece)
                if dropped < len(data):
                    yield data[dropped:]
                dropped = max(0, dropped - len(data))

    def send(self, file: Path) -> None:
        """Write the object from a file, in parts, of which nobody sees one before all have arrived."""
        with _store_of(self) as store:
            part = max(PART, -(-file.stat().st_size // MOST_PARTS))
            store.put(self.key, file, chunk_size=part, max_concurrency=PARTS_AT_A_TIME)

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


@contextlib.contextmanager
def _store_of(path: ObjectPath) -> Iterator[Any]:
    """The path's store; the errors of its methods become OSErrors."""
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    try:
        yield _open_store(path.root)
    except FileNotFoundError as error:  # a web server's own words may be a page
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
    except AlreadyExistsError as error:
        raise FileExistsError(f"{path} exists") from error
    except PreconditionError as error:
        raise ConflictError(f"{path} was changed by another") from error
    except BaseError as error:
        raise StorageError(f"{path}: {str(error).splitlines()[0]}") from error


@functools.cache
def _open_store(root: str) -> Any:
    from obstore.store import from_url

    return from_url(root, client_options=CLIENT) if root.startswith("http") else from_url(root)


def _version(meta: Any) -> Version:
    return {name: meta[name] for name in ("e_tag", "version") if meta[name]}
