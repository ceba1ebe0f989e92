"""One driver per study: the lock whose holder alone writes the tables and deletes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import psutil

from sweep.errors import LockLost, SettingsError
from sweep.interruption import interrupt, interruptible
from wae_core.storage.files import Location
from wae_core.storage.objects import ConflictError, ObjectPath, StorageError
from wae_core.storage.own import OwnObject

LEASE_SECONDS = 30.0  # after so long without a renewal a lease may be taken over
RENEWALS = 3  # in that time
SECONDS_BETWEEN_LOOKS = 5.0  # at the lock file on a disk

Check = Callable[[], None]  # raises LockLost


@contextmanager
def results_lock(path: Location) -> Iterator[Check]:
    """Hold the lock `path`, by `flock` on a disk and by a lease in an object store; yields a check that it is held.

    Raises:
        SettingsError: another driver holds it (the sentence names its host and pid), or the place knows no lock.
        LockLost: it was lost meanwhile, and the block was interrupted for that.
    """
    lock = Lease(path) if isinstance(path, ObjectPath) else FileLock(path)
    with interruptible(), lock:
        try:
            yield lock.check
        except KeyboardInterrupt:
            if lock.is_lost:
                lock.check()  # it was no Ctrl-C
            raise


class FileLock:
    """A lock by `flock`, which the kernel releases when the process dies, however it dies.

    It is of a file, and not of its name. So it is watched whether the name is still that of the file: a program that
    synchronises folders may have removed or replaced it, and then another driver may lock the new one. The folder may
    have been deleted or renamed as well, where nothing must be written any more.

    Attributes:
        is_lost: whether this was found; it stays so.
    """

    def __init__(self, path: Path) -> None:
        """Touch nothing; entering the context acquires the lock, and leaving it gives it back."""
        self._path = path
        self.is_lost = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lock", daemon=True)

    def __enter__(self) -> None:
        self._file = _open_lock_file(self._path)
        try:
            self._acquire()
        except BaseException:
            self._file.close()
            raise
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._file.close()

    def check(self) -> None:
        """Make sure that the lock is held.

        Raises:
            LockLost: another driver may hold it, or the folder is gone.
            OSError: the disk does not say.
        """
        try:
            is_here = os.path.samestat(self._path.stat(), os.fstat(self._file.fileno()))
        except (FileNotFoundError, NotADirectoryError):
            is_here = False
        if is_here and not self.is_lost:
            return
        self.is_lost = True
        folder = self._path.parent
        if folder.is_dir():
            raise LockLost(
                f"{self._path} was removed or replaced while this sweep held it: {folder} is being deleted, or "
                "another sweep may work on it"
            )
        raise LockLost(f"{folder} was deleted or renamed while this sweep wrote there")

    def _acquire(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._file.seek(0)
            holder = self._file.read(200).decode(errors="replace").strip()
            raise SettingsError(f"another sweep works on {self._path.parent}: {holder}") from error
        except OSError as error:
            raise SettingsError(
                f"{self._path.parent} cannot be locked against a second sweep ({error.strerror}): the disk must know "
                "flock; give another results folder (RESULTS=)"
            ) from error
        self._file.truncate(0)
        self._file.write(f"host {socket.gethostname()}, pid {os.getpid()}\n".encode())
        self.check()  # it may have been removed between the opening and the locking

    def _watch(self) -> None:
        while not self._stop.wait(SECONDS_BETWEEN_LOOKS):
            try:
                self.check()
            except LockLost:
                interrupt()  # the sweep ends as by Ctrl-C, and writes nothing any more
                return
            except OSError:
                continue  # the disk is away for now, and whoever writes to it says so


def _open_lock_file(path: Path) -> FileIO:
    """Open the lock file, or create it.

    Raises:
        SettingsError: there is something else, or another user's file.
    """
    try:
        if path.exists() and not path.is_file():
            raise SettingsError(f"{path} is not a file, as the sweep's lock is: move it away")
        return path.open("ab+", buffering=0)
    except PermissionError as error:
        raise SettingsError(f"{path} cannot be opened ({error.strerror}): it may be another user's") from error


class Lease:
    """A lock in an object store: created once, then renewed and handed on by swaps of its ETag.

    No clocks are compared. Who wants the lease of another watches it for `LEASE_SECONDS`, and takes it over if it
    was not renewed meanwhile; who holds it counts the seconds since the last renewal, and stops where it may have
    been taken over. `generation` counts the holders.

    Attributes:
        is_lost: whether another driver has taken it; it stays so.
    """

    def __init__(self, path: ObjectPath) -> None:
        """Ask nothing of the store; entering the context acquires the lease, and leaving it gives it back."""
        self._path = path
        self._object = OwnObject(path)
        self._holder = uuid.uuid4().hex  # a pid says nothing across containers
        self._generation = self._renewals = 0
        self._renewed = -LEASE_SECONDS
        self.is_lost = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> None:
        self._acquire()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if not self.is_lost:
            with contextlib.suppress(StorageError):  # then it runs out by itself
                self._put(host=None)

    def check(self) -> None:
        """Make sure that the lease is held.

        Raises:
            LockLost: it is not, or could not be renewed for so long that it may not be.
        """
        if self.is_lost or time.monotonic() - self._renewed > LEASE_SECONDS:
            raise LockLost(f"the lease {self._path} was lost to another driver, or could not be renewed")

    def _acquire(self) -> None:
        seen: bytes | None = None
        watched_since = time.monotonic()
        while True:
            try:
                began = time.monotonic()
                self._object.create(self._body())
                break
            except FileExistsError:
                data = self._object.read()
            holder = self._parse(data)
            if seen not in (None, data):
                raise SettingsError(
                    f"another sweep works on {self._path.parent}: host {holder['host']}, pid {holder['pid']}"
                )
            seen = data
            if not _may_live(holder) or time.monotonic() - watched_since > LEASE_SECONDS:
                self._generation = holder["generation"] + 1
                try:
                    self._put()
                    break
                except ConflictError:
                    continue
            time.sleep(1)
        self._renewed = began

    def _parse(self, data: bytes) -> dict[str, Any]:
        """The holder that the lease names; it becomes part of sentences, and of what is asked of the kernel."""
        try:
            holder: dict[str, Any] = json.loads(data)
            host, pid, generation = (holder[name] for name in ("host", "pid", "generation"))
            is_ours = isinstance(host, str | None) and type(pid) is type(generation) is int
            if is_ours and 0 < pid < 2**31 and 0 <= generation < 2**53:
                return holder
        except (ValueError, LookupError, TypeError, RecursionError):
            pass
        raise SettingsError(
            f"{self._path} is not a lease of this version: delete it if no sweep works on {self._path.parent}"
        )

    def _renew(self) -> None:
        while not self._stop.wait(LEASE_SECONDS / RENEWALS):
            began = time.monotonic()
            try:
                self._put()
                self._renewed = began
            except ConflictError:
                self.is_lost = True
                interrupt()  # the sweep ends as by Ctrl-C, and writes nothing any more
                return
            except OSError:
                continue  # it may work again before the lease has run out

    def _put(self, **changes: Any) -> None:
        self._renewals += 1  # else nothing would change, nor would the ETag
        self._object.put(self._body(**changes))

    def _body(self, **changes: Any) -> bytes:
        process = {"host": socket.gethostname(), "pid": os.getpid(), "holder": self._holder}
        counts = {"generation": self._generation, "renewals": self._renewals}
        return json.dumps(process | counts | changes).encode()


def _may_live(holder: dict[str, Any]) -> bool:
    """Whether the lease's holder may be alive: it did not give it back, and is not a dead process of this host."""
    if holder["host"] is None:
        return False
    return bool(holder["host"] != socket.gethostname() or psutil.pid_exists(holder["pid"]))
