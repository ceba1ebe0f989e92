"""The domains of a hyperparameter's values, and the reading of one value: typed, or refused with what is allowed."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import ClassVar

import yaml

from search_spaces.sentences import SpaceError, show

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


def read_value(value: object, domain: Domain, place: str) -> Value:
    """`value` as the domain's type; SpaceError, starting with `place`, where the domain does not have it."""
    if not domain.accepts(value):
        hint = "" if isinstance(domain, Text) else _number_hint(value)
        raise SpaceError(f"{place} is {show(value)}, and must be {domain.allowed}{hint}")
    is_real = isinstance(domain, PositiveNumber)
    return float(value) if is_real else value  # type: ignore[arg-type,return-value]  # as accepted above


def read_values(values: object, domain: Domain, place: str) -> tuple[Value, ...]:
    """A list of at least one value of the domain, each once; SpaceError, starting with `place`, otherwise."""
    if not isinstance(values, list) or not values:
        raise SpaceError(
            f"{place} is {show(values)}, and must be a list of at least one value, each {domain.allowed}"
        )
    read: list[Value] = []
    for value in values:
        typed = read_value(value, domain, f"{place}: one")
        if typed in read:
            raise SpaceError(f"{place} has {show(value)} twice, and each value must stand there once")
        read.append(typed)
    return tuple(read)


def _number_hint(value: object) -> str:
    """What to write for a number that YAML 1.1 reads as text: 1e-5 (it lacks a point), 1.0e5 (a sign)."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return ""
    written = yaml.safe_dump(int(number) if number.is_integer() else number).split()[0]
    return f" (YAML reads it as text: write {written})" if math.isfinite(number) else ""
