"""Where tasks are trained: what a launch asks of Ray Tune, and of this very process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol as Face

from sweep.events import Event, Search, Task, WorkerContext
from sweep.results.nodes.book import NodeBook
from sweep.running.worker import run_task
from sweep.settings.settings import Cluster, FailurePolicy
from wae_core.protocol import Protocol
from wae_core.run import Run
from wae_core.training.throughput import Packing

Say = Callable[[str], None]  # tells a person a sentence
Tell = Callable[[Event], None]  # is told what becomes of the runs
Work = Callable[[Task, WorkerContext], Iterator[Event]]  # what a worker does with a task; importable by its name


class Executor(Face):
    """Workers that are ready.

    Attributes:
        has_several: whether more than one task may be done at a time.
        device: the kind of device that most workers have, as rows name it.
    """

    @property
    def has_several(self) -> bool: ...

    @property
    def device(self) -> str: ...

    def measure(self, run: Run, sizes: Sequence[int], context: WorkerContext) -> dict[Packing, float]:
        """Return models per hour by pack size, measured on one worker that has such a device."""

    def train(
        self, search: Search, context: WorkerContext, failures: FailurePolicy, on_event: Tell, work: Work = run_task
    ) -> None:
        """Train what the search hands out, until it has no more.

        Args:
            failures: what a run may meet before it is given up.
            on_event: called here, in the driver, for each event.
            work: what is done in the place of training.

        Raises:
            Exception: what `search` raised, once the tasks that ran have ended.
            WorkersLost: there are no workers any more, or none can start.
            KeyboardInterrupt: Ctrl-C.
        """


def open_executor(
    cluster: Cluster, context: WorkerContext, protocol: Protocol, book: NodeBook, say: Say
) -> AbstractContextManager[Executor]:
    """Start the workers that the cluster's file names; leaving the context ends them.

    Args:
        context, protocol: name what a node must have before it trains.
        book: is told which nodes are left out.
        say: is told what is waited for, if it takes long.

    Raises:
        SettingsError: not one worker fits, or all nodes are left out.
        WorkersLost: Ray cannot be started, or reached.
    """
    # Imported here: who trains in this process need not have Ray, and bad input need not wait for it.
    if cluster.executor == "inprocess":
        from sweep.running import in_process

        return in_process.session(context)
    from sweep.running.connection import session

    return session.session(cluster, context, protocol, book, say)


def describe(cluster: Cluster, doing: str = "training") -> str:
    """Name what `open_executor` will start, for a sentence."""
    return f"{doing} in this process" if cluster.executor == "inprocess" else "Ray and the workers"
