"""A sweep through its command line, launched again and again until it is complete, while a killer strikes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from sweep.results.lock import LEASE_SECONDS
from tests.chaos.killer import Killer, kill_child, kill_session, session_of
from tests.chaos.progress import milestones, names

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_UNTIL_STUCK = 300.0
SECONDS_TO_END = 60.0  # of a driver that cannot go on
SECONDS_OF_A_LAST_BREATH = 5.0  # of workers that have lost their raylet
SECONDS_OF_A_PAUSE = LEASE_SECONDS + 15  # another driver watches the lease first
EXITS_ALLOWED = 10  # of drivers that nobody has killed
LEASE_HELD = "another sweep works on"  # on an object store the lease of a killed driver must run out first


class ChaosError(RuntimeError):
    """The sweep does not come to its end."""


class Sweep:
    """One results folder's driver: a process at a time, each in a session of its own.

    Attributes:
        launches: how often it was started.
        exits: the exit code and the last line of each driver that ended, unkilled, before the sweep was complete.
    """

    def __init__(self, words: Sequence[str], log: Path, without: Collection[str] = ()) -> None:
        """`log` takes what all drivers print; variables of the environment may be left out."""
        self._words, self._log, self._without = words, log, without
        self._process: subprocess.Popen[bytes] | None = None
        self._was_killed = False
        self.launches = 0
        self.exits: list[str] = []

    @property
    def pid(self) -> int:
        """Of the driver that was launched last."""
        assert self._process is not None
        return self._process.pid

    def launch(self) -> None:
        """Start a driver."""
        self._was_killed = False
        self.launches += 1
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sweep", *self._words],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=Path(__file__).parents[2],
                env={k: v for k, v in os.environ.items() if k not in self._without} | {"OMP_NUM_THREADS": "1"},
            )

    def kill(self) -> bool:
        """SIGKILL to the driver and whatever is in its session; returns whether it still ran."""
        if self._process is None or self._process.poll() is not None:
            return False
        kill_session(self._process.pid)
        self._process.wait()
        self._was_killed = True
        return True

    def terminate(self) -> bool:
        """SIGTERM to the driver, which ends as by Ctrl-C; returns whether it still ran."""
        if self._process is None or self._process.poll() is not None:
            return False
        self._process.terminate()
        self._must_end(128 + signal.SIGTERM)
        return True

    def lose(self, server: str) -> bool:
        """SIGKILL to a server of Ray's which the driver has started; it says so and ends. Returns whether one ran."""
        if self._process is None or not kill_child(self._process.pid, server):
            return False
        self._must_end(1)
        return True

    def pause(self, has_lease: bool) -> bool:
        """SIGSTOP to the driver for longer than a lease; where it has one, another driver takes it over meanwhile."""
        paused = self._process
        if paused is None or paused.poll() is not None:
            return False
        paused.send_signal(signal.SIGSTOP)
        if has_lease:
            self.launch()
        time.sleep(SECONDS_OF_A_PAUSE)
        paused.send_signal(signal.SIGCONT)
        if has_lease and _wait(paused) != 1:
            self.exits.append(f"exit code {paused.returncode} of a driver whose lease another one has")
        return True

    def _must_end(self, code: int) -> None:
        """Wait for the driver; it is noted where it ends otherwise, or leaves processes behind."""
        assert self._process is not None
        self._was_killed = True
        ended = _wait(self._process)
        if ended != code:
            self.exits.append(f"exit code {ended} in the place of {code}: {self.last_line()}")
        time.sleep(SECONDS_OF_A_LAST_BREATH)
        if left := session_of(self._process.pid):
            self.exits.append(f"the driver has left processes behind: {left}")
        kill_session(self._process.pid)

    def is_complete(self) -> bool:
        """Whether a driver has ended well; one that has ended otherwise is followed by another.

        Raises:
            ChaosError: the command is refused.
        """
        code = self._process.poll() if self._process else None
        if code is None:
            return False
        if code == 0:
            return True
        if not self._was_killed and LEASE_HELD not in self.last_line():
            self.exits.append(f"exit code {code}: {self.last_line()}")
            if code == 2 or len(self.exits) > EXITS_ALLOWED:
                raise ChaosError(f"the driver ends by itself, {self.exits[-1]}; all it said is in {self._log}")
            time.sleep(1.0)  # a full disk has room again soon
        self.launch()
        return False

    def last_line(self) -> str:
        """The last words of all its drivers."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "(it said nothing)"


def _wait(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code of a process that is to end; None where it does not."""
    try:
        return process.wait(SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        return None


def run_to_the_end(
    sweep: Sweep, results: str, killer: Killer | None = None, look: Callable[[str | None], None] = lambda kind: None
) -> None:
    """Launch the sweep until it is complete, under the killer's blows; `look` is called at each look, with the kill.

    Raises:
        ChaosError: it makes no checkpoint and no record any more, or its command is refused.
    """
    sweep.launch()
    before, last_gone_on = milestones(names(results)), time.monotonic()
    try:
        while not sweep.is_complete():
            look(killer.strike_if_due() if killer else None)
            now = milestones(names(results))
            if now != before:
                before, last_gone_on = now, time.monotonic()
            elif time.monotonic() - last_gone_on > SECONDS_UNTIL_STUCK:
                raise ChaosError(f"no checkpoint and no record for {SECONDS_UNTIL_STUCK:.0f} s")
            time.sleep(SECONDS_BETWEEN_LOOKS)
    finally:
        sweep.kill()
