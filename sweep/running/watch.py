"""Whether what a session cannot do without still answers; where it does not, the session ends with a sentence."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psutil

from sweep.errors import CONTINUES, WorkersLost
from sweep.interruption import interrupt, interruptible

SECONDS_BETWEEN_LOOKS = 1.0
PR_SET_CHILD_SUBREAPER = 36  # of Linux: who has lost its parent becomes our child, and not that of process 1
SECONDS_TO_ANSWER = 5.0
SECONDS_TO_DIE = 5.0
SECONDS_TO_UNWIND = 10.0


@dataclass(frozen=True)
class Server:
    """A server that listens as long as it lives.

    Attributes:
        address: host:port.
    """

    name: str
    address: str


def reach(address: str) -> None:
    """Connect to host:port, and hang up.

    Raises:
        OSError: nobody listens there, or answers within some seconds.
    """
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_ANSWER).close()


class Family:
    """The processes below this one that were started since, also those whose parent has died."""

    def __init__(self) -> None:
        if sys.platform == "linux":  # elsewhere who has lost its parent must end by itself, as Ray's processes do
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._others = set(psutil.Process().children(recursive=True))

    def end(self) -> None:
        """SIGKILL to all; returns when they are gone."""
        while ours := set(psutil.Process().children(recursive=True)) - self._others:  # some start others meanwhile
            for process in ours:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            _, left = psutil.wait_procs(ours, timeout=SECONDS_TO_DIE)
            if left:
                return  # nothing ends them


@contextlib.contextmanager
def watching(servers: Sequence[Server], family: Family, patience: float) -> Iterator[None]:
    """Interrupt the main thread, which may wait for an answer for ever, once one of the servers is gone.

    It is to be entered in the main thread. Where that is in a call of Ray's that nothing interrupts, the process ends
    here, with the same sentence and exit code as by the error.

    Args:
        family: is ended before the process.
        patience: for how many seconds a server may not be reached before it counts as gone.

    Raises:
        WorkersLost: one of them is gone; in the place of whatever that led to.
    """
    watch = _Watch(servers, family, patience)
    with interruptible():
        watch.start()
        try:
            yield
        except BaseException as error:
            if watch.lost is not None:
                raise WorkersLost(watch.lost) from error
            raise
        finally:
            watch.stop.set()
            watch.join()


class _Watch(threading.Thread):
    def __init__(self, servers: Sequence[Server], family: Family, patience: float) -> None:
        super().__init__(name="watch", daemon=True)
        self._servers, self._family, self._patience = servers, family, patience
        self.stop = threading.Event()
        self.lost: str | None = None

    def run(self) -> None:
        reached = dict.fromkeys(self._servers, time.monotonic())
        while not self.stop.wait(SECONDS_BETWEEN_LOOKS):
            for server in self._servers:
                try:
                    reach(server.address)
                    reached[server] = time.monotonic()
                except OSError:
                    if time.monotonic() - reached[server] > self._patience:
                        self.lost = f"{server.name} has ended"
                        self._interrupt(self.lost)
                        return

    def _interrupt(self, why: str) -> None:
        interrupt()
        if not self.stop.wait(SECONDS_TO_UNWIND):
            self._family.end()
            print(f"stopped: {why}; {CONTINUES}", file=sys.stderr, flush=True)
            os._exit(1)
