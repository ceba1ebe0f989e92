"""What one hyperparameter may be: the domain of its values and the distribution that they are drawn from."""

from __future__ import annotations

import difflib
import math
import reprlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import yaml

Value = int | float | str


class SpaceError(ValueError):
    """A search space, or a question to it, that is not valid; the message says what is allowed."""


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


@dataclass(frozen=True)
class Choice:
    """Each of `values` with equal probability."""

    name: ClassVar[str] = "choice"
    values: tuple[Value, ...]

    @property
    def support(self) -> tuple[Value, ...]:
        """Every value that can be drawn."""
        return self.values

    def draw(self, u: float) -> Value:
        """The value at u in [0, 1)."""
        return self.values[int(u * len(self.values))]


@dataclass(frozen=True)
class Uniform:
    """Uniform on [low, high]."""

    name: ClassVar[str] = "uniform"
    low: float
    high: float

    @property
    def support(self) -> tuple[Value, ...]:
        """The two ends of what can be drawn."""
        return (self.low, self.high)

    def draw(self, u: float) -> float:
        """The quantile of u in [0, 1), to 6 significant digits."""
        return _readable(self.low + u * (self.high - self.low), self.low, self.high)


@dataclass(frozen=True)
class LogUniform:
    """The logarithm is uniform on [log low, log high]; 0 < low."""

    name: ClassVar[str] = "log_uniform"
    low: float
    high: float

    @property
    def support(self) -> tuple[Value, ...]:
        """The two ends of what can be drawn."""
        return (self.low, self.high)

    def draw(self, u: float) -> float:
        """The quantile of u in [0, 1), to 6 significant digits."""
        log_low, log_high = math.log(self.low), math.log(self.high)
        return _readable(math.exp(log_low + u * (log_high - log_low)), self.low, self.high)


@dataclass(frozen=True)
class Fixed:
    """Always `value`."""

    name: ClassVar[str] = "fixed"
    value: Value

    @property
    def support(self) -> tuple[Value, ...]:
        """The one value."""
        return (self.value,)

    def draw(self, u: float) -> Value:
        """The value, whatever u is."""
        return self.value


Distribution = Choice | Uniform | LogUniform | Fixed
# Each distribution's parameters, which are the keys of its line in the YAML file.
PARAMETERS = {kind.name: tuple(f.name for f in fields(kind)) for kind in (Choice, Uniform, LogUniform, Fixed)}


def _readable(x: float, low: float, high: float) -> float:
    # 6 digits can be read and retyped, and they hide the last bit, in which machines' exp and log differ.
    return min(max(float(f"{x:.6g}"), low), high)


def show(value: object) -> str:
    """The value for an error message; bounded, since YAML aliases can nest a small file into a huge value."""
    short = reprlib.Repr()
    short.maxlevel = 2
    return short.repr(value)


def closest(word: object, known: Iterable[str]) -> str:
    """A hint at the known word that `word` resembles most; empty where none does."""
    matches = difflib.get_close_matches(word, known, n=1) if isinstance(word, str) else []
    return f" (did you mean {matches[0]}?)" if matches else ""


def read_value(value: object, domain: Domain, place: str) -> Value:
    """`value` as the domain's type; SpaceError, starting with `place`, where the domain does not have it."""
    if not domain.accepts(value):
        hint = "" if isinstance(domain, Text) else _number_hint(value)
        raise SpaceError(f"{place} is {show(value)}, and must be {domain.allowed}{hint}")
    is_real = isinstance(domain, PositiveNumber)
    return float(value) if is_real else value  # type: ignore[arg-type,return-value]  # as accepted above


def _number_hint(value: object) -> str:
    """What to write for a number that YAML 1.1 reads as text: 1e-5 (it lacks a point), 1.0e5 (a sign)."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return ""
    written = yaml.safe_dump(int(number) if number.is_integer() else number).split()[0]
    return f" (YAML reads it as text: write {written})" if math.isfinite(number) else ""


def read_distribution(line: dict[Any, Any], domain: Domain, place: str) -> Distribution:
    """The distribution that a hyperparameter's line declares.

    `line` has a known `distribution` and exactly its PARAMETERS; their values are checked here, and a
    SpaceError starts with `place`.
    """
    name = line["distribution"]
    if name == "fixed":
        return Fixed(read_value(line["value"], domain, f"{place}: value"))
    if name == "choice":
        return Choice(_read_values(line["values"], domain, f"{place}: values"))
    if not isinstance(domain, PositiveNumber):
        raise SpaceError(
            f"{place}: distribution {name} draws real numbers, and each value must be {domain.allowed}: "
            "write distribution: choice or fixed"
        )
    low = float(read_value(line["low"], domain, f"{place}: low (of {name})"))
    high = float(read_value(line["high"], domain, f"{place}: high (of {name})"))
    if low == high:
        raise SpaceError(f"{place}: low and high are both {low}, a range of zero width: write distribution: fixed")
    if low > high:
        raise SpaceError(f"{place}: low is {low} and high is {high}, and low must be below high")
    return Uniform(low, high) if name == "uniform" else LogUniform(low, high)


def _read_values(values: object, domain: Domain, place: str) -> tuple[Value, ...]:
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
