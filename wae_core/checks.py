"""Checks of single values; each returns the value, or refuses it in one sentence: KEY is VALUE, but it is …"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wae_core.domains import LARGEST_COUNT, LARGEST_NUMBER, LONGEST_LIST, SMALLEST_NUMBER
from wae_core.names import NAME

POSITIVE = f"a number above 0 (from {SMALLEST_NUMBER:g} to {LARGEST_NUMBER:g})"
WORD = "a word of lower-case letters, digits, '-' and '_' alone"


def integer(key: str, value: object, minimum: int, maximum: int = LARGEST_COUNT) -> int:
    """Return a whole number from `minimum` to `maximum`; raises ValueError."""
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise _refusal(key, value, whole_number(minimum, maximum))
    return value


def whole_number(minimum: int, maximum: int = LARGEST_COUNT) -> str:
    """Return the words for what is allowed."""
    return f"a whole number of at least {minimum} and at most {maximum}"


def positive(key: str, value: object) -> float:
    """Return a number above 0 and within the bounds of real numbers, as a float; raises ValueError."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not _is_usable(value):
        raise _refusal(key, value, POSITIVE)
    return float(value)


def non_negative(key: str, value: object) -> float:
    """Return 0, or a number as `positive` has it, as a float; raises ValueError."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not (value == 0 or _is_usable(value)):
        raise _refusal(key, value, f"a number of at least 0 and at most {LARGEST_NUMBER:g}")
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
    if len(value) > LONGEST_LIST:
        raise ValueError(f"{key} has {len(value)} items, but it is a list of at most {LONGEST_LIST}")
    return value


def file(key: str, path: Path) -> Path:
    """Return the path of a file, or of nothing; raises ValueError where a pipe or device would be read for ever."""
    if path.exists() and not path.is_file():
        raise ValueError(f"{key} is {str(path)!r}, but it is a file, and no {_kind_of_file(path)}")
    return path


def _kind_of_file(path: Path) -> str:
    return "folder" if path.is_dir() else "pipe, socket or device"


def _is_usable(value: float) -> bool:
    return SMALLEST_NUMBER <= value <= LARGEST_NUMBER  # NaN fails both comparisons


def _refusal(key: str, value: object, allowed: str) -> ValueError:
    return ValueError(f"{key} is {value!r}, but it is {allowed}")
