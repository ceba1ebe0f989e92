"""`python -m sweep` as a person launches it, in a session of its own, to its end or to its death."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from sweep.results.folder import StudyFolder


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sweep", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str], exit_code: int = 0) -> str:
    """Wait for the sweep; returns what it printed."""
    output, _ = process.communicate(timeout=300)
    assert process.returncode == exit_code, output
    return output


def kill_at(process: subprocess.Popen[str], folder: StudyFolder, rows: int) -> None:
    """SIGKILL to the driver's process group once so many runs have ended; returns when its workers are gone too."""
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        if folder.root.exists() and folder.read_table("runs").num_rows >= rows:
            break
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[0]
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    time.sleep(3)  # workers of a killed driver write on for about two seconds
