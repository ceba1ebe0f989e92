"""The domains of a hyperparameter's values: whole numbers, positive numbers, text; and the bound of each kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

Value = int | float | str

# One bound for each kind of number, of settings too. What is beyond it is a slip: it would overflow 64 bits or
# float32, or take all the memory there is, hours later and without a word on where it stood.
LARGEST_COUNT = 10**9  # what is only counted: steps, models, workers
LARGEST_SIZE = 2**16  # of a tensor's dimension: codes, batches, channels
LARGEST_SAMPLE = 10**6  # images that are held at once
LARGEST_SEED = 2**63 - 1
LONGEST_LIST = 1000
SMALLEST_NUMBER, LARGEST_NUMBER = 1e-30, 1e30  # real ones
SMALLEST_FACTOR = 1.01  # of what is divided by it again and again: by one nearer to 1 it goes on for ever


@dataclass(frozen=True)
class WholeNumber:
    """The integers from `minimum` to `maximum`; a bool is not one."""

    minimum: int
    maximum: int = LARGEST_SIZE

    @property
    def allowed(self) -> str:
        return f"a whole number (no decimal point), at least {self.minimum} and at most {self.maximum}"

    def accepts(self, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.minimum <= value <= self.maximum


@dataclass(frozen=True)
class PositiveNumber:
    """The real numbers above 0 that float32 holds with room to spare."""

    allowed: ClassVar[str] = f"a finite number above 0 (from {SMALLEST_NUMBER:g} to {LARGEST_NUMBER:g})"

    def accepts(self, value: object) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return SMALLEST_NUMBER <= value <= LARGEST_NUMBER  # NaN fails both comparisons


@dataclass(frozen=True)
class Text:
    """One of `options`; any string where there are none."""

    options: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        return " or ".join(self.options) or "text"

    def accepts(self, value: object) -> bool:
        return isinstance(value, str) and (not self.options or value in self.options)


Domain = WholeNumber | PositiveNumber | Text
