"""Where tasks are trained: what a launch asks of Ray Tune, and of this very process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from sweep.events import Event, Search, WorkerContext
from sweep.settings.settings import Cluster
from wae_core.run import Run


class Executor(Protocol):
    """Workers that are ready.

    Attributes:
        workers: how many tasks are trained at a time.
    """

    workers: int

    def measure(self, run: Run, sizes: Sequence[int], context: WorkerContext) -> dict[int, float]:
        """Return models per hour by pack size, measured on one worker."""

    def train(
        self, search: Search, context: WorkerContext, deaths_allowed: int, on_event: Callable[[Event], None]
    ) -> None:
        """Train what the search hands out, until it has no more.

        Args:
            deaths_allowed: how often a run's worker may die without a new checkpoint in between.
            on_event: called here, in the driver, for each event.

        Raises:
            Exception: what `search` raised, once the tasks that ran have ended.
            KeyboardInterrupt: Ctrl-C.
        """


def open_executor(cluster: Cluster) -> AbstractContextManager[Executor]:
    """Start the workers that the cluster's file names; leaving the context ends them."""
    # Imported here: who trains in this process need not have Ray, and bad input need not wait for it.
    if cluster.executor == "inprocess":
        from sweep.running import in_process

        return in_process.session()
    from sweep.running import tune

    return tune.session(cluster)


def describe(cluster: Cluster) -> str:
    """Name what `open_executor` will start, for a sentence."""
    return "training in this process" if cluster.executor == "inprocess" else "Ray and the workers"
