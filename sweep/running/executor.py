"""Where tasks are trained: what a launch asks of Ray Tune, and of this very process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from sweep.errors import SettingsError
from sweep.events import Event, Search, Task, WorkerContext
from sweep.running.worker import run_task
from sweep.settings.settings import Cluster
from wae_core.run import Run
from wae_core.training.throughput import Packing

KEYS = {"CPU": "cpus_per_worker", "GPU": "gpus_per_worker", "TPU": "tpus_per_worker"}  # by Ray's names
Say = Callable[[str], None]  # tells a person a sentence
Tell = Callable[[Event], None]  # is told what becomes of the runs
Work = Callable[[Task, WorkerContext], Iterator[Event]]  # what a worker does with a task; importable by its name


class Executor(Protocol):
    """Workers that are ready.

    Attributes:
        workers: how many tasks are done at a time.
    """

    workers: int

    def measure(self, run: Run, sizes: Sequence[int], context: WorkerContext) -> dict[Packing, float]:
        """Return models per hour by pack size, measured on one worker."""

    def train(
        self, search: Search, context: WorkerContext, deaths_allowed: int, on_event: Tell, work: Work = run_task
    ) -> None:
        """Train what the search hands out, until it has no more.

        Args:
            deaths_allowed: how often a run's worker may die without a new checkpoint in between.
            on_event: called here, in the driver, for each event.
            work: what is done in the place of training.

        Raises:
            Exception: what `search` raised, once the tasks that ran have ended.
            WorkersLost: there are no workers any more, or none can start.
            KeyboardInterrupt: Ctrl-C.
        """


def open_executor(cluster: Cluster, say: Say) -> AbstractContextManager[Executor]:
    """Start the workers that the cluster's file names; leaving the context ends them.

    Args:
        say: is told what is waited for, if it takes long.

    Raises:
        SettingsError: not one worker fits.
        WorkersLost: Ray cannot be started, or reached.
    """
    # Imported here: who trains in this process need not have Ray, and bad input need not wait for it.
    if cluster.executor == "inprocess":
        from sweep.running import in_process

        return in_process.session()
    from sweep.running import tune

    return tune.session(cluster, say)


def describe(cluster: Cluster, doing: str = "training") -> str:
    """Name what `open_executor` will start, for a sentence."""
    return f"{doing} in this process" if cluster.executor == "inprocess" else "Ray and the workers"


def resources(cluster: Cluster) -> dict[str, float]:
    """Return what one worker takes, by Ray's names."""
    return {name: amount for name, key in KEYS.items() if (amount := getattr(cluster, key))}


def cores(cluster: Cluster) -> int | None:
    """Return how many cores a Ray of this machine alone is to have for the workers; None: as many as there are."""
    a_run = cluster.accelerators_per_run * max(1, cluster.cpus_per_worker)
    return cluster.workers * a_run if cluster.workers else None


def workers_that_fit(nodes: Sequence[Mapping[str, float]], wanted: Mapping[str, float]) -> int:
    """Return how many workers the nodes hold, each of which takes `wanted` of one of them."""
    return sum(int(min(node.get(name, 0) // amount for name, amount in wanted.items())) for node in nodes)


def check_fit(nodes: Sequence[Mapping[str, float]], wanted: Mapping[str, float], at_least: int = 1) -> None:
    """Refuse workers that are larger than every node, or so many that share a model.

    Raises:
        SettingsError: not so many fit.
    """
    if not wanted:
        return
    fitting = workers_that_fit(nodes, wanted)
    if fitting >= at_least:
        return
    if fitting:
        each = ", ".join(f"{amount:g} {name}" for name, amount in wanted.items())
        raise SettingsError(
            f"cluster.accelerators_per_run is {at_least}, but there is room for {fitting} workers, "
            f"each of which takes {each}"
        )
    most = {name: max((node.get(name, 0) for node in nodes), default=0) for name in wanted}
    asked = ", ".join(f"cluster.{KEYS[name]} is {amount:g}" for name, amount in wanted.items())
    there = ", ".join(f"{amount:g} {name}" for name, amount in most.items())
    raise SettingsError(f"not one worker fits: {asked}, but a node has at most {there}")


def may_grow(autoscaling_status: bytes | None) -> bool:
    """Say whether the cluster has an autoscaler, by its monitor's words: without one a node's type is its own id."""
    report = json.loads(autoscaling_status or b"{}").get("autoscaler_report", {})
    return not all(name.startswith("node_") for name in report.get("active_nodes", {}))
