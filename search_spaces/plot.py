"""A picture of a search space: a thousand configurations of each algorithm, a small panel per hyperparameter."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from search_spaces.distributions import Choice, Fixed, LogUniform
from search_spaces.hyperparameters import BOUNDS, KNOWN, having
from search_spaces.sentences import listed
from search_spaces.space import SearchSpace
from wae_core.algorithms.registry import ALGORITHMS

DRAWS = 1000
COLORS = {name: algorithm.look.color for name, algorithm in ALGORITHMS.items()}
SHARED = "#8C9BA5"  # what several algorithms draw alike
COLUMNS = 3
SMALL: dict[str, Any] = {"fontsize": 7, "fontweight": "normal", "color": "#666666"}
MOST_LABELS = 8  # of the values of a choice or a grid
BINS = 25
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
}


@dataclass(frozen=True)
class _Group:
    """Algorithms that draw a hyperparameter alike: what they draw, and of the one that it depends on."""

    algorithms: list[str]
    values: list[Any]
    others: list[Any]

    @property
    def color(self) -> str:
        return COLORS[self.algorithms[0]] if len(self.algorithms) == 1 else SHARED


@rc_context(STYLE)
def draws_figure(space: SearchSpace, study_seed: int) -> Figure:
    """The first DRAWS configurations of each algorithm.

    Algorithms that draw a hyperparameter alike share its marks; one that depends on another is drawn over that one.
    """
    draws = {a: [space.sample(a, index, study_seed) for index in range(DRAWS)] for a in space.algorithms}
    names = list(dict.fromkeys(line.name for line in space.hyperparameters))
    rows = math.ceil(len(names) / COLUMNS)
    figure = Figure(figsize=(9, 2.2 * rows), dpi=150, layout="constrained")
    figure.suptitle(
        f"search space {space.name}: {DRAWS:,} configurations, study seed {study_seed}",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for spare in panels[len(names) :]:
        spare.remove()
    for axes, name in zip(panels, names, strict=False):
        owners = having(name, space.algorithms)
        lines = [line for line in space.hyperparameters if line.name == name]
        named = [line.depends_on[key] for key in (*BOUNDS, "when") for line in lines if key in line.depends_on]
        over = next((other for other in named if set(owners) <= set(KNOWN[other][1])), None)
        groups: list[_Group] = []
        for algorithm in owners:
            values = [draw[name] for draw in draws[algorithm]]
            alike = next((group for group in groups if group.values == values), None)
            if alike:
                alike.algorithms.append(algorithm)
            else:
                groups.append(_Group([algorithm], values, [draw[over or name] for draw in draws[algorithm]]))
        if over:
            axes.set_yscale("log" if _is_log(space, name) else "linear")
            axes.set_xscale("log" if _is_log(space, over) else "linear")
            _scatter(axes, groups, over, is_bound=any(line.bounds for line in lines))
        elif all(len(set(group.values)) == 1 for group in groups):
            _fixed(axes, groups)
        elif all(isinstance(line.distribution, Choice | Fixed) or line.distribution.step for line in lines):
            _bars(axes, groups)
        else:
            axes.set_xscale("log" if _is_log(space, name) else "linear")
            _histogram(axes, groups)
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log":
                _label_log(axis)
        axes.set_title(name)
        axes.set_title("" if owners == space.algorithms else listed(owners), loc="right", **SMALL)
    handles = [Patch(color=SHARED, label="drawn alike by all that have it")]
    handles += [Patch(color=COLORS[algorithm], label=algorithm) for algorithm in space.algorithms]
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles), frameon=False, fontsize=8)
    return figure


def _is_log(space: SearchSpace, name: str) -> bool:
    return any(isinstance(line.distribution, LogUniform) for line in space.hyperparameters if line.name == name)


def _fixed(axes: Axes, groups: list[_Group]) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    for row, group in enumerate(groups):
        y = 0.5 + 0.22 * ((len(groups) - 1) / 2 - row)
        axes.text(0.5, y, _label(group.values[0]), color=group.color, fontsize=14, ha="center", va="center")


def _bars(axes: Axes, groups: list[_Group]) -> None:
    """A bar for each value, beside each other where the algorithms differ."""
    values = sorted(set().union(*(group.values for group in groups)))
    width = 0.7 / len(groups)
    for number, group in enumerate(groups):
        counts = [group.values.count(value) for value in values]
        places = np.arange(len(values)) + width * (number - (len(groups) - 1) / 2)
        axes.bar(places, counts, 0.92 * width, color=group.color)
    apart = math.ceil(len(values) / MOST_LABELS)
    axes.set_xticks(range(0, len(values), apart), [_label(value) for value in values[::apart]])
    axes.set_ylabel("configurations")


def _histogram(axes: Axes, groups: list[_Group]) -> None:
    """Bins of equal width on the axis, on which the distribution is flat: it is the dashed line."""
    drawn = np.array([group.values for group in groups])
    edges = (np.geomspace if axes.get_xscale() == "log" else np.linspace)(drawn.min(), drawn.max(), BINS + 1)
    for group in groups:
        axes.hist(group.values, edges.tolist(), color=group.color, alpha=1 if len(groups) == 1 else 0.6, rwidth=0.9)
    if len(groups) == 1:
        axes.axhline(DRAWS / BINS, color="white", lw=1.4)
        axes.axhline(DRAWS / BINS, color="#444444", lw=0.8, ls=(0, (4, 3)))
    axes.set_ylabel("configurations")


def _scatter(axes: Axes, groups: list[_Group], over: str, is_bound: bool) -> None:
    """A dot for each configuration; with a bound, the diagonal on which both values are equal."""
    distinct = sorted(set().union(*(group.others for group in groups)))
    has_places = not is_bound and len(distinct) <= MOST_LABELS  # one for each value, the dots spread within
    for number, group in enumerate(groups):
        spread = (np.linspace(0.05, 0.95, DRAWS) + number) / len(groups) - 0.5
        x = [distinct.index(other) for other in group.others] + 0.8 * spread if has_places else group.others
        axes.plot(x, group.values, ls="", marker="o", ms=1.8, mew=0, alpha=0.6, color=group.color)
    if has_places:
        axes.set_xticks(range(len(distinct)), [_label(value) for value in distinct])
    if is_bound:
        low, high = (end(axes.get_xlim() + axes.get_ylim()) for end in (min, max))
        axes.autoscale(enable=False)
        axes.plot([low, high], [low, high], color="#BBBBBB", lw=0.8, zorder=0)
    axes.set_xlabel(over)


def _label(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _label_log(axis: Axis) -> None:
    """The powers of ten, and numbers between them where they are few."""
    low, high = axis.get_view_interval()
    subs = (1, 2, 5) if high < 30 * low else (1, 3) if high < 300 * low else (1,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda value, _: _label(value)))
    axis.set_minor_formatter(NullFormatter())
