"""Every random number of a run, from a stream that its purpose names: resumed or not, a run draws the same."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from wae_core.device import generator_device
from wae_core.run import Run


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
        uniform = torch.rand(*shape, generator=generator, device=generator.device)
        # By the inverse distribution function: torch's own initialiser waits for the device to reject draws.
        draws = math.sqrt(2) * torch.erfinv((2 * uniform - 1) * math.erf(math.sqrt(2)))
        return draws.to(self._device)

    def permutation(self, n: int, phase: str, step: int, purpose: str) -> Tensor:
        """A random order of n items, int64 [n], on the run's device."""
        generator = self.generator(phase, step, purpose)
        return torch.randperm(n, generator=generator, device=generator.device).to(self._device)
