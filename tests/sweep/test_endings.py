"""What ends a sweep from outside: one sentence, its exit code, no process left, and the same command continues."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from sweep.errors import CONTINUES
from sweep.results.folder import read_runs
from tests.chaos.killer import kill_child, kill_session, session_of
from tests.chaos.progress import milestones, names

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(200)]

SMALL = ("study.fid_samples=200", "study.evaluation_images=50", "study.pretraining_steps=2", "study.width=4")
LONG = (*SMALL, "study.steps=4000", "study.evaluation_steps=[2000,4000]", "checkpoint_steps=10", "alg=vae")
SECONDS_TO_END = 60  # of which on a busy machine most go to winding up
SECONDS_TO_DIE = 10  # for processes that have lost their parent


class Driver:
    """`python -m sweep` in a session of its own."""

    def __init__(self, results: Path, *words: str, **environment: str) -> None:
        self._results = results
        self._process = subprocess.Popen(
            [sys.executable, "-m", "sweep", f"results={results}", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=os.environ | environment,
            # A shell's job in the background would ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self.pid = self._process.pid

    def train(self) -> None:
        """Wait for a checkpoint."""
        while not milestones(names(str(self._results))):
            assert self._process.poll() is None, self._process.communicate()[0]
            time.sleep(0.2)

    def end(self, *codes: int) -> str:
        """Wait until it has ended with one of these; returns its last words."""
        try:
            said, _ = self._process.communicate(timeout=SECONDS_TO_END)
            assert self._process.returncode in codes, said
            assert "Traceback" not in said
            assert "C++" not in said
            deadline = time.monotonic() + SECONDS_TO_DIE
            while session_of(self.pid) and time.monotonic() < deadline:
                time.sleep(0.2)
            assert session_of(self.pid) == []
            return said.splitlines()[-1] if said else ""
        finally:
            kill_session(self.pid)


@pytest.mark.parametrize("server", ["raylet", pytest.param("gcs_server", marks=pytest.mark.long)])
def test_ray_s_end_is_the_launch_s(server: str, tmp_path: Path) -> None:
    """It waited for ever, or was aborted after a minute."""
    driver = Driver(tmp_path, *LONG, "cluster.workers=1")
    driver.train()
    assert kill_child(driver.pid, server)
    said = driver.end(1)
    assert said.startswith("stopped: Ray's ")
    assert said.endswith(f"has ended; {CONTINUES}")
    assert len(read_runs(tmp_path, "digits")) == 0


@pytest.mark.parametrize(
    ("words", "to_all"),
    [
        pytest.param(["cluster.workers=1"], False, marks=pytest.mark.long, id="ray"),
        pytest.param(["cluster.workers=1"], True, id="ray and its processes"),
        pytest.param(["cluster=inprocess"], False, id="inprocess"),
    ],
)
def test_sigterm_winds_up_as_ctrl_c_does(words: Sequence[str], to_all: bool, tmp_path: Path) -> None:
    driver = Driver(tmp_path, *LONG, *words)
    driver.train()
    if to_all:  # as systemd and Slurm do
        os.killpg(driver.pid, signal.SIGTERM)
    else:
        os.kill(driver.pid, signal.SIGTERM)
    assert driver.end(143) == f"terminated: {CONTINUES}"


@pytest.mark.parametrize("after", [pytest.param(2.0, marks=pytest.mark.long), 5.0])
def test_sigterm_while_it_starts_leaves_nothing_in_the_way(after: float, tmp_path: Path) -> None:
    driver = Driver(tmp_path, *LONG, "cluster.workers=1")
    time.sleep(after)
    os.kill(driver.pid, signal.SIGTERM)
    driver.end(143, -signal.SIGTERM)  # to a shell they are one; the latter before there is a handler
    again = Driver(tmp_path, *LONG, "cluster=inprocess")
    again.train()
    os.kill(again.pid, signal.SIGINT)
    assert again.end(130) == f"interrupted: {CONTINUES}"


def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    """Ray warned of it for ten minutes."""
    began = time.monotonic()
    said = Driver(tmp_path, *LONG, RAY_ADDRESS="127.0.0.1:9").end(2)
    assert (
        said == "error: the Ray cluster 127.0.0.1:9 of RAY_ADDRESS cannot be reached: [Errno 111] Connection refused"
    )
    assert time.monotonic() - began < 45
    assert list(tmp_path.iterdir()) == []
