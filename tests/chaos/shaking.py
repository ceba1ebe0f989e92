"""A sweep through its command line, launched again and again until it is complete, while a killer strikes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.chaos.killer import Killer, kill_session
from tests.chaos.progress import milestones, names

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_UNTIL_STUCK = 300.0
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

    def __init__(self, words: Sequence[str], log: Path) -> None:
        """`log` takes what all drivers print."""
        self._words, self._log = words, log
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
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )

    def kill(self) -> bool:
        """SIGKILL to the driver and whatever is in its session; returns whether it still ran."""
        if self._process is None or self._process.poll() is not None:
            return False
        kill_session(self._process.pid)
        self._process.wait()
        self._was_killed = True
        return True

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
