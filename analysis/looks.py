"""How the figures look: each algorithm's marks and curves, the page's fonts and lines, the FID axis."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from wae_core.algorithms.algorithm import Look
from wae_core.algorithms.registry import ALGORITHMS

LOOKS = {name: algorithm.look for name, algorithm in ALGORITHMS.items()}  # in the order of the figures
KEY = Look("#666666")  # for legends that hold for every algorithm
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


def crosses(look: Look) -> dict[str, Any]:
    """Line2D properties of crosses, which may lie on an axis or beyond it."""
    return {"ls": "", "marker": "x", "ms": 3.5, "color": look.color, "mew": 0.9, "clip_on": False}


def draw_runs(
    axes: Axes, look: Look, x: np.ndarray, y: np.ndarray, *, is_cut_short: np.ndarray, fids: Literal["x", "y"]
) -> None:
    """One mark a run: filled; open where it diverged or failed later; without an FID a cross beyond the axis' end.

    x, y [n]: positions; the one along the axis `fids` is an FID, not finite if there is none. is_cut_short [n] bool.
    """
    known = np.isfinite(x if fids == "x" else y)
    size = 3.5 * min(1, 100 / max(1, len(x))) ** 0.25  # hundreds of runs stay apart
    for chosen, is_open in ((known & ~is_cut_short, False), (known & is_cut_short, True)):
        axes.plot(x[chosen], y[chosen], alpha=0.75, **dots(look, is_open=is_open, size=size))
    if known.all():  # an empty line would upset the layout
        return
    end = np.full(np.sum(~known), 1.02)
    if fids == "x":
        axes.plot(end, y[~known], transform=axes.get_yaxis_transform(), **crosses(look))
    else:
        axes.plot(x[~known], end, transform=axes.get_xaxis_transform(), **crosses(look))


def run_keys() -> list[Line2D]:
    """The legend of `draw_runs`."""
    return [
        Line2D([], [], label="diverged or failed later", **dots(KEY, is_open=True)),
        Line2D([], [], label="without an FID", **crosses(KEY)),
    ]


def spread(count: int) -> np.ndarray:
    """[count] in [−½, ½): multiples of the golden ratio, mod 1, so that neighbours lie apart without chance."""
    return (np.arange(count) * 0.618034 + 0.5) % 1 - 0.5


def scale_fid(axes: Axes, which: Literal["x", "y"], fids: pd.Series[float]) -> None:
    """A log axis with plain numbers at 1, 2, 5, 10, …; a linear one where all FIDs lie within a factor of 5."""
    if not fids.max() >= 5 * fids.min():  # also where there is none
        return
    axes.set(**{f"{which}scale": "log"})
    axis = {"x": axes.xaxis, "y": axes.yaxis}[which]
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda fid, _: f"{fid:,g}"))
    axis.set_minor_locator(NullLocator())
