"""A pack in one worker: train its runs together, try again after an exception, and give each run its row."""

from __future__ import annotations

import contextlib
import itertools
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence

import torch

from sweep.errors import without_credentials
from sweep.results.folder import StudyFolder
from sweep.results.run_folder import RunFolder
from sweep.running.attempt import Attempt, Progress, WorkerContext, evaluator_of, publish_failure
from sweep.search.plan import Pack
from wae_core.device import select_device
from wae_core.run import Run
from wae_core.storage.files import probe, storage_unavailable
from wae_core.training.loop import train_pack
from wae_core.training.throughput import models_per_hour

SECONDS_TO_WAIT = 5.0  # until the storage that was unavailable is tried again
PROBE_BYTES = 2**24  # room for some checkpoints


def run_pack(pack: Pack, context: WorkerContext) -> Iterator[Progress]:
    """Bring every run of the pack to its row.

    Where the device's memory does not hold the pack, its halves are trained one after the other. A full disk, or an
    object store that cannot be reached, is waited for. Any other exception separates the runs, so that the one behind
    it fails alone.
    """
    waiting: deque[tuple[Sequence[Run], int, str]] = deque([(pack.runs, context.tries, "")])
    while waiting:
        runs, tries, reason = waiting.popleft()
        left = list(runs)
        try:
            for progress in _attempt(runs, pack, context) if tries else _fail(runs, context, reason):
                if progress.is_last:
                    left.remove(progress.run)
                yield progress
        except Exception as error:
            if storage_unavailable(error):
                waiting.appendleft((left, tries, reason))
                yield from _wait_for_storage(left[0], context, error)
                continue
            if not tries:
                raise
            for run in left:
                with contextlib.suppress(OSError):  # it may be what failed
                    RunFolder(StudyFolder(context.results, run.study).work(run.run_id)).write(
                        "traceback.txt", without_credentials(traceback.format_exc()).encode()
                    )
            if isinstance(error, torch.OutOfMemoryError) and len(left) > 1:
                half = -(-len(left) // 2)
                waiting += [(left[:half], tries, ""), (left[half:], tries, "")]
            else:
                reason = " ".join(without_credentials(f"{type(error).__name__}: {error}").split())[:500]
                waiting += [([run], tries - 1, reason) for run in left]


def pack_rates(run: Run, sizes: Sequence[int], context: WorkerContext) -> dict[int, float]:
    """Models per hour by pack size, on this worker's device."""
    torch.set_num_threads(1)
    data, _ = evaluator_of(run.protocol.dataset, run.protocol.fid_features, context)
    return models_per_hour(run, data, select_device(context.device), sizes)


def _fail(runs: Sequence[Run], context: WorkerContext, reason: str) -> Iterator[Progress]:
    for run in runs:
        yield Progress(run, row=publish_failure(run, len(runs), context, reason))


def _wait_for_storage(run: Run, context: WorkerContext, error: Exception) -> Iterator[Progress]:
    """Report the error, and end when the study's folder takes a file again."""
    folder = StudyFolder(context.results, run.study).root
    said = (isinstance(error, OSError) and error.strerror) or error
    yield Progress(run, problem=f"{folder} takes no more files ({said}); workers wait until it does, nothing is lost")
    while True:
        time.sleep(SECONDS_TO_WAIT)
        with contextlib.suppress(OSError):
            probe(folder, PROBE_BYTES)
            return


def _attempt(runs: Sequence[Run], pack: Pack, context: WorkerContext) -> Iterator[Progress]:
    """Train the runs as far as the pack says; those that are at the same step together."""
    attempts = [Attempt(run, pack, len(runs), context) for run in runs]
    attempts.sort(key=lambda attempt: attempt.state.step)
    for _, group in itertools.groupby(attempts, key=lambda attempt: attempt.state.step):
        live = list(group)
        while live:
            if not live[0].is_done:  # else it was killed between its last checkpoint and the report
                yield from _train_until_one_is_done(live, context)
            yield from (attempt.finish() for attempt in live if attempt.is_done)
            live = [attempt for attempt in live if not attempt.is_done]


def _train_until_one_is_done(attempts: Sequence[Attempt], context: WorkerContext) -> Iterator[Progress]:
    """Train and score until a member has diverged or all have come to where they end or pause."""
    runs, states = [attempt.run for attempt in attempts], [attempt.state for attempt in attempts]
    cpu_began = time.process_time()
    device = select_device(context.device)
    for checkpoints in train_pack(runs, attempts[0].data, device, states, context.checkpoint_steps):
        share = (time.process_time() - cpu_began) / len(attempts)
        for attempt, checkpoint in zip(attempts, checkpoints, strict=True):
            yield from attempt.take(checkpoint, share)
        if any(attempt.is_done for attempt in attempts):
            return
        cpu_began = time.process_time()
