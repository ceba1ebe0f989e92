"""One driver per study: the lock whose holder alone writes the tables and deletes."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sweep.checks import SettingsError


@contextmanager
def results_lock(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; the kernel releases it when the process dies, however it dies.

    Raises:
        SettingsError: another driver holds it; the sentence names its host and pid.
    """
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
