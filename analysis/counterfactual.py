"""What early stopping or fewer seeds would have found and saved in a study that gave every run its full budget.

`bigwae counterfactual --study digits`: a table per algorithm, and a picture with --out. Nothing is
trained: the stored evaluations say what each configuration had reached at each step.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from analysis.configurations import fid_matrix
from analysis.load import load_evaluations, load_runs
from analysis.looks import STYLE, WIDTH
from sweep.search.asha import is_promoted, is_reduction, rungs

ORDERS = 200  # random orders in which the configurations could have come
BAND = (5, 95)  # percent of the orders


@dataclass(frozen=True)
class Finished:
    """The configurations of one algorithm for which all seeds have ended, none of them failed.

    fids: [configurations, seeds, evaluation steps] the best FID up to the step; infinite where there is none and,
        since a diverged run can be stopped by nobody but itself, from its divergence on.
    spent: [configurations, seeds, evaluation steps] steps that were trained up to the step.
    best: [configurations, seeds] the FID by which the run is judged at its end, infinite where it diverged.
    """

    steps: np.ndarray
    fids: np.ndarray
    spent: np.ndarray
    best: np.ndarray

    @property
    def value(self) -> np.ndarray:
        """[configurations] the mean over seeds of the best FID: what a strategy is judged by."""
        return np.asarray(self.best.mean(axis=1))


@dataclass(frozen=True)
class Outcome:
    """What a strategy spends on each configuration, and the figure by which it would pick one at the end.

    Both [orders, configurations] in the order of the study; `picked_by` is infinite for what was stopped.
    """

    name: str
    spent: np.ndarray
    picked_by: np.ndarray


def finished(runs: pd.DataFrame, evaluations: pd.DataFrame, algorithm: str) -> Finished:
    """The algorithm's finished configurations.

    Raises:
        ValueError: there is none, or the runs were not all to do the same steps.
    """
    best_fids = fid_matrix(runs, algorithm)
    own = runs[(runs["algorithm"] == algorithm) & runs["config_index"].isin(best_fids.index)]
    own = own.sort_values(["config_index", "seed"])
    if own.empty or own["steps_planned"].nunique() != 1:
        raise ValueError(f"{algorithm} has no configuration that ended with all its seeds at one number of steps")
    if ((own["status"] == "completed") & (own["steps_done"] < own["steps_planned"])).any():
        raise ValueError(f"{algorithm} was stopped early itself: what its runs would have reached nobody knows")
    steps = np.array(sorted(evaluations.loc[evaluations["run_id"].isin(own["run_id"]), "step"].unique()))
    fids = evaluations.pivot(index="run_id", columns="step", values="fid").reindex(own["run_id"], columns=steps)
    reached = own["steps_done"].to_numpy()[:, None]
    diverged = (own["status"] == "diverged").to_numpy()[:, None]
    best = np.minimum.accumulate(fids.where(np.isfinite(fids), np.inf).to_numpy(dtype=float), axis=1)
    best_so_far = np.where(diverged & (steps[None] >= reached), np.inf, best)
    seeds = own["seed"].nunique()
    return Finished(
        steps=steps,
        fids=best_so_far.reshape(-1, seeds, len(steps)),
        spent=np.minimum(steps[None], reached).reshape(-1, seeds, len(steps)),
        best=best_fids.to_numpy(),
    )


def full(study: Finished) -> Outcome:
    """What was done: every run to its end."""
    return Outcome("as it was", study.spent[:, :, -1].sum(axis=1)[None], study.value[None])


def fewer_seeds(study: Finished, seeds: int) -> Outcome:
    """`seeds` of the seeds alone: every choice of them is one of the Outcome's orders."""
    chosen = [list(some) for some in itertools.combinations(range(study.best.shape[1]), seeds)]
    return Outcome(
        f"{seeds} seed{'s' * (seeds > 1)}",
        np.array([study.spent[:, some, -1].sum(axis=1) for some in chosen]),
        np.array([study.best[:, some].mean(axis=1) for some in chosen]),
    )


def asha(study: Finished, reduction: float, orders: np.ndarray) -> Outcome:
    """ASHA, decided per configuration on the mean over its seeds of the best FID so far, in each of the orders.

    The configurations come one after the other, and what stops them is the live schedule's own rule.

    Args:
        reduction: η.
        orders: [orders, configurations], permutations.
    """
    decide = [int(np.searchsorted(study.steps, rung)) for rung in rungs(study.steps.tolist(), reduction)]
    means = study.fids.mean(axis=1)
    spent = np.empty(orders.shape)
    picked_by = np.full(orders.shape, np.inf)
    for number, order in enumerate(orders):
        reached: dict[int, list[float]] = {rung: [] for rung in decide}
        for configuration in order:
            stopped_at = len(study.steps) - 1
            for rung in decide:
                reached[rung].append(means[configuration, rung])
                if not is_promoted(means[configuration, rung], reached[rung], reduction):
                    stopped_at = rung
                    break
            else:
                picked_by[number, configuration] = study.value[configuration]
            spent[number, configuration] = study.spent[configuration, :, stopped_at].sum()
    return Outcome(f"ASHA, η = {reduction:g}", spent, picked_by)


