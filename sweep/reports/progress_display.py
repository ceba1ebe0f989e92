"""What a person sees while a sweep runs: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta

from rich.console import Console
from rich.live import Live
from rich.table import Table

from sweep.events import Ended, Evaluated, Event, Paused, Problem, Started
from sweep.reports.cost import CostModel, Kind, kind
from sweep.results.schema import COMPLETED, STATUSES, RunRow
from wae_core.run import Run

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_PROBLEMS = 60.0  # each worker reports the same one


class ProgressDisplay:
    """Counts what workers report and shows it, with models an hour and an estimate of the time left.

    The time left is what the rest takes at the pace so far, both in the seconds that `cost` predicts by then.
    """

    def __init__(self, console: Console, planned: Sequence[Run], ended: Sequence[RunRow], cost: CostModel) -> None:
        self._console = console
        self._algorithms = list(dict.fromkeys(run.algorithm for run in planned))
        self._planned = Counter(run.algorithm for run in planned)
        self._statuses = Counter((row.algorithm, row.status) for row in ended)
        self._best: dict[str, float] = {}
        for row in ended:
            self._note_fid(row.algorithm, row.best_fid)
        self._running: dict[str, tuple[Run, float]] = {}  # run_id: run, fraction done; those that pause included
        self._paused: set[str] = set()  # run_ids
        self._missing = len(planned) - len(ended)
        self._cost = cost
        self._flops_done: Counter[Kind] = Counter()  # since `__enter__`
        self._flops_left: Counter[Kind] = Counter()
        has_row = {row.run_id for row in ended}
        self._to_train = {run.run_id: run for run in planned if run.run_id not in has_row}
        for run in self._to_train.values():
            self._flops_left[kind(run)] += cost.flops(run)
        self._ended_here = 0
        self._told: dict[str, float] = {}  # sentence of a problem: when
        self._began = self._last_line = time.monotonic()
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=2)

    @classmethod
    def of(
        cls,
        planned: Sequence[Run],
        drawn: Sequence[Run],
        ended: Sequence[RunRow],
        cost: CostModel,
        console: Console,
    ) -> ProgressDisplay:
        """Return that of a launch; `drawn` stand for what is not planned yet, and other rows are left out."""
        runs = {run.run_id: run for run in [*drawn, *planned]}
        return cls(console, list(runs.values()), [row for row in ended if row.run_id in runs], cost)

    def __enter__(self) -> ProgressDisplay:
        self._began = self._last_line = time.monotonic()
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def plan(self, runs: Sequence[Run]) -> None:
        """Take these, which are to be trained now, for the planned runs of the same run_ids.

        Runs beyond the planned ones add no work: those that were stopped early have left it to them.
        """
        for run in runs:
            if run.run_id in self._to_train:
                for sign, each in ((-1, self._to_train[run.run_id]), (1, run)):
                    self._flops_left[kind(each)] += sign * self._cost.flops(each)
            else:
                self._planned[run.algorithm] += 1
                self._missing += 1
            self._to_train[run.run_id] = run

    def note(self, event: Event) -> None:
        """Take in what became of a run."""
        run = event.run
        match event:
            case Problem() if time.monotonic() - self._told.get(event.sentence, -math.inf) > SECONDS_BETWEEN_PROBLEMS:
                self._told[event.sentence] = time.monotonic()
                self._console.print(event.sentence, style="yellow")
            case Started():
                self._running.setdefault(run.run_id, (run, 0.0))
                self._paused.discard(run.run_id)
            case Evaluated():
                self._running[run.run_id] = (run, event.evaluation.step / run.protocol.steps)
                self._paused.discard(run.run_id)
                self._note_fid(run.algorithm, event.evaluation.fid)
            case Paused():
                self._paused.add(run.run_id)
            case Ended():
                self._note_end(run, event.row)
        is_last = self._ended_here == self._missing
        if not self._console.is_terminal and (is_last or time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES):
            self._last_line = time.monotonic()
            self._console.print(self._line())

    def _note_end(self, run: Run, row: RunRow) -> None:
        # Done before it stops running: the display's own thread divides by what is done.
        flops = self._cost.flops(run)
        if row.status == COMPLETED:  # what a run was stopped short of is left to others
            flops = round(flops * row.share_done)
        self._flops_done[kind(run)] += flops
        self._flops_left[kind(run)] -= flops
        self._running.pop(run.run_id, None)
        self._paused.discard(run.run_id)
        self._note_fid(run.algorithm, row.best_fid)
        self._statuses[run.algorithm, row.status] += 1
        self._ended_here += 1

    def _note_fid(self, algorithm: str, fid: float | None) -> None:
        if fid is not None and math.isfinite(fid):
            self._best[algorithm] = min(fid, self._best.get(algorithm, fid))

    def _done(self) -> float:
        """Models' worth of work done since `__enter__`, the running ones by their steps."""
        return self._ended_here + sum(fraction for _, fraction in self._running.values())

    def _rate(self) -> str:
        elapsed, done = time.monotonic() - self._began, self._done()
        if done == 0:
            return "no model scored yet"
        left = timedelta(seconds=round(elapsed * self._left_over_done()))
        return f"{done / elapsed * 3600:,.0f} models/hour, {left} left"

    def _left_over_done(self) -> float:
        """The work that is left as a multiple of the work done since `__enter__`, in predicted seconds."""
        done, left = self._flops_done.copy(), self._flops_left.copy()
        for run, fraction in list(self._running.values()):
            flops = round(fraction * self._cost.flops(run))
            done[kind(run)] += flops
            left[kind(run)] -= flops
        seconds_done, seconds_left = (
            sum(flops * self._cost.seconds_per_flop(kind) for kind, flops in work.items()) for work in (done, left)
        )
        # A run that ends just now counts as done and as running, for a moment: never less than nothing is left.
        return max(0.0, seconds_left) / seconds_done

    def _line(self) -> str:
        counts: Counter[str] = Counter()
        for (_, status), count in self._statuses.items():
            counts[status] += count
        words = [f"{counts[status]} {status}" for status in STATUSES if counts[status] or status == "completed"]
        best = ", ".join(f"{algorithm} {fid:.1f}" for algorithm, fid in sorted(self._best.items()))
        return (
            f"{', '.join(words)} of {sum(self._planned.values())}; {len(self._running) - len(self._paused)} running; "
            f"{self._rate()}; best FID: {best or '–'}"
        )

    def _table(self) -> Table:
        table = Table(caption=self._rate(), caption_justify="left")
        for name in ("algorithm", "planned", *STATUSES, "running", "best FID"):
            table.add_column(name, justify="left" if name == "algorithm" else "right")
        for algorithm in self._algorithms:
            running = sum(
                run.algorithm == algorithm and run_id not in self._paused
                for run_id, (run, _) in list(self._running.items())
            )
            best = self._best.get(algorithm)
            table.add_row(
                algorithm,
                str(self._planned[algorithm]),
                *(str(self._statuses[algorithm, status]) for status in STATUSES),
                str(running),
                "–" if best is None else f"{best:.2f}",
            )
        return table
