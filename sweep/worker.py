"""A pack in one worker: train its runs together, try again after an exception, and give each run its row."""

from __future__ import annotations

import contextlib
import itertools
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence

import torch

from sweep.attempt import Attempt, Progress, WorkerContext, evaluator_of, publish_failure
from sweep.plan import Pack
from sweep.redaction import without_credentials
from sweep.results import StudyFolder
from sweep.run_folder import RunFolder
from wae_core.device import select_device
from wae_core.run import Run
from wae_core.throughput import models_per_hour
from wae_core.train import train_pack

TRIES = 3  # after so many exceptions a run is `failed`


def run_pack(pack: Pack, context: WorkerContext) -> Iterator[Progress]:
    """Bring every run of the pack to its row.

    Where the device's memory does not hold the pack, its halves are trained one after the other. Any other exception
    separates the runs, so that the one behind it fails alone.
    """
    waiting: deque[tuple[Sequence[Run], int]] = deque([(pack.runs, TRIES)])
    while waiting:
        runs, tries = waiting.popleft()
        left = list(runs)
        try:
            for progress in _attempt(runs, context):
                if progress.row is not None:
                    left.remove(progress.run)
                yield progress
        except Exception as error:
            for run in left:
                with contextlib.suppress(OSError):  # the disk may be what failed
                    RunFolder(StudyFolder(context.results, run.study).work(run.run_id)).write(
                        "traceback.txt", without_credentials(traceback.format_exc()).encode()
                    )
            if isinstance(error, torch.OutOfMemoryError) and len(left) > 1:
                half = -(-len(left) // 2)
                waiting += [(left[:half], tries), (left[half:], tries)]
            elif tries > 1:
                waiting += [([run], tries - 1) for run in left]
            elif left:
                reason = " ".join(without_credentials(f"{type(error).__name__}: {error}").split())[:500]
                yield Progress(left[0], row=publish_failure(left[0], len(runs), context, reason))


def pack_rates(run: Run, sizes: Sequence[int], context: WorkerContext) -> dict[int, float]:
    """Models per hour by pack size, on this worker's device."""
    torch.set_num_threads(1)
    data, _ = evaluator_of(run.protocol.dataset, run.protocol.fid_features, context)
    return models_per_hour(run, data, select_device(context.device), sizes)


def _attempt(runs: Sequence[Run], context: WorkerContext) -> Iterator[Progress]:
    """Train the runs to their end; those that are at the same step together."""
    attempts = [Attempt(run, len(runs), context) for run in runs]
    attempts.sort(key=lambda attempt: attempt.state.step)
    for _, group in itertools.groupby(attempts, key=lambda attempt: attempt.state.step):
        live = list(group)
        while live:
            yield from _train_until_one_ends(live, context)
            yield from (attempt.finish() for attempt in live if attempt.has_ended)
            live = [attempt for attempt in live if not attempt.has_ended]


def _train_until_one_ends(attempts: Sequence[Attempt], context: WorkerContext) -> Iterator[Progress]:
    """Train and score until a member has diverged or all have done their steps."""
    runs, states = [attempt.run for attempt in attempts], [attempt.state for attempt in attempts]
    cpu_began = time.process_time()
    for checkpoints in train_pack(runs, attempts[0].data, select_device(context.device), states):
        share = (time.process_time() - cpu_began) / len(attempts)
        for attempt, checkpoint in zip(attempts, checkpoints, strict=True):
            yield from attempt.evaluate(checkpoint, share)
        if any(attempt.has_ended for attempt in attempts):
            return
        cpu_began = time.process_time()
