"""The figures of a study, from its two tables: FID distributions, FID over steps, samples, hyperparameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullLocator

from analysis.configurations import judged_fids
from analysis.load import best_runs
from analysis.looks import KEY, LOOKS, STYLE, WIDTH, crosses, dots, draw_runs, run_keys, scale_fid, spread
from sweep.results.schema import COMPLETED, DIVERGED, FAILED
from wae_core.hyperparameters import DECLARED

HYPERPARAMETERS = {name: declared.label for name, declared in DECLARED.items()}  # the label of each one's axis


@rc_context(STYLE)
def fid_distribution(runs: pd.DataFrame) -> Figure:
    """Every run's best FID, and below it the share of an algorithm's runs that reach that FID or a lower one.

    A diverged run counts as infinitely bad: in the median, and in the shares, which then stay below 1. A failed one
    is shown, and counts in neither.

    Raises:
        ValueError: there is no run, or the FIDs are of several kinds.
    """
    label, algorithms = fid_label(runs), _algorithms(runs)
    height = 0.6 * len(algorithms)
    figure = Figure(figsize=(WIDTH, height + 2.1), layout="constrained")
    strip, shares = figure.subplots(2, 1, sharex=True, height_ratios=[height, 1.4])
    scale_fid(strip, "x", runs["best_fid"])
    for row, algorithm in enumerate(algorithms):
        look, own = LOOKS[algorithm], runs[runs["algorithm"] == algorithm].sort_values("best_fid")
        fids = own["best_fid"].fillna(np.inf).to_numpy(dtype=float)
        is_cut_short = (own["status"] != COMPLETED).to_numpy()
        draw_runs(strip, look, fids, row + 0.5 * spread(len(own)), is_cut_short=is_cut_short, fids="x")
        judged = judged_fids(own).dropna().to_numpy()
        median = float(np.median(judged)) if len(judged) else np.nan
        if np.isfinite(median):
            strip.plot([median, median], [row - 0.33, row + 0.33], color="black", lw=1.5)
            place = (median, row - 0.36)
            strip.annotate(_number(median), place, ha="center", va="bottom", fontsize=7, fontweight="bold")
        if len(judged):
            shares.ecdf(judged, color=look.color, ls=look.dash, lw=1.4, label=algorithm)
    strip.set_yticks(range(len(algorithms)), [f"{name}\n{_count(runs, name)}" for name in algorithms])
    strip.set_ylim(len(algorithms) - 0.45, -0.65)
    shares.set(xlabel=f"{label}, lower is better", ylabel="share of runs\nat this FID or lower", ylim=(0, 1.02))
    if shares.lines:
        shares.legend(loc="lower right")
    keys = [
        Line2D([], [], label="completed", **dots(KEY)),
        *run_keys(),
        Line2D([], [], label="median", color="black", ls="", marker="|", ms=9, mew=1.5),
    ]
    figure.legend(handles=keys, loc="outside upper center", ncols=len(keys))
    return figure


@rc_context(STYLE)
def fid_over_steps(runs: pd.DataFrame, evaluations: pd.DataFrame) -> Figure:
    """Every evaluated FID of `runs`, a panel an algorithm; its best run is bold, its kept checkpoint marked.

    Raises:
        ValueError: there is no run, or the FIDs are of several kinds.
    """
    label, algorithms = fid_label(runs), _algorithms(runs)
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    panels = figure.subplots(1, len(algorithms), sharex=True, sharey=True, squeeze=False)[0]
    shown = evaluations[evaluations["run_id"].isin(runs["run_id"]) & np.isfinite(evaluations["fid"])]
    scale_fid(panels[0], "y", shown["fid"])
    panels[0].margins(y=0.15)
    for panel, algorithm in zip(panels, algorithms, strict=True):
        look, own = LOOKS[algorithm], runs[runs["algorithm"] == algorithm]
        curves = shown[shown["algorithm"] == algorithm].pivot(index="step", columns="run_id", values="fid")
        panel.plot(curves.index, curves, color=look.color, lw=0.6, alpha=min(0.4, max(0.1, 20 / len(own))))
        for run_id in curves.columns.intersection(own.loc[own["status"] != COMPLETED, "run_id"]):
            last = curves[run_id].last_valid_index()
            panel.plot(last, curves.at[last, run_id], **crosses(look))
        for best in best_runs(own, 1).to_dict("records"):
            panel.plot(curves.index, curves[best["run_id"]], color=look.color, lw=2)
            step, fid = best["best_step"], best["best_fid"]
            panel.plot(step, fid, **dots(look, is_open=True, size=6))
            text, side = f"{_number(fid)} at step {step:,.0f}", "right" if step > curves.index.max() / 2 else "left"
            panel.annotate(text, (step, fid), (0, -7), textcoords="offset points", ha=side, va="top", fontsize=7)
        panel.set_title(f"{algorithm}\n{_count(runs, algorithm)}")
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    panels[0].set_ylabel(label.replace(" (", "\n(", 1), fontsize=7)
    figure.supxlabel("mini-batch steps", fontsize=8)
    keys = [
        Line2D([], [], label="run", color=KEY.color, lw=0.6),
        Line2D([], [], label="best run", color=KEY.color, lw=2),
        Line2D([], [], label="its kept checkpoint", **dots(KEY, is_open=True, size=6)),
        Line2D([], [], label="last FID of a run that diverged or failed", **crosses(KEY)),
    ]
    figure.legend(handles=keys, loc="outside upper center", ncols=len(keys))
    return figure


@rc_context(STYLE)
def best_samples(runs: pd.DataFrame, results: str | Path, study: str) -> Figure:
    """The `samples.png` of each algorithm's best run side by side, with its FID as selected and as confirmed.

    Raises:
        ValueError: there is no run, or the FIDs are of several kinds.
    """
    label, algorithms = fid_label(runs), _algorithms(runs)
    figure = Figure(figsize=(WIDTH, WIDTH / max(3, len(algorithms)) + 0.35), layout="constrained")
    panels = figure.subplots(1, len(algorithms), squeeze=False)[0]
    for panel, algorithm in zip(panels, algorithms, strict=True):
        panel.set_axis_off()
        panel.set_title(f"{algorithm}  no FID")
        for best in best_runs(runs[runs["algorithm"] == algorithm], 1).to_dict("records"):
            fid, confirmed = _number(best["best_fid"]), _number(best["confirmed_fid"])
            panel.set_title(f"{algorithm}  FID {fid} (confirmed {confirmed})")
            path = Path(results) / study / "work" / best["run_id"] / "samples.png"
            if path.exists():
                panel.imshow(imread(path), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            else:
                panel.text(0.5, 0.5, f"{best['run_id']}\nhas no samples.png", ha="center", va="center")
    figure.supxlabel(f"{label}; confirmed: the same checkpoint on fresh samples", fontsize=7)
    return figure


@rc_context(STYLE)
def fid_against_hyperparameters(runs: pd.DataFrame) -> Figure:
    """Every run's best FID against each hyperparameter that some run of the frame has.

    A run without an FID is a cross on the upper edge: where in the space training fails is seen too.

    Raises:
        ValueError: there is no run, or the FIDs are of several kinds.
    """
    label, algorithms = fid_label(runs), _algorithms(runs)
    names = [name for name in HYPERPARAMETERS if runs[name].notna().any()]
    rows = -(-len(names) // 3)
    figure = Figure(figsize=(WIDTH, 1.75 * rows + 0.4), layout="constrained")
    panels = figure.subplots(rows, 3, sharey=True, squeeze=False)
    scale_fid(panels[0, 0], "y", runs["best_fid"])
    for panel, name in zip(panels.flat, names, strict=False):
        _draw_hyperparameter(panel, runs, name)
    for panel in panels.flat[len(names) :]:
        panel.set_axis_off()
    figure.supylabel(label, fontsize=8)
    sizes = runs["algorithm"].value_counts()
    keys = [Line2D([], [], label=f"{name}, N = {sizes[name]}", **dots(LOOKS[name])) for name in algorithms]
    figure.legend(
        handles=[*keys, *run_keys()], loc="outside upper center", ncols=5, columnspacing=1.2, handletextpad=0.2
    )
    return figure


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


def _algorithms(runs: pd.DataFrame) -> list[str]:
    """The algorithms of the frame, in the order of the figures."""
    return sorted(set(runs["algorithm"]), key=list(LOOKS).index)


def _count(runs: pd.DataFrame, algorithm: str) -> str:
    """How many runs an algorithm has, and what became of them: no diverged or failed run is passed over."""
    status = runs.loc[runs["algorithm"] == algorithm, "status"]
    wrong = [f"{sum(status == kind)} {kind}" for kind in (DIVERGED, FAILED) if any(status == kind)]
    return ", ".join([f"N = {len(status)} run{'s' * (len(status) != 1)}", *wrong])


def _number(fid: float) -> str:
    if not np.isfinite(fid):
        return "–"
    return f"{fid:,.1f}" if fid >= 10 else f"{fid:#.3g}"


def _draw_hyperparameter(panel: Axes, runs: pd.DataFrame, name: str) -> None:
    """FID against one hyperparameter: numbers on their scale; choices side by side, in each the algorithms too."""
    given = runs[runs[name].notna()]
    choices = None if given[name].dtype.kind == "f" else sorted(given[name].unique())
    algorithms = _algorithms(given)
    for position, algorithm in enumerate(algorithms):
        own = given[given["algorithm"] == algorithm]
        if choices is None:
            x = own[name].to_numpy(dtype=float)
        else:
            lane = position - (len(algorithms) - 1) / 2
            x = own[name].map(choices.index).to_numpy(dtype=float) + 0.26 * lane + 0.16 * spread(len(own))
        fids, is_cut_short = own["best_fid"].to_numpy(dtype=float), (own["status"] != COMPLETED).to_numpy()
        draw_runs(panel, LOOKS[algorithm], x, fids, is_cut_short=is_cut_short, fids="y")
    panel.set_xlabel(HYPERPARAMETERS[name])
    if choices is not None:
        panel.set_xticks(range(len(choices)), [str(choice) for choice in choices])
        panel.set_xlim(-0.6, len(choices) - 0.4)
    elif DECLARED[name].log_axis:
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if _decades(given[name]) < 1.5 else (1,)))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.xaxis.set_minor_locator(NullLocator())


def _decades(values: pd.Series[float]) -> float:
    return float(np.log10(values.max() / values.min()))