def compare(study: Finished, reductions: Sequence[float] = (2, 3, 4)) -> list[Outcome]:
    """The study as it was, with fewer seeds, and with ASHA in ORDERS random orders (always the same ones)."""
    orders = _random_orders(study)
    fewer = [fewer_seeds(study, seeds) for seeds in range(1, study.best.shape[1])]
    return [full(study), *fewer, *(asha(study, reduction, orders) for reduction in reductions)]


def summary(study: Finished, outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row per strategy, means over the orders.

    Columns: strategy, saved (share of the study's steps), fid (of the configuration that it picks: the mean over all
    its seeds at their end), lost (how much higher than the study's lowest that is), same_pick (share of the orders
    in which it is the study's own pick).
    """
    everything, lowest = study.spent[:, :, -1].sum(), study.value.min()
    rows = []
    for outcome in outcomes:
        picks = outcome.picked_by.argmin(axis=1)
        fids = study.value[picks]
        rows.append(
            {
                "strategy": outcome.name,
                "saved": 1 - outcome.spent.sum(axis=1).mean() / everything,
                "fid": fids.mean(),
                "lost": fids.mean() - lowest,
                "same_pick": (picks == study.value.argmin()).mean(),
            }
        )
    return pd.DataFrame(rows)


@rc_context(STYLE)
def best_against_steps(study: Finished, outcomes: Sequence[Outcome], title: str) -> Figure:
    """The FID of the configuration picked so far against the steps spent: means over orders, with a band.

    Each strategy takes the configurations in the same ORDERS random orders; its curve ends with what it spends.
    """
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()
    orders = _random_orders(study)
    grid = np.geomspace(study.steps[0], study.spent[:, :, -1].sum(), 200)
    for outcome in outcomes:
        curves = np.array([_curve(study, outcome, number, order, grid) for number, order in enumerate(orders)])
        has_all = np.isfinite(curves).all(axis=0) & (grid <= outcome.spent.sum(axis=1).max())
        mean = curves[:, has_all].mean(axis=0)
        (line,) = axes.plot(grid[has_all], mean, lw=1.4, label=outcome.name)
        low, high = np.percentile(curves[:, has_all], BAND, axis=0)
        axes.fill_between(grid[has_all], low, high, color=line.get_color(), alpha=0.12, lw=0)
    axes.set(xscale="log", yscale="log", xlabel="steps spent", title=title)
    axes.set_ylabel("FID of the pick so far\n(mean over all its seeds)")
    axes.legend(title=f"mean and {BAND[1] - BAND[0]} % of {ORDERS} orders", title_fontsize=7)
    return figure


def _random_orders(study: Finished) -> np.ndarray:
    """[ORDERS, configurations] always the same permutations."""
    generator = np.random.default_rng(0)
    return np.array([generator.permutation(len(study.best)) for _ in range(ORDERS)])


def _curve(study: Finished, outcome: Outcome, number: int, order: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """[grid] the FID of the pick after so many steps; infinite before the first."""
    row = number % len(outcome.spent)
    spent, figures = np.cumsum(outcome.spent[row][order]), outcome.picked_by[row][order]
    lowest = np.minimum.accumulate(figures)
    pick = np.maximum.accumulate(np.where(figures == lowest, np.arange(len(order)), 0))
    fids = np.where(np.isfinite(lowest), study.value[order][pick], np.inf)
    place = np.searchsorted(spent, grid, side="right") - 1
    return np.where(place >= 0, fids[np.maximum(place, 0)], np.inf)


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
    parser.add_argument("--results", default="results", help="the results folder (default: results)")
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
    for algorithm in sorted(set(runs["algorithm"])):
        study = finished(runs, evaluations, algorithm)
        outcomes = compare(study, arguments.reduction)
        count, seeds = study.best.shape
        print(f"{algorithm}: {count} configurations × {seeds} seeds, {study.spent[:, :, -1].sum():,} steps")
        print(summary(study, outcomes).to_string(index=False, float_format="{:.3f}".format), end="\n\n")
        if arguments.out:
            path = arguments.out.with_name(f"{arguments.out.stem}-{algorithm}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            best_against_steps(study, outcomes, f"{arguments.study}, {algorithm}").savefig(path)
            print(path)


def _reduction(word: str) -> float:
    value = float(word)
    if not is_reduction(value):
        raise argparse.ArgumentTypeError(f"{word!r} is not a number above 1, from 1.01 on")
    return value
