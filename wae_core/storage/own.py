"""Files and objects that one process at a time replaces: each write makes sure that nobody else has written since."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

from wae_core.storage.files import Location, read, write_atomically
from wae_core.storage.objects import ConflictError, ObjectPath, StorageError, Version


def own(path: Location) -> OwnFile | OwnObject:
    """Return the file or the object as this process's own; nothing is asked yet."""
    return OwnObject(path) if isinstance(path, ObjectPath) else OwnFile(path)


class OwnFile:
    """A file on a disk that one process at a time replaces: what is there must be what it read or wrote last.

    A disk has no swap of versions, so this is no lock: it notices that another process believed itself the only one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: set[str] = set()  # sha256 of what may be there: several after a write that failed

    def read(self) -> bytes:
        """Return the file, which becomes what the next write replaces.

        Raises:
            FileNotFoundError: there is none.
        """
        data = read(self.path)
        self._known = {_sha256(data)}
        return data

    def put(self, data: bytes) -> None:
        """Replace what was read or written last; where somebody has deleted it, write it again.

        Raises:
            ConflictError: another process has written meanwhile.
            OSError: it cannot be written.
        """
        with contextlib.suppress(FileNotFoundError):
            if _sha256(read(self.path)) not in self._known:
                raise ConflictError(f"{self.path} was changed by another")
        self._known.add(_sha256(data))
        self.path.parent.mkdir(exist_ok=True)
        write_atomically(self.path, data)
        self._known = {_sha256(data)}


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


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
