"""A task in one worker: train its runs together, and give each run its row, or say that it has raised."""

from __future__ import annotations

import contextlib
import itertools
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch

from sweep.errors import OtherDataError, without_credentials
from sweep.events import Event, Problem, Raised, Task, WorkerContext
from sweep.results.folder import StudyFolder
from sweep.results.work.run_folder import RunFolder
from sweep.results.work.waiting import FALSE_ALARMS, SECONDS_TO_WAIT, is_away, wait_for_storage, why_waiting
from sweep.running.attempt import Attempt, begin_attempt, equipment_for
from wae_core.run import Run
from wae_core.training.loop import train_pack
from wae_core.training.throughput import Packing, models_per_hour


def run_task(task: Task, context: WorkerContext) -> Iterator[Event]:
    """Bring every run of the task to its row, or to where it pauses, or raises."""
    return persist(task, context, _train)


def persist(
    task: Task,
    context: WorkerContext,
    attempt: Callable[[Sequence[Run], Task, WorkerContext], Iterator[Event]],
) -> Iterator[Event]:
    """Attempt the task's runs together until each of them has had its last event.

    Where the device's memory does not hold the pack, its halves are attempted one after the other. A storage that is
    full, cannot be reached, or is gone, is waited for. Any other exception is told: who hears it decides where the
    runs are tried again.

    Args:
        attempt: does the work at some of the runs.
    """
    waiting = deque([task.runs])
    alarms = 0  # in a row, after which the storage was found to work
    while waiting:
        runs = waiting.popleft()
        left = list(runs)
        try:
            for event in attempt(runs, task, context):
                if event.is_last:
                    left.remove(event.run)
                alarms = 0
                yield event
        except Exception as error:
            root = StudyFolder(context.results, task.runs[0].study).root
            if is_away(root, error) and alarms < FALSE_ALARMS:
                waiting.appendleft(tuple(left))
                yield Problem(left[0], why_waiting(root, error))
                alarms += wait_for_storage(root, error)
                continue
            if isinstance(error, OtherDataError):
                waiting.appendleft(tuple(left))
                yield Problem(left[0], f"{error}; workers wait until it is back, nothing is lost")
                time.sleep(SECONDS_TO_WAIT)
                continue
            _keep_traceback(left, context)
            if isinstance(error, torch.OutOfMemoryError) and len(left) > 1:
                half = -(-len(left) // 2)
                waiting += [tuple(left[:half]), tuple(left[half:])]
            else:
                reason = " ".join(without_credentials(f"{type(error).__name__}: {error}").split())[:500]
                yield from (Raised(run, reason) for run in left)


def pack_rates(run: Run, sizes: Sequence[int], context: WorkerContext) -> dict[Packing, float]:
    """Models per hour by pack size, on this worker's device."""
    torch.set_num_threads(1)
    equipment = equipment_for(run.protocol, context)
    return models_per_hour(run, equipment.data, equipment.device, sizes)


def _keep_traceback(runs: Sequence[Run], context: WorkerContext) -> None:
    for run in runs:
        with contextlib.suppress(OSError):  # it may be what failed
            RunFolder(StudyFolder(context.results, run.study).work(run.run_id)).write(
                "traceback.txt", without_credentials(traceback.format_exc()).encode()
            )


def _train(runs: Sequence[Run], task: Task, context: WorkerContext) -> Iterator[Event]:
    """Train the runs as far as the task says; those that are at the same step together."""
    attempts = [begin_attempt(run, task, len(runs), context) for run in runs]
    yield from (Problem(attempt.run, attempt.notice) for attempt in attempts if attempt.notice)
    attempts.sort(key=lambda attempt: attempt.state.step)
    for _, group in itertools.groupby(attempts, key=lambda attempt: attempt.state.step):
        live = list(group)
        while live:
            if not live[0].is_done:  # else it was killed between its last checkpoint and the report
                yield from _train_until_one_is_done(live, context)
            yield from (attempt.finish() for attempt in live if attempt.is_done)
            live = [attempt for attempt in live if not attempt.is_done]


def _train_until_one_is_done(attempts: Sequence[Attempt], context: WorkerContext) -> Iterator[Event]:
    """Train and score until a member has diverged or all have come to where they end or pause."""
    runs, states = [attempt.run for attempt in attempts], [attempt.state for attempt in attempts]
    equipment = attempts[0].equipment
    is_captured = runs[0].hyperparameters.architecture in context.captured
    with _processes(runs, context, equipment.device) as cpu_seconds:
        cpu_began = cpu_seconds()
        for checkpoints in train_pack(
            runs, equipment.data, equipment.device, states, context.checkpoint_steps, is_captured
        ):
            share = (cpu_seconds() - cpu_began) / len(attempts)
            for attempt, checkpoint in zip(attempts, checkpoints, strict=True):
                yield from attempt.take(checkpoint, share)
            if any(attempt.is_done for attempt in attempts):
                return
            cpu_began = cpu_seconds()


@contextlib.contextmanager
def _processes(runs: Sequence[Run], context: WorkerContext, device: torch.device) -> Iterator[Callable[[], float]]:
    """The processes that train the runs; yields what tells the CPU seconds of all."""
    if context.accelerators_per_run == 1:
        yield time.process_time
        return
    from sweep.running.sharded.team import team  # which imports Ray

    with team(runs[0], context, device) as cpu_seconds:
        yield cpu_seconds
