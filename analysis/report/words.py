"""Figures and lists in the words of a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from analysis.uncertainty import Interval


def number(value: float) -> str:
    """Return a figure with as many digits as are read."""
    if not np.isfinite(value):
        return "–" if np.isnan(value) else "∞"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:,.1f}"


def share(value: float) -> str:
    """Return a share as a percentage."""
    return f"{value:.1%}"


def show(interval: Interval, word: Callable[[float], str] = number) -> str:
    """Return an interval for a sentence: the value, and its 95 % bounds in brackets, if it has any."""
    bounds = "" if np.isnan(interval.low) else f" [{word(interval.low)}, {word(interval.high)}]"
    return word(interval.value) + bounds


def listed(names: Sequence[str], word: str = "and") -> str:
    """Return the names as a sentence lists them."""
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last
