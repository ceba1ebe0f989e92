"""A server that has ended interrupts whoever waits for it, with a sentence; one that is slow does not."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from sweep.errors import CONTINUES, WorkersLost
from sweep.running import watch
from sweep.running.watch import Family, Server, watching


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Something that listens, and answers nobody, as a process that is stopped."""
    monkeypatch.setattr(watch, "SECONDS_BETWEEN_LOOKS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def servers(listening: socket.socket) -> list[Server]:
    return [Server("the raylet", f"127.0.0.1:{listening.getsockname()[1]}")]


def wait_for(listening: socket.socket) -> None:
    with watching(servers(listening), Family(), patience=0.2):
        time.sleep(0.3)
        listening.close()
        time.sleep(30)


def wait_and_fail(listening: socket.socket) -> None:
    with watching(servers(listening), Family(), patience=0):
        listening.close()
        try:
            time.sleep(30)
        except KeyboardInterrupt:
            raise RuntimeError("Ray is confused") from None


def test_a_server_that_ends_interrupts_what_waits_for_it(server: socket.socket) -> None:
    before, began = signal.getsignal(signal.SIGUSR2), time.monotonic()
    with pytest.raises(WorkersLost, match="the raylet has ended"):
        wait_for(server)
    assert time.monotonic() - began < 10
    assert signal.getsignal(signal.SIGUSR2) is before


def test_what_an_end_leads_to_is_told_as_that(server: socket.socket) -> None:
    """An error of Ray's may come while the watch is still patient."""
    with pytest.raises(WorkersLost, match="the raylet has ended"):
        wait_and_fail(server)


def test_a_server_that_listens_is_no_reason_to_end(server: socket.socket) -> None:
    with watching(servers(server), Family(), patience=0):
        time.sleep(0.5)
    with pytest.raises(KeyboardInterrupt), watching(servers(server), Family(), patience=0):
        raise KeyboardInterrupt


def test_a_family_is_ended_with_those_whose_parent_is_dead() -> None:
    before = subprocess.Popen(["sleep", "60"])
    family = Family()
    parent = subprocess.Popen(["sh", "-c", "sleep 60 & wait"])
    try:
        while not (orphans := psutil.Process(parent.pid).children()):
            time.sleep(0.01)
        family.look()
        parent.kill()
        parent.wait()
        assert [orphan.is_running() for orphan in orphans] == [True]
        family.end()
        assert [orphan.is_running() for orphan in orphans] == [False]
        assert before.poll() is None
    finally:
        before.kill()
        before.wait()


UNINTERRUPTIBLE = """
import contextlib, socket, sys, time
from sweep.running import watch
watch.SECONDS_BETWEEN_LOOKS = watch.SECONDS_TO_UNWIND = 0.1
listening = socket.create_server(("127.0.0.1", 0))
gone = watch.Server("the raylet", f"127.0.0.1:{listening.getsockname()[1]}")
with watch.watching([gone], watch.Family(), patience=0):
    listening.close()
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(60)
"""


def test_a_main_thread_that_nothing_interrupts_does_not_hold_up_the_end() -> None:
    done = subprocess.run([sys.executable, "-c", UNINTERRUPTIBLE], capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr == f"stopped: the raylet has ended; {CONTINUES}\n"
