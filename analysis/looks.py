"""How the figures look: each algorithm's marks and curves, the page's fonts and lines, the FID axis."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from sweep.results.schema import COMPLETED
from wae_core.algorithms.algorithm import Look
from wae_core.algorithms.registry import ALGORITHMS

LOOKS = {name: algorithm.look for name, algorithm in ALGORITHMS.items()}  # in the order of the figures
KEY = Look("#666666")  # for legends that hold for every algorithm
WHOLE, STOPPED, LOST = "whole", "stopped early", "diverged or failed"  # what became of a run
WIDTH = 6.8  # inches, the text width of a page
STYLE: dict[Any, Any] = {
    "figure.dpi": 150,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "legend.frameon": False,
    "legend.fontsize": 7,
}


def dots(look: Look, *, is_open: bool = False, size: float = 3.5) -> dict[str, Any]:
    """Line2D properties of separate points, filled or open; `size` in points."""
    face = "white" if is_open else look.color
    return {"ls": "", "marker": look.marker, "ms": size, "mfc": face, "mec": look.color, "mew": 0.23 * size}


def pale_dots(look: Look, *, size: float = 3.5) -> dict[str, Any]:
    """Line2D properties of points that are lighter than the look's own colour."""
    face = tuple(0.3 * part + 0.7 for part in to_rgb(look.color))
    return {"ls": "", "marker": look.marker, "ms": size, "mfc": face, "mec": look.color, "mew": 0.08 * size}


def crosses(look: Look) -> dict[str, Any]:
    """Line2D properties of crosses, which may lie on an axis or beyond it."""
    return {"ls": "", "marker": "x", "ms": 3.5, "color": look.color, "mew": 0.9, "clip_on": False}


def fates(runs: pd.DataFrame) -> np.ndarray:
    """[runs] of each row: WHOLE where all its steps were trained, STOPPED where they were cut by design, or LOST."""
    lost = runs["status"] != COMPLETED
    return np.where(lost, LOST, np.where(runs["steps_done"] < runs["steps_planned"], STOPPED, WHOLE))


def draw_runs(
    axes: Axes, look: Look, x: np.ndarray, y: np.ndarray, *, fates: np.ndarray, fids: Literal["x", "y"]
) -> None:
    """One mark a run: filled; pale where it was stopped early; open where it diverged or failed later.

    Without an FID it is a cross beyond the axis' end. x, y [n]: positions; the one along the axis `fids` is an FID,
    not finite if there is none. fates [n].
    """
    known = np.isfinite(x if fids == "x" else y)
    size = 3.5 * min(1, 100 / max(1, len(x))) ** 0.25  # hundreds of runs stay apart
    marks = {
        WHOLE: dots(look, size=size),
        STOPPED: pale_dots(look, size=size),
        LOST: dots(look, is_open=True, size=size),
    }
    for fate, mark in marks.items():
        chosen = known & (fates == fate)
        axes.plot(x[chosen], y[chosen], alpha=0.75, **mark)
    if known.all():  # an empty line would upset the layout
        return
    end = np.full(np.sum(~known), 1.02)
    if fids == "x":
        axes.plot(end, y[~known], transform=axes.get_yaxis_transform(), **crosses(look))
    else:
        axes.plot(x[~known], end, transform=axes.get_xaxis_transform(), **crosses(look))


def run_keys(runs: pd.DataFrame) -> list[Line2D]:
    """The legend of what `draw_runs` draws otherwise than as a run that has completed."""
    there = set(fates(runs))
    keys = []
    if STOPPED in there:
        keys.append(Line2D([], [], label="stopped early", **pale_dots(KEY)))
    if LOST in there:
        keys.append(Line2D([], [], label="diverged or failed later", **dots(KEY, is_open=True)))
    if runs["best_fid"].isna().any():
        keys.append(Line2D([], [], label="without an FID", **crosses(KEY)))
    return keys


def spread(count: int) -> np.ndarray:
    """[count] in [−½, ½): multiples of the golden ratio, mod 1, so that neighbours lie apart without chance."""
    return (np.arange(count) * 0.618034 + 0.5) % 1 - 0.5


def scale_fid(axes: Axes, which: Literal["x", "y"], fids: pd.Series[float]) -> None:
    """A log axis, with so many numbers that one sees it is one; a linear one where FIDs lie within a factor of 5."""
    if not fids.max() >= 5 * fids.min():  # also where there is none
        return
    axes.set(**{f"{which}scale": "log"})
    axis = {"x": axes.xaxis, "y": axes.yaxis}[which]
    axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axis.set_major_formatter(FuncFormatter(lambda fid, _: f"{fid:,g}"))
    axis.set_minor_locator(NullLocator())
