"""The figures of a report, by name: the best of n, where runs diverge, and those that other modules draw."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from analysis import plots
from analysis.looks import LOOKS, STYLE, WIDTH, scale_fid
from analysis.report.contents import Contents
from analysis.report.hyperparameters import fid_against_hyperparameters
from analysis.report.sheets import sheet
from analysis.sensitivity import PARTS, divergence
from analysis.uncertainty import best_of
from wae_core.hyperparameters import DECLARED

MOST_POINTS = 200  # of a curve
UNITS = ("runs", "steps", "FLOPs")  # in which a budget is counted


@rc_context(STYLE)
def best_of_n(contents: Contents, unit: str = "runs") -> Figure:
    """The median FID of the best of n configurations, with its 95 % band, against the budget that they take.

    The band is drawn as far as it has a lower bound.

    Args:
        unit: one of UNITS; a configuration takes what those of its algorithm took on average.

    Raises:
        ValueError: no algorithm has results, the FIDs are of several kinds, or FLOPs are not known.
    """
    label = plots.fid_label(contents.runs)
    if not contents.with_results:
        raise ValueError("no configuration can be judged yet")
    figure = Figure(figsize=(WIDTH, 3), layout="constrained")
    axes = figure.subplots()
    shown = []
    for name in contents.with_results:
        look, values = LOOKS[name], contents.judged(name).to_numpy(dtype=float)
        counts = np.unique(np.geomspace(1, len(values), min(len(values), MOST_POINTS)).round().astype(int))
        found = [best_of(values, int(n)) for n in counts]
        value, low, high = (np.array([getattr(each, end) for each in found]) for end in ("value", "low", "high"))
        shown.append(value[np.isfinite(value)])
        budget = counts * _cost(contents, name, unit)
        axes.plot(
            budget, value, color=look.color, ls=look.dash, lw=1.6, label=name, marker="" if counts[1:].size else "o"
        )
        bounded = (low > 0) & np.isfinite(high)
        axes.fill_between(budget[bounded], low[bounded], high[bounded], color=look.color, alpha=0.18, lw=0)
    seeds = contents.runs["seed"].nunique()
    of_each = f"{seeds} seed{'s' * (seeds != 1)} a configuration"
    said = f"runs ({of_each})" if unit == "runs" else f"{unit} of training and evaluation"
    axes.set(xscale="log", xlabel=said, ylabel=f"best {label}".replace(" (", "\n(", 1))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    scale_fid(axes, "y", pd.Series(np.concatenate(shown)))
    axes.legend(loc="upper right", title="median of the best, 95 % band", title_fontsize=7)
    return figure


def _cost(contents: Contents, algorithm: str, unit: str) -> float:
    """What one configuration of an algorithm takes, on average."""
    if unit == "runs":
        return float(contents.runs["seed"].nunique())
    (spent,) = contents.ledger[contents.ledger["algorithm"] == algorithm].to_dict("records")
    cost = float(spent[unit.lower()] / spent["configurations"])
    if not np.isfinite(cost):
        raise ValueError(f"the {unit} of {algorithm} are not known")
    return cost


@rc_context(STYLE)
def divergence_map(contents: Contents) -> Figure:
    """The share of configurations of which a run has diverged, by third of each hyperparameter's range.

    Raises:
        ValueError: the study's space is not known, or no configuration has diverged.
    """
    if contents.space is None:
        raise ValueError("the study's space is not known")
    found = {name: divergence(contents.table, contents.space, name) for name in contents.with_results}
    found = {name: frame for name, frame in found.items() if frame["diverged"].sum()}
    if not found:
        raise ValueError("no configuration has diverged")
    names = [name for name in DECLARED if any((frame["hyperparameter"] == name).any() for frame in found.values())]
    figure = Figure(figsize=(WIDTH, 0.25 * len(names) + 0.9), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    for panel, (algorithm, frame) in zip(panels, found.items(), strict=True):
        wide = frame.pivot(index="hyperparameter", columns="part", values="share").reindex(index=names, columns=PARTS)
        shares = wide.to_numpy(dtype=float)
        panel.imshow(shares, cmap="Reds", vmin=0, vmax=1, aspect="auto")
        for row, column in np.argwhere(np.isfinite(shares)):
            share = shares[row, column]
            color = "white" if share > 0.5 else "black"
            panel.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=6, color=color)
        panel.set_xticks(range(len(PARTS)), PARTS)
        panel.grid(visible=False)
        panel.set_title(algorithm)
    panels[0].set_yticks(range(len(names)), names)
    figure.supxlabel("third of the hyperparameter's range", fontsize=8)
    return figure


def draw(contents: Contents, name: str, unit: str = "runs") -> Figure | str:
    """Return one of FIGURES, or the reason why it cannot be drawn: there is nothing yet, or of several kinds.

    Args:
        unit: one of UNITS, in which the budget of the best of n is counted.
    """
    _, drawing = FIGURES[name]
    try:
        return best_of_n(contents, unit) if name == "best_of_n" else drawing(contents)
    except ValueError as error:
        return str(error)


FIGURES: dict[str, tuple[str, Callable[[Contents], Figure]]] = {  # file name: caption, drawing
    "best_of_n": ("What a budget buys: the best of n configurations", best_of_n),
    "fid_distribution": ("All runs, and the share that reaches an FID", lambda c: plots.fid_distribution(c.runs)),
    "hyperparameters": (
        "FID against each hyperparameter",
        lambda c: fid_against_hyperparameters(c.runs, c.space, c.importances),
    ),
    "divergence": ("Where configurations diverge", divergence_map),
    "samples": ("Samples of each algorithm's best and median run", partial(sheet, name="samples")),
    "reconstructions": (
        "Reconstructions by the same runs; odd rows are the originals",
        partial(sheet, name="reconstructions"),
    ),
    "interpolations": ("Interpolations by the same runs", partial(sheet, name="interpolations")),
    "fid_over_steps": ("FID while training", lambda c: plots.fid_over_steps(c.runs, c.evaluations)),
}
