"""Figures and lists in the words of a report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from analysis.uncertainty import Interval


def show(interval: Interval) -> str:
    """Return an interval for a sentence: the value, and its 95 % bounds in brackets."""
    return f"{number(interval.value)} [{number(interval.low)}, {number(interval.high)}]"


def number(value: float) -> str:
    """Return a figure with as many digits as are read."""
    if not np.isfinite(value):
        return "–" if np.isnan(value) else "∞"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:,.1f}"


def listed(names: Sequence[str], word: str = "and") -> str:
    """Return the names as a sentence lists them."""
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last
