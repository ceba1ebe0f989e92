"""How a thread that finds that the sweep cannot go on ends what the main thread is waiting for."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

_SIGNAL = signal.SIGUSR2  # not SIGINT, which a job in the background may ignore


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let `interrupt` raise KeyboardInterrupt in the main thread, which is to enter this; no other thread may."""
    before = signal.signal(_SIGNAL, _unwind)
    try:
        yield
    finally:
        signal.signal(_SIGNAL, before)


def interrupt() -> None:
    """Raise KeyboardInterrupt in the main thread, also where it sleeps; it must be `interruptible`."""
    signal.pthread_kill(threading.main_thread().ident or 0, _SIGNAL)


def _unwind(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt  # no other exception comes through all of Ray's calls
