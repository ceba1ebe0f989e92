"""Optuna against random search on equal budgets: the best FID against the models trained, over several study seeds.

python -m tests.benchmarks.search                         5 seeds × 60 models × 2 searches, about 70 core-minutes
python -m tests.benchmarks.search --seeds 2 --budget 6 study.steps=50 study.evaluation_steps=[25,50]    a quick look

Each sweep is launched as a person would, so that a second call continues what is missing, or only draws. Other words
are handed to every sweep. Results go to RESULTS/seed-<s>, the picture and the figures to RESULTS.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from analysis.load import load_runs
from analysis.looks import STYLE, WIDTH
from sweep.settings import load_settings

SEARCHES = ("random", "optuna")
# What is shown of the configurations so far: of the best run, and of the configuration that is best over its seeds.
FIGURES = {"best run": "min", "best configuration, mean over its seeds": "mean"}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.search",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=5, help="study seeds, 0, 1, …")
    parser.add_argument("--budget", type=int, default=60, help="models per search and study seed")
    parser.add_argument("--alg", default="wae-mmd", help="one algorithm")
    parser.add_argument("--results", type=Path, default=Path("results/search"))
    parser.add_argument("words", nargs="*", help="key=value words for every sweep, e.g. cluster.workers=1")
    arguments = parser.parse_args()
    frames = []
    for seed in range(arguments.seeds):
        for search in SEARCHES:
            results = arguments.results / f"seed-{seed}"
            own = [f"alg={arguments.alg}", f"budget={arguments.budget}", f"results={results}"]
            words = [*own, f"study.seed={seed}", f"search={search}", *arguments.words]
            done = subprocess.run([sys.executable, "-m", "sweep", *words], check=False)
            if done.returncode:
                return done.returncode
            settings = load_settings(words)
            runs = load_runs(results, settings.study.name)
            runs = runs[runs["config_index"] < settings.budget // settings.study.seeds]
            frames.append(curves(runs).assign(search=search, seed=seed))
    table = pd.concat(frames, ignore_index=True)
    table.to_csv(arguments.results / "search.csv", index=False)
    figure(table).savefig(arguments.results / "search.png")
    print(gains(table).to_string(index=False, float_format="{:.2f}".format))
    print(f"written to {arguments.results / 'search.csv'} and search.png")
    return 0


def curves(runs: pd.DataFrame) -> pd.DataFrame:
    """models, and the lowest of FIGURES among the first so many models: configurations in the order of the plan.

    A run without an FID counts as infinitely bad, as does one that has diverged.
    """
    fids = runs["best_fid"].where(runs["status"] == "completed", np.inf)
    by_configuration = fids.groupby(runs["config_index"]).agg(list(FIGURES.values())).sort_index()
    table = pd.DataFrame({"models": runs.groupby("config_index").size().sort_index().cumsum()})
    for name, figure in FIGURES.items():
        table[name] = by_configuration[figure].cummin()
    return table


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """One row per figure and quarter of the budget: means over study seeds, in how many of which Optuna is lower."""
    rows = []
    budget = table["models"].max()
    for name in FIGURES:
        wide = table.pivot(index="models", columns=["search", "seed"], values=name)
        for share in (0.25, 0.5, 0.75, 1.0):
            at = wide.loc[wide.index[wide.index >= share * budget][0]]
            difference = at["optuna"] - at["random"]
            rows.append(
                {
                    "figure": name,
                    "models": int(at.name),
                    **{search: at[search].mean() for search in SEARCHES},
                    "optuna - random": difference.mean(),
                    "standard error": difference.std() / np.sqrt(len(difference)),
                    "optuna lower": f"{(difference < 0).sum()} of {len(difference)}",
                }
            )
    return pd.DataFrame(rows)


@rc_context(STYLE)
def figure(table: pd.DataFrame) -> Figure:
    """A panel per figure: for each search the mean over study seeds, and the band from the lowest to the highest."""
    drawn = Figure(figsize=(WIDTH, 3), layout="constrained")
    for axes, name in zip(drawn.subplots(1, len(FIGURES), sharey=True), FIGURES, strict=True):
        for search in SEARCHES:
            wide = table[table["search"] == search].pivot(index="models", columns="seed", values=name)
            wide = wide[np.isfinite(wide).all(axis=1)]
            (line,) = axes.plot(wide.index, wide.mean(axis=1), lw=1.5, label=search)
            axes.fill_between(
                wide.index, wide.min(axis=1), wide.max(axis=1), color=line.get_color(), alpha=0.15, lw=0
            )
        axes.set(xlabel="models trained", title=name)
        axes.legend(title=f"mean and range of {table['seed'].nunique()} study seeds", title_fontsize=7)
    drawn.supylabel("lowest FID so far", fontsize=8)
    return drawn


if __name__ == "__main__":
    sys.exit(main())
