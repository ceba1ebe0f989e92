"""The executor without Ray: tasks are trained one after the other, in this very process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch

from sweep.events import Search, Started, WorkerContext
from sweep.running.executor import Tell, Work
from sweep.running.worker import pack_rates, run_task
from wae_core.run import Run
from wae_core.training.throughput import Packing


class InProcess:
    """One worker: the driver itself. It implements `Executor`."""

    workers = 1

    def measure(self, run: Run, sizes: Sequence[int], context: WorkerContext) -> dict[Packing, float]:
        return pack_rates(run, sizes, context)

    def train(
        self, search: Search, context: WorkerContext, deaths_allowed: int, on_event: Tell, work: Work = run_task
    ) -> None:
        while task := search.next():
            for run in task.runs:
                on_event(Started(run))
            for event in work(task, context):
                on_event(event)


@contextlib.contextmanager
def session() -> Iterator[InProcess]:
    """Train with one thread, as workers do, so that results are the same as theirs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield InProcess()
    finally:
        torch.set_num_threads(threads)
