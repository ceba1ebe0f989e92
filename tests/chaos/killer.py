"""The killer: which blow falls when, as a seeded generator draws it, and what may not be hit yet."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from random import Random

import psutil

from tests.chaos.progress import milestones, most_barren, names

# A worker may die five times without a new checkpoint before its run is `failed`, and the first of those attempts may
# have left no trace: so blows wait while a run is at its third.
BARREN_ATTEMPTS = 3
SECONDS_OF_A_START = 10.0  # of a driver, with Ray
TRAINING = re.compile(r"ray::\w*Trainable\.train\b")  # the title of a process of Tune's
SHARING = re.compile(r"ray::Colleague\b")  # of one that shares a worker's batches


@dataclass(frozen=True)
class Blow:
    """One thing to kill.

    pause: seconds since the blow before it.
    at_start: it may fall before the sweep has gone on.
    """

    kind: str
    pause: float = 0.0
    at_start: bool = False


def random_blows(random: Random, weights: Mapping[str, float], mean_pause: float) -> Iterator[Blow]:
    """Blows without end, their kinds by weight, their pauses exponential; some drivers die again while they start."""
    while True:
        kind = random.choices(list(weights), list(weights.values()))[0]
        yield Blow(kind, random.expovariate(1 / mean_pause))
        if kind == "driver" and random.random() < 0.3:
            yield Blow("driver", random.uniform(0, SECONDS_OF_A_START), at_start=True)


class Killer:
    """Strikes blow after blow while a sweep runs; between two of them the sweep makes a checkpoint or a record.

    Args:
        weapons: by kind; each returns whether it found something to hit.

    Attributes:
        kills: what was hit so far, by kind.
    """

    def __init__(self, results: str, blows: Iterator[Blow], weapons: Mapping[str, Callable[[], bool]]) -> None:
        self._results, self._blows, self._weapons = results, blows, weapons
        self.kills: Counter[str] = Counter()
        self._before: set[str] = set()
        self._wait_for_next()

    def strike_if_due(self) -> str | None:
        """Hit what the next blow names, once its pause is over and the sweep can bear it; returns the kind."""
        blow = self._blow
        if blow is None or time.monotonic() < self._due:
            return None
        found = names(self._results)
        has_gone_on = bool(milestones(found) - self._before)
        if not blow.at_start and not (has_gone_on and most_barren(found) < BARREN_ATTEMPTS):
            return None
        if not self._weapons[blow.kind]():
            return None
        self.kills[blow.kind] += 1
        self._before = milestones(names(self._results))
        self._wait_for_next()
        return blow.kind

    def _wait_for_next(self) -> None:
        self._blow = next(self._blows, None)
        self._due = time.monotonic() + (self._blow.pause if self._blow else 0.0)


def kill_worker(random: Random, title: re.Pattern[str] = TRAINING) -> bool:
    """SIGKILL to one of the worker processes below this one that are training; returns whether there was one."""
    training = [process for process in psutil.Process().children(recursive=True) if _is_called(process, title)]
    if not training:
        return False
    try:
        random.choice(training).kill()
    except psutil.NoSuchProcess:
        return False
    return True


def kill_session(leader: int) -> None:
    """SIGKILL to every process of the session that the process `leader` began."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
    for pid in session_of(leader):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_child(parent: int, name: str) -> bool:
    """SIGKILL to a child of a process, by its program's name; returns whether there was one."""
    try:
        children = [child for child in psutil.Process(parent).children() if child.name() == name]
        for child in children:
            child.kill()
    except psutil.NoSuchProcess:
        return False
    return bool(children)


def session_of(leader: int) -> list[int]:
    """The living processes of the session that the process `leader` began."""
    found = []
    for process in psutil.process_iter(["status"]):
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(process.pid) == leader and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def _is_called(process: psutil.Process, title: re.Pattern[str]) -> bool:
    try:
        return title.match(" ".join(process.cmdline())) is not None
    except psutil.NoSuchProcess:
        return False
