"""One driver per study: the lock whose holder alone writes the tables and deletes."""

from __future__ import annotations

import _thread
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from sweep.errors import LockLost, SettingsError
from wae_core.storage.files import Location
from wae_core.storage.objects import ConflictError, ObjectPath, OwnObject

LEASE_SECONDS = 30.0  # after so long without a renewal a lease may be taken over
RENEWALS = 3  # in that time

Check = Callable[[], None]  # raises LockLost


@contextmanager
def results_lock(path: Location) -> Iterator[Check]:
    """Hold the lock `path`, by `flock` on a disk and by a lease in an object store; yields a check that it is held.

    Raises:
        SettingsError: another driver holds it; the sentence names its host and pid.
    """
    if isinstance(path, ObjectPath):
        lease = Lease(path)
        with lease:
            yield lease.check
        return
    with _flock(path):
        yield lambda: None


@contextmanager
def _flock(path: Path) -> Iterator[None]:
    """The kernel releases it when the process dies, however it dies."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise SettingsError(f"another sweep works on {path.parent}: {file.read().strip()}") from error
        file.truncate(0)
        file.write(f"host {socket.gethostname()}, pid {os.getpid()}\n")
        file.flush()
        yield


class Lease:
    """A lock in an object store: created once, then renewed and handed on by swaps of its ETag.

    No clocks are compared. Who wants the lease of another watches it for `LEASE_SECONDS`, and takes it over if it
    was not renewed meanwhile; who holds it counts the seconds since the last renewal, and stops where it may have
    been taken over. `generation` counts the holders.
    """

    def __init__(self, path: ObjectPath) -> None:
        """Ask nothing of the store; entering the context acquires the lease, and leaving it gives it back."""
        self._path = path
        self._object = OwnObject(path)
        self._holder = uuid.uuid4().hex  # a pid says nothing across containers
        self._generation = self._renewals = 0
        self._renewed = -LEASE_SECONDS
        self._is_lost = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> None:
        self._acquire()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if not self._is_lost:
            self._put(host=None)

    def check(self) -> None:
        """Make sure that the lease is held.

        Raises:
            LockLost: it is not, or could not be renewed for so long that it may not be.
        """
        if self._is_lost or time.monotonic() - self._renewed > LEASE_SECONDS:
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
            holder = json.loads(data)
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

    def _renew(self) -> None:
        while not self._stop.wait(LEASE_SECONDS / RENEWALS):
            began = time.monotonic()
            try:
                self._put()
                self._renewed = began
            except ConflictError:
                self._is_lost = True
                _thread.interrupt_main()  # the sweep ends as by Ctrl-C, and writes nothing any more
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
