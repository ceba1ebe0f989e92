"""The lock: one driver at a time, and none after a death."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.errors import SettingsError
from sweep.results.lock import results_lock

HOLDER = """
import sys, time
from pathlib import Path
from sweep.results.lock import results_lock
with results_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@contextlib.contextmanager
def another_holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def refusal(path: Path) -> str:
    with pytest.raises(SettingsError) as caught, results_lock(path):
        pytest.fail("there are two holders")
    return str(caught.value)


def test_another_process_is_refused_with_host_and_pid_until_the_holder_is_killed(path: Path) -> None:
    with another_holder(path) as holder:
        sentence = refusal(path)
        for part in (str(path.parent), f"host {socket.gethostname()}", f"pid {holder.pid}"):
            assert part in sentence
        assert "\n" not in sentence
        assert refusal(path) == sentence, "who is refused does not overwrite the holder's name"
        holder.send_signal(signal.SIGKILL)
        holder.wait(timeout=30)
        with results_lock(path):
            assert f"pid {os.getpid()}" in path.read_text()


def test_a_lock_is_free_after_its_block_also_after_an_exception(path: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), results_lock(path):
        assert f"pid {os.getpid()}" in refusal(path)
        raise KeyboardInterrupt
    for _ in range(2):
        with results_lock(path):
            assert path.read_text().count("pid") == 1
