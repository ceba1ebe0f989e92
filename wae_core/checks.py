"""Checks of single values; each returns the value, or refuses it in one sentence: KEY is VALUE, but it is …"""

from __future__ import annotations

from collections.abc import Sequence

from wae_core.names import NAME

WORD = "a word of lower-case letters, digits, '-' and '_' alone"


def integer(key: str, value: object, minimum: int) -> int:
    """Return a whole number of at least `minimum`; raises ValueError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise _refusal(key, value, f"a whole number of at least {minimum}")
    return value


def positive(key: str, value: object) -> float:
    """Return a finite number above 0, as a float; raises ValueError."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise _refusal(key, value, "a number above 0")
    return float(value)


def non_negative(key: str, value: object) -> float:
    """Return a finite number of at least 0, as a float; raises ValueError."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
        raise _refusal(key, value, "a number of at least 0")
    return float(value)


def boolean(key: str, value: object) -> bool:
    """Return True or False, and no number in its place; raises ValueError."""
    if not isinstance(value, bool):
        raise _refusal(key, value, "true or false")
    return value


def one_of(key: str, value: object, allowed: Sequence[str]) -> str:
    """Return a word of `allowed`; raises ValueError."""
    if value not in allowed:
        raise _refusal(key, value, f"one of {', '.join(allowed)}")
    return str(value)


def name(key: str, value: object) -> str:
    """Return a word that may become part of a path; raises ValueError."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise _refusal(key, value, WORD)
    return value


def items(key: str, value: object, example: str) -> tuple[object, ...]:
    """Return the items of a list, which is a tuple here; raises ValueError, with an `example` of such a list."""
    if not isinstance(value, tuple):
        raise _refusal(key, value, f"a list, e.g. {example}")
    return value


def _refusal(key: str, value: object, allowed: str) -> ValueError:
    return ValueError(f"{key} is {value!r}, but it is {allowed}")
