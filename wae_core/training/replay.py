"""A training step captured once as a CUDA graph and replayed: one launch in the place of hundreds."""

from __future__ import annotations

from collections.abc import Callable

import torch

WARM_UP_STEPS = 3  # before the capture: libraries choose their algorithms and allocate then, which a capture must not


class Replayed:
    """`step.take`, which launches the same each time, behind one launch from its fourth call on.

    A capture records and computes nothing, so no step is taken twice. For a small network, a step's launches take
    longer than its arithmetic.
    """

    def __init__(self, take: Callable[[], None]) -> None:
        self._take = take
        self._taken = 0
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        """Take a step."""
        if self._taken < WARM_UP_STEPS:
            self._taken += 1
            self._take_aside()
            return
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self._graph):
                self._take()
        self._graph.replay()

    def _take_aside(self) -> None:
        """Take a step on a stream of its own, as a capture must be preceded by."""
        main, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(main)
        with torch.cuda.stream(aside):
            self._take()
        main.wait_stream(aside)
