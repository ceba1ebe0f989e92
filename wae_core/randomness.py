"""Every random number of a run, from a stream that its purpose names: resumed or not, a run draws the same."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wae_core.device import generator_device
from wae_core.run import Run

# How many draws StepDraws makes at once. They are part of a run's definition: other values give other draws.
BLOCK_NUMBERS = 2**22
MOST_STEPS = 100


class Streams:
    """The random streams of one run, keyed by (study seed, algorithm, index, seed, phase, step, purpose).

    No stream has a state that outlives a call, so a training checkpoint need not hold any.
    """

    def __init__(self, run: Run, device: torch.device) -> None:
        self._key = f"{run.study_seed}/{run.algorithm}/{run.config_index}/{run.seed}"
        self._device = device
        self._generator = torch.Generator(generator_device(device))

    def generator(self, phase: str, step: int, purpose: str) -> torch.Generator:
        """The generator of one stream at its beginning. The next call rewinds the same object: draw at once.

        On the CPU torch's generator takes the low 32 bits of the seed.
        """
        digest = hashlib.sha256(f"{self._key}/{phase}/{step}/{purpose}".encode()).digest()
        return self._generator.manual_seed(int.from_bytes(digest[:8], "big") >> 1)

    def normal(self, shape: Sequence[int], phase: str, step: int, purpose: str) -> Tensor:
        """Standard normal draws of `shape`, float32, on the run's device."""
        generator = self.generator(phase, step, purpose)
        return torch.randn(*shape, generator=generator, device=generator.device).to(self._device)

    def truncated_normal(self, shape: Sequence[int], phase: str, step: int, purpose: str) -> Tensor:
        """Standard normal draws of `shape`, cut off at ±2, float32, on the run's device."""
        generator = self.generator(phase, step, purpose)
        draws = torch.rand(*shape, generator=generator, device=generator.device)
        # By the inverse distribution function: torch's own initialiser waits for the device to reject draws.
        draws.mul_(2).sub_(1).mul_(math.erf(math.sqrt(2))).erfinv_().mul_(math.sqrt(2))
        return draws.to(self._device)

    def permutation(self, n: int, phase: str, step: int, purpose: str) -> Tensor:
        """A random order of n items, int64 [n], on the run's device."""
        generator = self.generator(phase, step, purpose)
        return torch.randperm(n, generator=generator, device=generator.device).to(self._device)


class StepDraws:
    """Normal draws for the steps of a pack, several steps at once: a step's launches do not grow with the members.

    `input`, the pixel noise, is cut off at ±2; the others are standard normal.
    """

    def __init__(self, streams: Sequence[Streams], shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> None:
        self._streams, self._shapes, self._dtype = streams, shapes, dtype
        self._blocks: dict[str, tuple[int, Tensor]] = {}

    def at(self, step: int) -> dict[str, Tensor]:
        """The draws of a step (1, 2, …) by purpose, each [K, *shape]."""
        return {purpose: self._at(step, purpose, shape) for purpose, shape in self._shapes.items()}

    def _at(self, step: int, purpose: str, shape: tuple[int, ...]) -> Tensor:
        steps = min(MOST_STEPS, max(1, BLOCK_NUMBERS // math.prod(shape)))
        number, position = divmod(step - 1, steps)
        if purpose not in self._blocks or self._blocks[purpose][0] != number:
            self._blocks.pop(purpose, None)  # two blocks at a time need not be in memory
            draws = [
                (own.truncated_normal if purpose == "input" else own.normal)(
                    (steps, *shape), "train", number, purpose
                )
                for own in self._streams
            ]
            self._blocks[purpose] = number, torch.stack(draws).to(self._dtype)
        return self._blocks[purpose][1][:, position]
