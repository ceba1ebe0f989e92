"""Part `cluster`: how many accelerators one driver keeps busy, simulated with what its events were measured to cost.

The driver is one process: whatever becomes of a run waits until Tune's loop has taken it in, and the worker waits
with it, since Tune asks for the next step only then. So workers that train and a driver that serves them one by one
are a closed queue. Measured here: CPU seconds of the driver for a run and for an event, with tables, display and
MLflow mirror. Assumed: that these do not grow with the number of workers, and all that ASSUMED names.

python -m tests.benchmarks cluster --runs 200 --rounds 3
"""

from __future__ import annotations

import heapq
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from sweep.events import Evaluated, Event, Task, WorkerContext
from sweep.reports.cost import CostModel
from sweep.running.executor import Executor
from sweep.search.plan import plan_runs
from sweep.settings.compose import load_settings
from tests.benchmarks.measuring import Options, Row
from tests.benchmarks.orchestration import local_session, ours_block, publish
from wae_core.data.images import image_shape
from wae_core.evaluation.selection import Evaluation
from wae_core.run import ALGORITHMS

ACCELERATORS = (8, 64, 512, 4096)
EVENTS = 20  # of the longer block, more than of the shorter one
ASSUMED = {
    "round trip between a worker and the driver": 0.002,  # seconds, in one network
    "spread of a segment of training around its mean, up or down": 0.1,
}
DIGITS_SECONDS = 6.0  # a model of the embedded study on a core: README


@dataclass(frozen=True)
class Driver:
    """Seconds of the driver's time: for a run's start and end, and for each event between them."""

    run: float
    event: float


@dataclass(frozen=True)
class Outcome:
    """What a sweep came to.

    Attributes:
        makespan: seconds until the last run has ended.
        utilisation: share of accelerators × makespan that was training.
        driver: share of the makespan in which the driver worked.
        waited: mean seconds from an event to the worker's next step.
    """

    makespan: float
    utilisation: float
    driver: float
    waited: float


def simulate(seconds: Sequence[float], events: int, accelerators: int, driver: Driver, seed: int = 0) -> Outcome:
    """Train runs, the longest first, on accelerators that one driver serves.

    Args:
        seconds: what each run takes on an accelerator.
        events: those of each run before its end, at equal distances.
    """
    draw, round_trip = random.Random(seed), ASSUMED["round trip between a worker and the driver"]
    spread = ASSUMED["spread of a segment of training around its mean, up or down"]
    left = sorted(seconds)
    free, busy, trained, waited, last, served = 0.0, 0.0, 0.0, 0.0, 0.0, 0
    # (when the driver hears of it, whose, steps that the run has left, seconds of each); at first all want a run.
    heard: list[tuple[float, int, int, float]] = [(0.0, worker, 0, 0.0) for worker in range(accelerators)]
    while heard:
        at, worker, steps, segment = heapq.heappop(heard)
        cost = driver.event
        if steps == 0:  # the end of a run, and the start of the next
            cost = driver.run
            if not left:
                continue
            segment, steps = left.pop() / (events + 1), events + 1
        free = max(free, at) + cost
        busy, served, waited = busy + cost, served + 1, waited + free - at + round_trip
        takes = segment * (1 + spread * draw.uniform(-1, 1))
        trained += takes
        end = free + round_trip + takes
        last = max(last, end)
        heapq.heappush(heard, (end, worker, steps - 1, segment))
    return Outcome(last, trained / (accelerators * last), busy / last, waited / served)


def most_kept_busy(seconds: Sequence[float], events: int, driver: Driver) -> float:
    """Return with how many accelerators the driver has no moment left: a run's seconds over the driver's for it."""
    return 1 + mean(seconds) / (driver.run + events * driver.event)


def measure(options: Options, say: Callable[[str], None]) -> list[Row]:
    found: list[Driver] = []
    with (
        tempfile.TemporaryDirectory() as scratch,
        local_session(Path(scratch), say) as executor,
    ):
        _block(Path(scratch) / "first", 20, executor, 0)  # starts the workers, imports MLflow
        for number in range(options.rounds):
            short = _block(Path(scratch) / f"short{number}", options.runs, executor, 0)
            long = _block(Path(scratch) / f"long{number}", options.runs, executor, EVENTS)
            found.append(Driver(short, (long - short) / EVENTS))
            say(f"driver: {1000 * found[-1].run:.1f} ms a run, {1000 * found[-1].event:.2f} ms an event")
    driver = Driver(median(one.run for one in found), median(one.event for one in found))
    rows = [
        Row("driver, a run: its start, end, row and mirror", tuple(1000 * one.run for one in found), "ms of CPU"),
        Row("driver, an event: a checkpoint or evaluation", tuple(1000 * one.event for one in found), "ms of CPU"),
    ]
    for name, seconds, events in (_bigwae(), ("digits, 100,000 models", [DIGITS_SECONDS] * 100_000, 7)):
        limit = most_kept_busy(seconds, events, driver)
        rows.append(Row(f"{name}: accelerators at which the driver has no moment left", (limit,), ""))
        for accelerators in ACCELERATORS:
            rows.append(_row(name, accelerators, simulate(seconds, events, accelerators, driver)))
    return rows


def _row(name: str, accelerators: int, outcome: Outcome) -> Row:
    note = (
        f"utilisation {outcome.utilisation:.1%}, driver busy {outcome.driver:.2%}, "
        f"a worker waits {1000 * outcome.waited:,.1f} ms an event"
    )
    return Row(f"{name} on {accelerators:,}: makespan", (outcome.makespan / 3600,), "h", note=note)


def _bigwae() -> tuple[str, list[float], int]:
    """The paper's budget: seconds of each run by the cost model, and the events of a run before its end."""
    settings = load_settings(["study=bigwae", "dry_run=true"])
    protocol = settings.study.protocol
    cost = CostModel(settings.study, image_shape(protocol.dataset), settings.cluster)
    runs = [run for name in ALGORITHMS for run in plan_runs(settings.study, name, settings.budget)]
    saved = set(range(settings.checkpoint_steps, protocol.steps, settings.checkpoint_steps))
    return "bigwae", [cost.seconds(run) for run in runs], len(saved | set(protocol.evaluation_steps))


def _block(results: Path, runs: int, executor: Executor, events: int) -> float:
    """CPU seconds of the driver for a run."""
    results.mkdir()
    return ours_block(results, runs, executor, evaluated if events else None).driver


def evaluated(task: Task, context: WorkerContext) -> Iterator[Event]:
    """EVENTS evaluations of a run, and its record."""
    for run in task.runs:
        for step in range(1, EVENTS + 1):
            yield Evaluated(run, Evaluation(step, *[1.0] * 8))
    yield from publish(task, context)
