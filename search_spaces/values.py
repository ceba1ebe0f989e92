"""Reads the values of a hyperparameter's domain: typed, or refused with what is allowed."""

from __future__ import annotations

import math

import yaml

from search_spaces.sentences import SpaceError, show
from wae_core.domains import LONGEST_LIST, Domain, PositiveNumber, Text, Value


def read_value(value: object, domain: Domain, place: str) -> Value:
    """`value` as the domain's type; SpaceError, starting with `place`, where the domain does not have it."""
    if not domain.accepts(value):
        hint = "" if isinstance(domain, Text) else _number_hint(value)
        raise SpaceError(f"{place} is {show(value)}, and must be {domain.allowed}{hint}")
    is_real = isinstance(domain, PositiveNumber)
    return float(value) if is_real else value  # type: ignore[arg-type,return-value]  # as accepted above


def read_values(values: object, domain: Domain, place: str) -> tuple[Value, ...]:
    """A list of one to LONGEST_LIST values of the domain, each once; SpaceError, starting with `place`, otherwise."""
    if not isinstance(values, list) or not values:
        raise SpaceError(
            f"{place} is {show(values)}, and must be a list of at least one value, each {domain.allowed}"
        )
    if len(values) > LONGEST_LIST:
        raise SpaceError(
            f"{place} are {len(values)}, and must be at most {LONGEST_LIST}: an interval has more of them"
        )
    read: list[Value] = []
    for value in values:
        typed = read_value(value, domain, f"{place}: one")
        if typed in read:
            raise SpaceError(f"{place} has {show(value)} twice, and each value must stand there once")
        read.append(typed)
    return tuple(read)


def _number_hint(value: object) -> str:
    """What to write for a number that is read as text: '8' in quotes, 010, 1_000."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return ""
    written = yaml.safe_dump(int(number) if number.is_integer() else number).split()[0]
    return f" (it is read as text: write {written})" if math.isfinite(number) else ""
