"""The domains of a hyperparameter's values: whole numbers, positive numbers, text."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import ClassVar

Value = int | float | str


@dataclass(frozen=True)
class WholeNumber:
    """The integers from `minimum` up; a bool is not one."""

    minimum: int

    @property
    def allowed(self) -> str:
        return f"a whole number (no decimal point), at least {self.minimum}"

    def accepts(self, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= self.minimum


@dataclass(frozen=True)
class PositiveNumber:
    """The finite real numbers above 0."""

    allowed: ClassVar[str] = "a finite number above 0"

    def accepts(self, value: object) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        return 0 < value <= sys.float_info.max  # NaN fails both comparisons


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
