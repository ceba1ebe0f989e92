"""The figure of FID against each hyperparameter, with its trend, the limits of its range and its importance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from analysis.configurations import judged_fids
from analysis.looks import KEY, LOOKS, STYLE, WIDTH, dots, draw_runs, fates, run_keys, scale_fid, spread
from analysis.plots import algorithms_of, fid_label
from search_spaces import SearchSpace
from search_spaces.distributions import Choice, Distribution, Fixed, LogUniform
from wae_core.algorithms.algorithm import Look
from wae_core.hyperparameters import DECLARED

COLUMNS = 3
MOST_CHOICES = 12  # numbers beside each other; of more distinct ones, the axis is a scale
TREND = {0.5: "-", 0.1: (0, (2, 1))}  # quantile of the runs: its line
LEAST = 20  # runs between two points of a trend
MOST_POINTS = 10  # of a trend


@rc_context(STYLE)
def fid_against_hyperparameters(
    runs: pd.DataFrame, space: SearchSpace | None = None, importances: Mapping[str, pd.DataFrame] | None = None
) -> Figure:
    """Every run's best FID against each hyperparameter that some run of the frame has.

    Lines are the median and the lower tenth of runs whose values are near each other, a diverged one counted as
    infinite. A run without an FID is a cross on the upper edge: where in the space training fails is seen too.

    Args:
        space: the study's own: its limits are dotted lines, and its distributions say which axes are logarithmic.
        importances: frames of `sensitivity.importance` by algorithm, whose figures stand above the panels.

    Raises:
        ValueError: there is no run, or the FIDs are of several kinds.
    """
    label, algorithms = fid_label(runs), algorithms_of(runs)
    names = [name for name in DECLARED if runs[name].notna().any()]
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(WIDTH, 1.9 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, COLUMNS, sharey=True, squeeze=False)
    scale_fid(panels[0, 0], "y", runs["best_fid"])
    for panel, name in zip(panels.flat, names, strict=False):
        drawn_from = [line.distribution for line in space.hyperparameters if line.name == name] if space else []
        _draw_panel(panel, runs, name, drawn_from)
        panel.set_title(_importance(name, importances or {}), fontsize=6.5)
    for panel in panels.flat[len(names) :]:
        panel.set_axis_off()
    figure.supylabel(label, fontsize=8)
    sizes = runs["algorithm"].value_counts()
    keys = [Line2D([], [], label=f"{name}, N = {sizes[name]}", **dots(LOOKS[name])) for name in algorithms]
    keys += [
        *run_keys(runs),
        Line2D([], [], label="median", color=KEY.color, lw=1.4),
        Line2D([], [], label="best tenth", color=KEY.color, lw=1, ls=TREND[0.1]),
        Line2D([], [], label="limits of the range", color=KEY.color, lw=0.8, ls=":"),
    ]
    figure.legend(handles=keys, loc="outside upper center", ncols=5, columnspacing=1.2, handletextpad=0.4)
    return figure


def trend(x: np.ndarray, fids: np.ndarray) -> pd.DataFrame:
    """Return the quantiles of FID along x, each of as many runs: a row per group of neighbours, at their median x.

    Args:
        x: [n] a hyperparameter's values.
        fids: [n] judged FIDs, infinite where a run diverged.

    Returns:
        A column per quantile of TREND; no rows where there are fewer than two groups of LEAST runs.
    """
    count = min(MOST_POINTS, len(x) // LEAST)
    if count < 2:
        return pd.DataFrame(columns=list(TREND))
    groups = np.array_split(np.argsort(x, kind="stable"), count)
    # Of values that may be infinite, a quantile is one of them.
    found = [[np.quantile(fids[group], each, method="inverted_cdf") for each in TREND] for group in groups]
    return pd.DataFrame(found, columns=list(TREND), index=[float(np.median(x[group])) for group in groups])


def _draw_panel(panel: Axes, runs: pd.DataFrame, name: str, drawn_from: list[Distribution]) -> None:
    """FID against one hyperparameter: numbers on their scale; choices side by side, in each the algorithms too."""
    given = runs[runs[name].notna()]
    is_scale = given[name].dtype.kind in "fi" and given[name].nunique() > MOST_CHOICES
    is_scale = is_scale or (given[name].dtype.kind == "f" and not _are_choices(drawn_from))
    choices = None if is_scale else sorted(given[name].unique())
    algorithms = algorithms_of(given)
    for position, algorithm in enumerate(algorithms):
        look, own = LOOKS[algorithm], given[given["algorithm"] == algorithm]
        fids, judged = own["best_fid"].to_numpy(dtype=float), judged_fids(own)
        if choices is None:
            x = own[name].to_numpy(dtype=float)
            _draw_trend(panel, look, x[judged.notna()], judged.dropna().to_numpy())
        else:
            lane = 0.26 * (position - (len(algorithms) - 1) / 2)
            x = own[name].map(choices.index).to_numpy(dtype=float) + lane + 0.16 * spread(len(own))
            for place, choice in enumerate(choices):
                there = judged[own[name] == choice].dropna().to_numpy()
                _draw_quantiles(panel, look, place + lane, there)
        draw_runs(panel, look, x, fids, fates=fates(own), fids="y")
    panel.set_xlabel(DECLARED[name].label)
    if choices is not None:
        panel.set_xticks(range(len(choices)), [_tick(choice, len(choices)) for choice in choices])
        panel.set_xlim(-0.6, len(choices) - 0.4)
        return
    ends = [float(end) for each in drawn_from if not isinstance(each, Fixed) for end in each.support]
    for limit in {min(ends), max(ends)} if ends else ():
        panel.axvline(limit, color=KEY.color, lw=0.8, ls=":", zorder=1)
    if _is_log(name, drawn_from):
        _scale_log(panel, [*given[name], *ends])


def _draw_trend(panel: Axes, look: Look, x: np.ndarray, fids: np.ndarray) -> None:
    found = trend(x, fids)
    for quantile, line in TREND.items():
        shown = found[quantile].astype(float).replace(np.inf, np.nan)
        panel.plot(found.index, shown, color="white", lw=2.6, alpha=0.8, zorder=4)
        panel.plot(found.index, shown, color=look.color, ls=line, lw=1.4 if quantile == 0.5 else 1, zorder=5)


def _draw_quantiles(panel: Axes, look: Look, place: float, fids: np.ndarray) -> None:
    for quantile, line in TREND.items() if len(fids) >= LEAST else ():
        value = float(np.quantile(fids, quantile, method="inverted_cdf"))
        if np.isfinite(value):
            ends, lw = [place - 0.12, place + 0.12], 1.4 if quantile == 0.5 else 1
            panel.plot(ends, [value, value], color="white", lw=lw + 1.2, zorder=4)
            panel.plot(ends, [value, value], color=look.color, lw=lw, ls=line, zorder=5)


def _importance(name: str, importances: Mapping[str, pd.DataFrame]) -> str:
    said = []
    for algorithm in LOOKS:
        found = importances.get(algorithm)
        for share in found.loc[found["hyperparameter"] == name, "importance"] if found is not None else ():
            said.append(f"{algorithm} {max(0.0, share):.2f}")
    if not said:
        return ""
    return "importance: " + ",\n".join([said[0], ", ".join(said[1:])] if len(said) > 1 else said)  # of panels' width


def _is_log(name: str, drawn_from: list[Distribution]) -> bool:
    numbers = [each for each in drawn_from if not isinstance(each, Fixed | Choice)]
    return any(isinstance(each, LogUniform) for each in numbers) if numbers else DECLARED[name].log_axis


def _are_choices(drawn_from: list[Distribution]) -> bool:
    return bool(drawn_from) and all(isinstance(each, Choice | Fixed) for each in drawn_from)


def _scale_log(panel: Axes, values: list[float]) -> None:
    panel.set_xscale("log")
    decades = float(np.log10(max(values) / min(values)))
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 1.5 else (1,)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_locator(NullLocator())


def _tick(choice: object, count: int) -> str:
    """The label of a choice; a long word in two lines, so that neighbours do not collide."""
    text = f"{choice:g}" if isinstance(choice, float) else str(choice)
    return text.replace("_", "_\n", 1) if len(text) > 24 // count else text
