"""How far a rescoring is, with the time left, a line every few seconds; and its rows on their way to the table."""

from __future__ import annotations

import time
from datetime import timedelta

from rich.console import Console

from sweep.events import Event, GivenUp, NotRescored, Problem, Rescored
from sweep.rescoring.table import RescoreTable

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Takes the workers' events in: rows go to the table, and a person sees how many are left.

    Attributes:
        failures: models that could not be scored.
    """

    def __init__(self, table: RescoreTable, steps: dict[str, int], console: Console) -> None:
        """Begin to count.

        Args:
            steps: the step of the model that each run's row names, by run_id, for all that is to be scored.
        """
        self.failures = 0
        self._table, self._steps, self._console = table, steps, console
        self._done = 0
        self._began = self._said = time.monotonic()
        self._told: set[str] = set()

    def note(self, event: Event) -> None:
        """Take an event in."""
        match event:
            case Rescored() if event.row.step == self._steps[event.run.run_id]:
                self._table.add(event.row)
                self._count()
            case Rescored():
                expected = self._steps[event.run.run_id]
                self._fail(f"the model of {event.run.run_id} is of step {event.row.step}, and its row of {expected}")
            case NotRescored():
                self._fail(event.sentence)
            case GivenUp():
                self._fail(f"the model of {event.run.run_id} cannot be scored: {event.reason}")
            case Problem() if event.sentence not in self._told:  # each worker has the same one
                self._told.add(event.sentence)
                self.say(event.sentence)

    def say(self, sentence: str) -> None:
        """Tell a person what is wrong, or waited for."""
        self._console.print(sentence, style="yellow")

    def _fail(self, sentence: str) -> None:
        self.failures += 1
        self.say(sentence)
        self._count()

    def _count(self) -> None:
        self._done += 1
        now, total = time.monotonic(), len(self._steps)
        if self._done < total and now - self._said < SECONDS_BETWEEN_LINES:
            return
        self._said, elapsed = now, max(now - self._began, 1e-9)
        left = timedelta(seconds=round(elapsed * (total - self._done) / self._done))
        self._console.print(
            f"{self._done:,} of {total:,} models; {3600 * self._done / elapsed:,.0f} models/hour, {left} left"
        )
