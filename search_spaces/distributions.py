"""What a hyperparameter's values are drawn from: a choice, an interval (with or without a step), a fixed value."""

from __future__ import annotations

import math
from dataclasses import MISSING, dataclass, fields
from fractions import Fraction
from typing import Any, ClassVar, Self

from search_spaces.sentences import SpaceError
from search_spaces.values import read_value, read_values
from wae_core.domains import Domain, PositiveNumber, Text, Value, WholeNumber

LARGEST_ON_GRID = 2**53  # the whole numbers up to here are exact as floats


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

    def within(self, low: float, high: float) -> Choice | None:
        """The same choice among the values in [low, high]; None where there is none."""
        kept = tuple(value for value in self.values if not isinstance(value, str) and low <= value <= high)
        return Choice(kept) if kept else None


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

    def within(self, low: float, high: float) -> Fixed | None:
        """Itself where its value is in [low, high], else None."""
        return self if not isinstance(self.value, str) and low <= self.value <= high else None


@dataclass(frozen=True)
class _Interval:
    """The values of [low, high]; with a step only low, low + step, …, high.

    Then the values are distributed as those on [low, high + step), rounded down to one of these values.
    """

    low: float
    high: float
    step: float | None = None

    @property
    def support(self) -> tuple[Value, ...]:
        """The two ends of what can be drawn."""
        return (self.low, self.high)

    def draw(self, u: float) -> int | float:
        """The quantile of u in [0, 1): to 6 significant digits, or, with a step, exactly a value of the grid."""
        if self.step is None:
            # 6 digits can be read and retyped, and they hide the last bit, in which machines' exp and log differ.
            return min(max(_rounded(self._quantile(u, self.high), 6), self.low), self.high)
        x = _rounded(self._quantile(u, self.high + self.step), 12)
        last = round((self.high - self.low) / self.step)
        return self._on_grid(min(max(int((x - self.low) / self.step), 0), last))

    def within(self, low: float, high: float) -> Self | None:
        """The distribution given that the value is in [low, high]; None where none of its values is."""
        low, high = max(low, self.low), min(high, self.high)
        if low > high:
            return None
        if self.step is None:
            return type(self)(float(low), float(high))
        first, last = (_exact(end) - _exact(self.low) for end in (low, high))
        step = _exact(self.step)
        lowest, highest = math.ceil(first / step), math.floor(last / step)
        if lowest > highest:
            return None
        return type(self)(self._on_grid(lowest), self._on_grid(highest), self.step)

    def _on_grid(self, number: int) -> int | float:
        """low + number · step as it is written in decimals: 0.1 + 2 · 0.1 is 0.3."""
        value = _exact(self.low) + number * _exact(self.step or 0)
        return int(value) if isinstance(self.low, int) else float(value)

    def _quantile(self, u: float, end: float) -> float:
        raise NotImplementedError


@dataclass(frozen=True)
class Uniform(_Interval):
    """Uniform on [low, high]."""

    name: ClassVar[str] = "uniform"

    def _quantile(self, u: float, end: float) -> float:
        return self.low + u * (end - self.low)


@dataclass(frozen=True)
class LogUniform(_Interval):
    """The logarithm is uniform on [log low, log high]; 0 < low."""

    name: ClassVar[str] = "log_uniform"

    def _quantile(self, u: float, end: float) -> float:
        log_low, log_end = math.log(self.low), math.log(end)
        return math.exp(log_low + u * (log_end - log_low))


Distribution = Choice | Uniform | LogUniform | Fixed
# Each distribution's parameters, which are the keys of its line in the YAML file: those it needs, and all.
KINDS = (Choice, Uniform, LogUniform, Fixed)
PARAMETERS = {kind.name: tuple(f.name for f in fields(kind) if f.default is MISSING) for kind in KINDS}
ALL_PARAMETERS = {kind.name: tuple(f.name for f in fields(kind)) for kind in KINDS}


def read_distribution(line: dict[Any, Any], domain: Domain, place: str) -> Distribution:
    """The distribution that a hyperparameter's line declares.

    `line` has a known `distribution`, its PARAMETERS and none but ALL_PARAMETERS; their values are checked here, and
    a SpaceError starts with `place`.
    """
    name = line["distribution"]
    if name == "fixed":
        return Fixed(read_value(line["value"], domain, f"{place}: value"))
    if name == "choice":
        return Choice(read_values(line["values"], domain, f"{place}: values"))
    if isinstance(domain, Text) or (isinstance(domain, WholeNumber) and "step" not in line):
        step = "" if isinstance(domain, Text) else ", or give it a step"
        raise SpaceError(
            f"{place}: distribution {name} draws real numbers, and each value must be {domain.allowed}: "
            f"write distribution: choice or fixed{step}"
        )
    low = _read_number(line["low"], domain, f"{place}: low (of {name})")
    high = _read_number(line["high"], domain, f"{place}: high (of {name})")
    if low == high:
        raise SpaceError(f"{place}: low and high are both {low}, a range of zero width: write distribution: fixed")
    if low > high:
        raise SpaceError(f"{place}: low is {low} and high is {high}, and low must be below high")
    kind = Uniform if name == "uniform" else LogUniform
    return kind(low, high, _read_step(line["step"], low, high, domain, place) if "step" in line else None)


def _read_number(value: object, domain: WholeNumber | PositiveNumber, place: str) -> int | float:
    number = read_value(value, domain, place)
    assert not isinstance(number, str)
    return number


def _read_step(value: object, low: float, high: float, domain: WholeNumber | PositiveNumber, place: str) -> float:
    # A step is a difference: a whole number's may be 1 whatever its own minimum is.
    steps = WholeNumber(1) if isinstance(domain, WholeNumber) else domain
    step = _read_number(value, steps, f"{place}: step")
    if high > LARGEST_ON_GRID:
        raise SpaceError(f"{place}: high is {high}, and with a step it must be at most 2^53")
    count = (_exact(high) - _exact(low)) / _exact(step)
    if count < 1 or step < 1e-6 * high:
        raise SpaceError(
            f"{place}: step is {step}, and must be at most high - low and at least a millionth of high ({high})"
        )
    if count.denominator != 1:
        last = _exact(low) + int(count) * _exact(step)
        written = int(last) if isinstance(high, int) else float(last)
        raise SpaceError(
            f"{place}: high is {high}, which steps of {step} from {low} do not meet: the last below it is {written}"
        )
    return step


def _exact(x: float) -> Fraction:
    """The number that `x` is written as."""
    return Fraction(x) if isinstance(x, int) else Fraction(repr(x))


def _rounded(x: float, digits: int) -> float:
    return float(f"{x:.{digits}g}")
