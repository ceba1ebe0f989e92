"""What early stopping or fewer seeds would have found and saved in a study that gave every run its full budget.

`bigwae counterfactual --study digits`: a table per algorithm, and a picture with --out. Nothing is trained: the
stored evaluations say what each configuration had reached at each step. A strategy picks by the seeds that it trains,
and is judged by one that it has not seen, since the luck that helped to pick a configuration does not come again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from analysis.load import load_evaluations, load_runs
from analysis.looks import LOOKS, STYLE, WIDTH, scale_fid
from analysis.strategies import UNSEEN, Outcome, compare, finished
from sweep.search.asha import is_reduction

# Quantiles of the sweeps drawn from a study: between them, about four fifths of other sweeps of its space end,
# 74 to 86 % in simulations of 24 to 334 configurations, since one study does not hold all that there is.
BAND = (0.05, 0.95)


def equal_steps(outcomes: Sequence[Outcome]) -> float:
    """Return the steps for which all strategies can be compared: what the cheapest sweep of any takes in all."""
    return float(min(outcome.total.min() for outcome in outcomes))


def summary(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row per strategy, medians over sweeps; between low and high about four fifths of sweeps end.

    Columns: strategy; saved (share of the first strategy's steps, of as many configurations); at equal steps for all,
    configurations (how many it comes to), fid (of the pick), low and high; judged_by (what gave that FID).
    """
    budget, everything = equal_steps(outcomes), float(np.mean(outcomes[0].total))
    rows = []
    for outcome in outcomes:
        counts, fids = outcome.picks(budget)
        fid, low, high = _quantiles(fids[None])[:, 0]
        rows.append(
            {
                "strategy": outcome.name,
                "saved": 1 - float(np.mean(outcome.total)) / everything,
                "configurations": int(np.median(counts)),
                "fid": fid,
                "low": low,
                "high": high,
                "judged_by": outcome.judge,
            }
        )
    return pd.DataFrame(rows)


@rc_context(STYLE)
def best_against_steps(outcomes: Sequence[Outcome], title: str) -> Figure:
    """The FID of the configuration picked so far, by a seed that was not seen, against the steps spent.

    A line is the median of sweeps, and in its band about four fifths of them end; a strategy that no unseen seed
    judges is left out.
    """
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()
    honest = [outcome for outcome in outcomes if outcome.judge == UNSEEN] or list(outcomes)
    shown = []
    for outcome in honest:
        grid = np.geomspace(outcome.spent[:, 0].max(), outcome.total.min(), 100)
        middle, low, high = _quantiles(np.array([outcome.picks(budget)[1] for budget in grid]))
        (line,) = axes.plot(grid, np.where(np.isfinite(middle), middle, np.nan), lw=1.4, label=outcome.name)
        bounded = np.isfinite(low) & np.isfinite(high)
        shown += [low[bounded], high[bounded], middle[np.isfinite(middle)]]
        axes.fill_between(grid, low, high, where=bounded, color=line.get_color(), alpha=0.12, lw=0)
    axes.set(xscale="log", xlabel="steps spent", title=title)
    scale_fid(axes, "y", pd.Series(np.concatenate(shown)))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_ylabel(f"FID of the pick so far,\nby {honest[0].judge}", fontsize=7)
    axes.legend(title="median, and 80 % of sweeps", title_fontsize=7)
    return figure


def _quantiles(values: np.ndarray) -> np.ndarray:
    """[3, rows] median and BAND of each row; of values that may be infinite, a quantile is one of them."""
    with np.errstate(invalid="ignore"):
        found = np.quantile(values, (0.5, *BAND), axis=1, method="inverted_cdf")
    return np.asarray(found)


def main(words: Sequence[str]) -> None:
    """Run `bigwae counterfactual`.

    Raises:
        ValueError: there is nothing to compute from.
    """
    parser = argparse.ArgumentParser(
        prog="bigwae counterfactual",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--results", default="results", help="the results folder, local or s3://… (default: results)")
    parser.add_argument("--study", default="digits", help="a finished study (default: digits)")
    parser.add_argument(
        "--reduction", type=_reduction, nargs="+", default=(2, 3, 4), help="ASHA's η (default: 2 3 4)"
    )
    parser.add_argument("--out", type=Path, help="where pictures go: one per algorithm, its name behind this one's")
    arguments = parser.parse_args(words)
    try:
        runs = load_runs(arguments.results, arguments.study)
        evaluations = load_evaluations(arguments.results, arguments.study)
    except FileNotFoundError as error:
        raise ValueError(str(error)) from error
    if runs.empty:
        raise ValueError(f"study {arguments.study!r} has no ended run yet")
    reasons = []
    algorithms = [name for name in LOOKS if name in set(runs["algorithm"])]
    for algorithm in algorithms:
        try:
            study = finished(runs, evaluations, algorithm)
            outcomes = compare(study, arguments.reduction)
        except ValueError as error:
            reasons.append(f"{algorithm} {error}")
            continue
        count, seeds = study.best.shape
        print(f"{algorithm}: {count} configurations × {seeds} seeds, {study.spent[:, :, -1].sum():,} steps")
        print(f"at equal steps, {equal_steps(outcomes):,.0f} in all; between low and high, 80 % of sweeps end")
        print(summary(outcomes).to_string(index=False, float_format="{:.3f}".format), end="\n\n")
        if arguments.out:
            path = arguments.out.with_name(f"{arguments.out.stem}-{algorithm}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            best_against_steps(outcomes, f"{arguments.study}, {algorithm}").savefig(path)
            print(path)
    if len(reasons) == len(algorithms):
        raise ValueError("; ".join(reasons))
    for reason in reasons:
        print(reason, file=sys.stderr)


def _reduction(word: str) -> float:
    value = float(word)
    if not is_reduction(value):
        raise argparse.ArgumentTypeError(f"{word!r} is not a number above 1, from 1.01 on")
    return value
