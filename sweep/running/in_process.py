"""The executor without Ray: tasks are trained one after the other, in this very process."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence

import torch

from sweep.events import Search, Started, WorkerContext
from sweep.running.executor import Tell, Work
from sweep.running.handout import Handout
from sweep.running.nodes.census import Census, Node
from sweep.running.worker import pack_rates, run_task
from sweep.settings.settings import FailurePolicy
from wae_core.device import describe, select_device
from wae_core.run import Run
from wae_core.training.throughput import Packing

ME = "me"  # the one worker's name


class InProcess:
    """One worker: the driver itself. It implements `Executor`."""

    has_several = False

    def __init__(self, context: WorkerContext) -> None:
        self._context = context

    @property
    def device(self) -> str:
        return describe(select_device(self._context.device))

    def measure(self, run: Run, sizes: Sequence[int], context: WorkerContext) -> dict[Packing, float]:
        return pack_rates(run, sizes, context)

    def train(
        self, search: Search, context: WorkerContext, failures: FailurePolicy, on_event: Tell, work: Work = run_task
    ) -> None:
        host = socket.gethostname()
        here = [(Node(host, host, host, {}),)]
        handout = Handout(search, failures, Census({}, 1, 1, lambda sentence: None), on_event)
        while task := handout.next(ME, here):
            for run in task.runs:
                handout.note(ME, Started(run))
            for event in work(task, context):
                handout.note(ME, event)
            handout.end(ME)
        if handout.error is not None:
            raise handout.error


@contextlib.contextmanager
def session(context: WorkerContext) -> Iterator[InProcess]:
    """Train with one thread, as workers do, so that results are the same as theirs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield InProcess(context)
    finally:
        torch.set_num_threads(threads)
