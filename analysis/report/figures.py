"""The figures that look at the whole study: the best of n, FID over steps as bands, sheets of pictures."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.ticker import EngFormatter

from analysis import plots
from analysis.configurations import judged_fids
from analysis.looks import LOOKS, STYLE, WIDTH, scale_fid
from analysis.report.contents import Contents
from analysis.uncertainty import best_of
from sweep.results.schema import COMPLETED
from wae_core.storage.files import read

BANDS = ((0.1, 0.9), (0.25, 0.75))  # quantiles of the runs, between which FIDs over steps are filled
MOST_POINTS = 200  # of a curve


@rc_context(STYLE)
def best_of_n(contents: Contents) -> Figure:
    """The median FID of the best of n configurations, with its 95 % band, against the runs that they take.

    The band is drawn as far as it has a lower bound.

    Raises:
        ValueError: no algorithm has results, or the FIDs are of several kinds.
    """
    label = plots.fid_label(contents.runs)
    figure = Figure(figsize=(WIDTH, 3), layout="constrained")
    axes = figure.subplots()
    seeds = contents.runs["seed"].nunique()
    shown = []
    for name in contents.with_results:
        look, values = LOOKS[name], contents.judged(name).to_numpy(dtype=float)
        counts = np.unique(np.geomspace(1, len(values), min(len(values), MOST_POINTS)).round().astype(int))
        found = [best_of(values, int(n)) for n in counts]
        value, low, high = (np.array([getattr(each, end) for each in found]) for end in ("value", "low", "high"))
        shown.append(value[np.isfinite(value)])
        axes.plot(counts * seeds, value, color=look.color, ls=look.dash, lw=1.6, label=name)
        bounded = (low > 0) & np.isfinite(high)
        axes.fill_between((counts * seeds)[bounded], low[bounded], high[bounded], color=look.color, alpha=0.18, lw=0)
    axes.set(
        xscale="log", xlabel=f"runs ({seeds} seeds a configuration)", ylabel=f"best {label}".replace(" (", "\n(", 1)
    )
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    scale_fid(axes, "y", pd.Series(np.concatenate(shown)))
    axes.legend(loc="upper right", title="median of the best, 95 % band", title_fontsize=7)
    return figure


@rc_context(STYLE)
def fid_bands(contents: Contents) -> Figure:
    """FID over steps: the median of the completed runs, and bands that hold a half and four fifths of them.

    Raises:
        ValueError: no run has completed, or the FIDs are of several kinds.
    """
    label = plots.fid_label(contents.runs)
    finished = contents.runs[contents.runs["status"] == COMPLETED]
    names = [name for name in contents.algorithms if (finished["algorithm"] == name).any()]
    if not names:
        raise ValueError("no run has completed yet")
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    known = contents.evaluations[contents.evaluations["run_id"].isin(finished["run_id"])]
    scale_fid(panels[0], "y", known["fid"])
    for panel, name in zip(panels, names, strict=True):
        curves = known[known["algorithm"] == name].groupby("step")["fid"]
        for low, high in BANDS:
            lower, upper = curves.quantile(low), curves.quantile(high)
            panel.fill_between(lower.index, lower, upper, color=LOOKS[name].color, alpha=0.2, lw=0)
        middle = curves.median()
        panel.plot(middle.index, middle, color=LOOKS[name].color, lw=1.6)
        panel.set_title(f"{name}, N = {(finished['algorithm'] == name).sum()} runs")
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    panels[0].set_ylabel(label.replace(" (", "\n(", 1), fontsize=7)
    figure.supxlabel("mini-batch steps; median, and bands of 50 % and 80 % of the completed runs", fontsize=8)
    return figure


@rc_context(STYLE)
def pictures(contents: Contents, name: str) -> Figure:
    """One kind of picture (samples, reconstructions, interpolations) of each algorithm's best and median run.

    Raises:
        ValueError: no run that completed has such a picture.
    """
    shown = []
    for algorithm in contents.with_results:
        own = contents.runs[(contents.runs["algorithm"] == algorithm) & (contents.runs["status"] == COMPLETED)]
        ranked = own.assign(fid=judged_fids(own)).sort_values("fid", ignore_index=True)
        chosen = {"best": 0, "median": (len(ranked) - 1) // 2}
        for which, position in chosen.items() if len(ranked) else ():
            run = ranked.iloc[position]
            path = contents.folder.work(str(run["run_id"])) / f"{name}.png"
            if path.exists():
                shown.append((f"{algorithm}, {which}: FID {run['best_fid']:.1f}", read(path)))
    if not shown:
        raise ValueError(f"no completed run has its {name}.png")
    columns = 2 if len(shown) > 1 else 1
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(WIDTH, rows * WIDTH / columns * 0.55), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    for panel, (title, data) in zip(panels.flat, shown, strict=False):
        panel.imshow(imread(io.BytesIO(data)), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        panel.set_title(title, fontsize=7)
    return figure


FIGURES: dict[str, tuple[str, Callable[[Contents], Figure]]] = {  # file name: caption, drawing
    "best_of_n": ("What a budget buys: the best of n configurations", best_of_n),
    "fid_distribution": ("All runs, and the share that reaches an FID", lambda c: plots.fid_distribution(c.runs)),
    "hyperparameters": ("FID against each hyperparameter", lambda c: plots.fid_against_hyperparameters(c.runs)),
    "fid_over_steps": ("FID while training", fid_bands),
    "samples": ("Samples of each algorithm's best and median run", lambda c: pictures(c, "samples")),
    "reconstructions": ("Reconstructions by the same runs", lambda c: pictures(c, "reconstructions")),
    "interpolations": ("Interpolations by the same runs", lambda c: pictures(c, "interpolations")),
}
