"""What torch dispatches within a block, counted: on an accelerator, its launches."""

from __future__ import annotations

from collections import Counter
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# They allocate or look at memory in another way; whatever else is dispatched launches a kernel on an accelerator.
WITHOUT_KERNEL = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view")


class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operators.

    Attributes:
        dispatched: all of them, views included, by operator and overload.
        launches: those that launch a kernel, by operator.
        convolved: what convolutions were given: maps and filters, [n, C, h, w].
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dispatched: Counter[str] = Counter()
        self.launches: Counter[str] = Counter()
        self.convolved: list[list[Tensor]] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        self.dispatched[str(function)] += 1
        if not function.is_view and name not in WITHOUT_KERNEL:
            self.launches[name] += 1
        if "convolution" in name:
            self.convolved.append([arg for arg in args if isinstance(arg, Tensor) and arg.ndim == 4])
        return function(*args, **(kwargs or {}))
