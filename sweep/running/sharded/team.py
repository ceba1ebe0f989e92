"""The processes that train a run with its worker, one accelerator each: Ray actors in the trial's placement group.

The worker is the first of them. It alone reads checkpoints, evaluates, saves and publishes; the others train, and
wait meanwhile. They end with the worker, which owns them; and the worker ends when one of them does: then it has died
over its task, as any worker may.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import ray
import torch
from ray.exceptions import RayActorError, RayError
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from sweep.events import WorkerContext
from sweep.running.attempt import images_of
from wae_core.device import describe
from wae_core.run import Run
from wae_core.training.loop import train
from wae_core.training.sharding import Group, join, leave, listen
from wae_core.training.state import TrainingState

DIED = 1  # exit code
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_TO_HEAR = 10.0  # of a process's death


class Colleague:
    """A process beside the worker's own. Two of its calls may run at a time."""

    def prepare(self, run: Run, context: WorkerContext, rank: int) -> str:
        """Read the images, which may take long; returns the device's name."""
        torch.set_num_threads(1)  # as workers have; here and below, since calls run on threads of their own
        self._run, self._group = run, Group(rank, context.accelerators_per_run)
        self._device, self._data = images_of(run.protocol.dataset, context)
        return describe(self._device)

    def train(self, address: str) -> None:
        """Train the run to its last step, from where the worker is that can be joined at the address."""
        torch.set_num_threads(1)
        join(self._group, address, self._device)
        state = TrainingState(self._run, self._data, self._device, self._group)
        for _ in train(self._run, self._data, self._device, state):
            pass

    def cpu_seconds(self) -> float:
        """Return the CPU time that it has taken."""
        return time.process_time()


@contextlib.contextmanager
def team(run: Run, context: WorkerContext, device: torch.device) -> Iterator[Callable[[], float]]:
    """Gather the processes that train the run with this one; yields what tells the CPU seconds of all.

    Raises:
        ValueError: their devices are of several kinds.
        Exception: what a process has raised that could not begin.
    """
    colleagues = {rank: _start(rank) for rank in range(1, context.accelerators_per_run)}
    try:
        _check_alike(colleagues, run, context, device)
        listener, address = listen(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
        with _dying_with([colleague.train.remote(address) for colleague in colleagues.values()]):
            try:
                join(Group(0, context.accelerators_per_run), address, device, listener)
                yield lambda: time.process_time() + _cpu_seconds(list(colleagues.values()))
            except RuntimeError:  # a collective fails so where another process has ended: then this one is to end
                time.sleep(SECONDS_TO_HEAR)
                raise
    finally:
        for colleague in colleagues.values():
            ray.kill(colleague)
        leave()


def _start(rank: int) -> Any:
    bundles = ray.util.get_current_placement_group()
    assert bundles is not None, "Tune starts each trial in a placement group"
    wanted = dict(bundles.bundle_specs[rank])
    actor: Any = ray.remote(Colleague)
    return actor.options(
        num_cpus=wanted.pop("CPU", 0),
        num_gpus=wanted.pop("GPU", 0),
        resources=wanted or None,
        max_concurrency=2,
        scheduling_strategy=PlacementGroupSchedulingStrategy(bundles, rank),
    ).remote()


def _check_alike(colleagues: Mapping[int, Any], run: Run, context: WorkerContext, device: torch.device) -> None:
    """Refuse devices of several kinds once all are ready: each draws what the whole batch needs, and draws others."""
    try:
        found = ray.get([colleague.prepare.remote(run, context, rank) for rank, colleague in colleagues.items()])
    except RayActorError as error:
        _die(error)
    kinds = {describe(device), *found}
    if len(kinds) > 1:
        raise ValueError(f"one model is to have accelerators of one kind, but it has {' and '.join(sorted(kinds))}")


def _cpu_seconds(colleagues: Sequence[Any]) -> float:
    try:
        seconds: list[float] = ray.get([colleague.cpu_seconds.remote() for colleague in colleagues])
        return sum(seconds)
    except RayError as error:
        _die(error)


@contextlib.contextmanager
def _dying_with(trainings: Sequence[Any]) -> Iterator[None]:
    """Within it, this process ends as soon as one of the trainings has failed; in a collective it waits for ever."""
    over = threading.Event()

    def watch() -> None:
        left = list(trainings)
        while left and not over.is_set():
            ended, left = ray.wait(left, timeout=SECONDS_BETWEEN_LOOKS)
            try:
                ray.get(ended)
            except RayError as error:
                if not over.is_set():
                    _die(error)

    thread = threading.Thread(target=watch, name="team", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _die(reason: Exception) -> NoReturn:
    print(f"a process of this model has ended: {reason}", file=sys.stderr, flush=True)
    os._exit(DIED)
