"""Every random number of a run, from a stream that its purpose names: resumed or not, a run draws the same."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wae_core.device import eager_device
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
        self.device = device
        self._generator = torch.Generator(eager_device(device))

    def generator(self, phase: str, step: int, purpose: str) -> torch.Generator:
        """The generator of one stream at its beginning. The next call rewinds the same object: draw at once.

        On the CPU torch's generator takes the low 32 bits of the seed.
        """
        digest = hashlib.sha256(f"{self._key}/{phase}/{step}/{purpose}".encode()).digest()
        return self._generator.manual_seed(int.from_bytes(digest[:8], "big") >> 1)

    def normal(self, shape: Sequence[int], phase: str, step: int, purpose: str) -> Tensor:
        """Standard normal draws of `shape`, float32, on the run's device."""
        generator = self.generator(phase, step, purpose)
        return torch.randn(*shape, generator=generator, device=generator.device).to(self.device)

    def truncated_normal(self, shape: Sequence[int], phase: str, step: int, purpose: str) -> Tensor:
        """Standard normal draws of `shape`, cut off at ±2, float32, on the run's device."""
        generator = self.generator(phase, step, purpose)
        draws = torch.rand(*shape, generator=generator, device=generator.device)
        # By the inverse distribution function: torch's own initialiser waits for the device to reject draws.
        draws.mul_(2).sub_(1).mul_(math.erf(math.sqrt(2))).erfinv_().mul_(math.sqrt(2))
        return draws.to(self.device)

    def permutation(self, n: int, phase: str, step: int, purpose: str) -> Tensor:
        """A random order of n items, int64 [n], on the run's device."""
        generator = self.generator(phase, step, purpose)
        return torch.randperm(n, generator=generator, device=generator.device).to(self.device)


class StepDraws:
    """Normal draws for the steps of a pack, several steps at once: a step's launches do not grow with the members.

    `input`, the pixel noise, is cut off at ±2; the others are standard normal.
    """

    def __init__(self, streams: Sequence[Streams], shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype) -> None:
        self._streams = streams
        self._blocks = {
            purpose: torch.empty(
                len(streams), _steps_in_a_block(shape), *shape, dtype=dtype, device=streams[0].device
            )
            for purpose, shape in shapes.items()
        }
        self._numbers: dict[str, int] = {}

    def prepare(self, step: int) -> None:
        """Draw the blocks that hold the draws of a step (1, 2, …), where they are not there."""
        for purpose, block in self._blocks.items():
            number = (step - 1) // block.shape[1]
            if self._numbers.get(purpose) != number:
                self._numbers[purpose] = number
                for own, draws in zip(self._streams, block, strict=True):
                    draw = own.truncated_normal if purpose == "input" else own.normal
                    draws.copy_(draw(draws.shape, "train", number, purpose))

    def at(self, steps_done: Tensor) -> dict[str, Tensor]:
        """The draws of a prepared step by purpose, each [K, *shape].

        Args:
            steps_done: [1] int64 on the device, the number of the steps before it.
        """
        return {
            purpose: block.index_select(1, steps_done % block.shape[1]).squeeze(1)
            for purpose, block in self._blocks.items()
        }


def _steps_in_a_block(shape: tuple[int, ...]) -> int:
    return min(MOST_STEPS, max(1, BLOCK_NUMBERS // math.prod(shape)))
