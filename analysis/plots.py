"""The figures of a study that its two tables are enough for: FID distributions, and FID over steps."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from analysis.configurations import judged_fids
from analysis.load import best_runs
from analysis.looks import (
    KEY,
    LOOKS,
    LOST,
    STOPPED,
    STYLE,
    WHOLE,
    WIDTH,
    crosses,
    dots,
    draw_runs,
    fates,
    pale_dots,
    run_keys,
    scale_fid,
    spread,
)
from analysis.uncertainty import Interval, bootstrap, middle
from sweep.results.schema import DIVERGED, FAILED
from wae_core.algorithms.algorithm import Look

MOST_LINES = 30  # of more runs, FIDs over steps are bands
BANDS = ((0.1, 0.9), (0.25, 0.75))  # quantiles of the runs, between which they are filled


@rc_context(STYLE)
def fid_distribution(runs: pd.DataFrame) -> Figure:
    """Every run's best FID, and below it the share of an algorithm's runs that reach that FID or a lower one.

    A bar is the median over the runs; across it lies its 95 % interval, which resamples configurations. A diverged
    run counts as infinitely bad: in the median, and in the shares, which then stay below 1. A failed one is shown,
    and counts in neither.

    Raises:
        ValueError: there is no run, or the FIDs are of several kinds.
    """
    label, algorithms = fid_label(runs), algorithms_of(runs)
    height = 0.6 * len(algorithms)
    figure = Figure(figsize=(WIDTH, height + 2.1), layout="constrained")
    strip, shares = figure.subplots(2, 1, sharex=True, height_ratios=[height, 1.4])
    scale_fid(strip, "x", runs["best_fid"])
    for row, algorithm in enumerate(algorithms):
        look, own = LOOKS[algorithm], runs[runs["algorithm"] == algorithm].sort_values("best_fid")
        fids = own["best_fid"].fillna(np.inf).to_numpy(dtype=float)
        draw_runs(strip, look, fids, row + 0.5 * spread(len(own)), fates=fates(own), fids="x")
        judged = judged_fids(own).dropna().to_numpy()
        if len(judged):
            _draw_median(strip, own, row)
            shares.ecdf(judged, color=look.color, ls=look.dash, lw=1.4, label=algorithm)
    strip.set_yticks(range(len(algorithms)), [f"{name}\n{_count(runs, name)}" for name in algorithms])
    strip.set_ylim(len(algorithms) - 0.45, -0.65)
    shares.set(xlabel=f"{label}, lower is better", ylabel="share of runs\nat this FID or lower", ylim=(0, 1.02))
    if shares.lines:
        shares.legend(loc="lower right")
    keys = [
        Line2D([], [], label="completed", **dots(KEY)),
        *run_keys(runs),
        Line2D([], [], label="median, 95 %", color="black", marker="|", ms=9, mew=1.5, lw=1.5),
    ]
    figure.legend(handles=keys, loc="outside upper center", ncols=len(keys))
    return figure


@rc_context(STYLE)
def fid_over_steps(runs: pd.DataFrame, evaluations: pd.DataFrame) -> Figure:
    """FID while training, a panel an algorithm; its best run is bold, its kept checkpoint marked.

    Of at most MOST_LINES runs each has its line. Of more, there are the median and bands that hold a half and four
    fifths of those that trained all their steps; where the others ended, there is a mark.

    Raises:
        ValueError: there is no run, or the FIDs are of several kinds.
    """
    label, algorithms = fid_label(runs), algorithms_of(runs)
    figure = Figure(figsize=(WIDTH, 3.1), layout="constrained")
    panels = figure.subplots(1, len(algorithms), sharex=True, sharey=True, squeeze=False)[0]
    shown = evaluations[evaluations["run_id"].isin(runs["run_id"]) & np.isfinite(evaluations["fid"])]
    scale_fid(panels[0], "y", shown["fid"])
    panels[0].margins(y=0.15)
    keys = [
        Line2D([], [], label="best run", color=KEY.color, lw=2),
        Line2D([], [], label="its kept checkpoint", **dots(KEY, is_open=True, size=6)),
    ]
    for panel, algorithm in zip(panels, algorithms, strict=True):
        look, own = LOOKS[algorithm], runs[runs["algorithm"] == algorithm].assign(fate=fates)
        curves = shown[shown["algorithm"] == algorithm].pivot(index="step", columns="run_id", values="fid")
        if len(own) > MOST_LINES:
            keys += _draw_bands(
                panel, look, curves[curves.columns.intersection(own.loc[own["fate"] == WHOLE, "run_id"])]
            )
        else:
            panel.plot(curves.index, curves, color=look.color, lw=0.6, alpha=0.4)
            keys.append(Line2D([], [], label="run", color=KEY.color, lw=0.6))
        for fate, mark, said in ((LOST, crosses, "diverged or failed"), (STOPPED, pale_dots, "was stopped early")):
            ended = curves[curves.columns.intersection(own.loc[own["fate"] == fate, "run_id"])]
            if ended.shape[1]:
                last = ended.apply(pd.Series.last_valid_index)
                panel.plot(last, [ended.at[step, run_id] for run_id, step in last.items()], **mark(look))
                keys.append(Line2D([], [], label=f"last FID of a run that {said}", **mark(KEY)))
        for best in best_runs(own, 1).to_dict("records"):
            panel.plot(curves.index, curves[best["run_id"]], color=look.color, lw=2)
            step, fid = best["best_step"], best["best_fid"]
            panel.plot(step, fid, **dots(look, is_open=True, size=6))
            text, side = f"{_number(fid)} at step {step:,.0f}", "right" if step > curves.index.max() / 2 else "left"
            panel.annotate(text, (step, fid), (0, -7), textcoords="offset points", ha=side, va="top", fontsize=7)
        panel.set_title(f"{algorithm}\n{_count(runs, algorithm)}".replace(", ", "\n", 1), fontsize=7)
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    panels[0].set_ylabel(label.replace(" (", "\n(", 1), fontsize=7)
    figure.supxlabel("mini-batch steps", fontsize=8)
    figure.legend(handles=list({key.get_label(): key for key in keys}.values()), loc="outside upper center", ncols=3)
    return figure


def median_of_runs(fids: pd.DataFrame | np.ndarray) -> Interval:
    """Return the median over runs with its interval, which resamples their configurations.

    Args:
        fids: [configurations, seeds]; not a number where a seed is missing or has failed.

    Raises:
        ValueError: there is no configuration with a run.
    """
    runs = np.asarray(fids, dtype=float)
    runs = runs[~np.isnan(runs).all(axis=1)]

    def of_drawn(index: np.ndarray) -> float:
        drawn = runs[index].ravel()
        return float(middle(drawn[~np.isnan(drawn)]))

    return bootstrap(len(runs), of_drawn)


def fid_label(runs: pd.DataFrame) -> str:
    """What the FIDs of `runs` are: "FID (<feature network>, <n> samples)"; of a hash after an @, 6 characters.

    Raises:
        ValueError: there is no run, or the FIDs are of several kinds, which must not share an axis.
    """
    kinds = runs[["fid_features", "fid_reference", "fid_samples"]].drop_duplicates()
    if len(kinds) != 1:
        found = " and ".join(" / ".join(map(str, kind)) for kind in kinds.itertuples(index=False))
        raise ValueError(
            "a figure shows FIDs of one kind (features / reference / samples); "
            + (f"these runs have {found}" if found else "there is no run yet")
        )
    features, _, samples = kinds.iloc[0]
    network, at, digest = features.partition("@")
    return f"FID ({network}{at}{digest[:6]}{'…' if digest[6:] else ''}, {samples:,} samples)"


def algorithms_of(runs: pd.DataFrame) -> list[str]:
    """The algorithms of the frame, in the order of the figures."""
    return sorted(set(runs["algorithm"]), key=list(LOOKS).index)


def _count(runs: pd.DataFrame, algorithm: str) -> str:
    """How many runs an algorithm has, and what became of them: no diverged or failed run is passed over."""
    own = runs[runs["algorithm"] == algorithm]
    ended = [own["status"] == DIVERGED, own["status"] == FAILED, fates(own) == STOPPED]
    told = zip((DIVERGED, FAILED, STOPPED), map(sum, ended), strict=True)
    return ", ".join([f"N = {len(own)} run{'s' * (len(own) != 1)}", *(f"{n} {what}" for what, n in told if n)])


def _draw_median(strip: Axes, own: pd.DataFrame, row: int) -> None:
    """A bar at the median over the runs of a row, and its interval across it; nothing where it is infinite."""
    found = median_of_runs(own.assign(fid=judged_fids(own)).pivot(index="config_index", columns="seed", values="fid"))
    if not np.isfinite(found.value):
        return
    strip.plot([found.value] * 2, [row - 0.33, row + 0.33], color="black", lw=1.5)
    text = _number(found.value)
    if not np.isnan(found.low):
        end = found.high if np.isfinite(found.high) else strip.get_xlim()[1]
        strip.plot([found.low, end], [row, row], color="black", lw=1.5, solid_capstyle="butt")
        text += f" [{_number(found.low)}, {_number(found.high)}]"
    strip.annotate(
        text, (found.value, row - 0.36), ha="center", va="bottom", fontsize=7, fontweight="bold", clip_on=False
    )


def _draw_bands(panel: Axes, look: Look, curves: pd.DataFrame) -> list[Line2D]:
    """The median and BANDS of the columns, by step; returns their legend."""
    for low, high in BANDS:
        lower, upper = curves.quantile(low, axis=1), curves.quantile(high, axis=1)
        panel.fill_between(curves.index, lower, upper, color=look.color, alpha=0.2, lw=0)
    panel.plot(curves.index, curves.median(axis=1), color=look.color, lw=1.2, ls=(0, (3, 1)))
    return [
        Line2D([], [], label="median of whole runs", color=KEY.color, lw=1.2, ls=(0, (3, 1))),
        Line2D([], [], label="50 % and 80 % of them", color=KEY.color, lw=6, alpha=0.3),
    ]


def _number(fid: float) -> str:
    if not np.isfinite(fid):
        return "∞"
    return f"{fid:,.1f}" if fid >= 10 else f"{fid:#.3g}"
