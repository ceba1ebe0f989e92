"""Checks of single values from the user; each returns the value or raises one sentence that names the key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeGuard

from sweep.errors import SettingsError


def one_of(key: str, value: object, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise SettingsError(f"{key} is {value!r}, but it is one of {', '.join(allowed)}")
    return str(value)


def integer(key: str, value: object, minimum: int, meaning: str = "") -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        wanted = f"a whole number of at least {minimum}" + (f" ({meaning})" if meaning else "")
        raise SettingsError(f"{key} is {value!r}, but it is {wanted}")
    return value


def positive(key: str, value: object) -> float:
    if not _is_number(value) or not 0 < value < float("inf"):
        raise SettingsError(f"{key} is {value!r}, but it is a number above 0")
    return float(value)


def non_negative(key: str, value: object) -> float:
    if not _is_number(value) or not 0 <= value < float("inf"):
        raise SettingsError(f"{key} is {value!r}, but it is a number of at least 0")
    return float(value)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise SettingsError(f"{key} is {value!r}, but it is a text")
    return value


def name(key: str, value: object) -> str:
    """A word that becomes part of a folder's name."""
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", value):
        raise SettingsError(f"{key} is {value!r}, but it has lower-case letters, digits, '-' and '_' alone")
    return value


def boolean(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise SettingsError(f"{key} is {value!r}, but it is true or false")
    return value


def items(key: str, value: object, example: str) -> list[object]:
    if not isinstance(value, list):
        raise SettingsError(f"{key} is {value!r}, but it is a list, e.g. {example}")
    return value
