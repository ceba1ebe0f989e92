"""Searches on equal budgets: the best FID against the steps spent, over several study seeds.

python -m tests.benchmarks.search                     5 seeds × 60 models × 3 searches, about 110 core-minutes
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
from sweep.settings.compose import load_settings

SEARCHES = {"random": (), "optuna": ("search=optuna",), "asha": ("scheduler=asha",)}
# What is shown of the configurations so far: of the best run, and of the configuration that is best over its seeds.
FIGURES = {"best run": "min", "best configuration, mean over its seeds": "mean"}


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.search",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--searches", nargs="+", choices=SEARCHES, default=list(SEARCHES), help="the first is the measure"
    )
    parser.add_argument("--seeds", type=int, default=5, help="study seeds, 0, 1, …")
    parser.add_argument("--budget", type=int, default=60, help="models per search and study seed")
    parser.add_argument("--alg", default="wae-mmd", help="one algorithm")
    parser.add_argument("--results", type=Path, default=Path("results/search"))
    parser.add_argument("words", nargs="*", help="key=value words for every sweep, e.g. cluster.workers=1")
    arguments = parser.parse_args()
    frames = []
    for seed in range(arguments.seeds):
        for search in arguments.searches:
            results = arguments.results / f"seed-{seed}"
            own = [f"alg={arguments.alg}", f"budget={arguments.budget}", f"results={results}", f"study.seed={seed}"]
            words = [*own, *SEARCHES[search], *arguments.words]
            done = subprocess.run([sys.executable, "-m", "sweep", *words], check=False)
            if done.returncode:
                return done.returncode
            runs = load_runs(results, load_settings(words).study.name)
            frames.append(curves(runs, arguments.budget).assign(search=search, seed=seed))
    table = pd.concat(frames, ignore_index=True)
    table.to_csv(arguments.results / "search.csv", index=False)
    figure(table).savefig(arguments.results / "search.png")
    print(gains(table).to_string(index=False, float_format="{:.2f}".format))
    print(f"written to {arguments.results / 'search.csv'} and search.png")
    return 0


def curves(runs: pd.DataFrame, budget: int) -> pd.DataFrame:
    """The lowest of FIGURES among the first configurations of the plan, by the models whose steps they took.

    A run that was stopped early counts as the part of a model that it was, and one without an FID, or that has
    diverged, as infinitely bad. One row for each whole number of models up to the budget.
    """
    fids = runs["best_fid"].where(runs["status"] == "completed", np.inf)
    spent = (runs["steps_done"] / runs["steps_planned"]).where(runs["status"] == "completed", 1.0)
    by_configuration = fids.groupby(runs["config_index"]).agg(list(FIGURES.values())).sort_index()
    models = spent.groupby(runs["config_index"]).sum().sort_index().cumsum().round(9)
    table = pd.DataFrame({name: by_configuration[figure].cummin() for name, figure in FIGURES.items()})
    so_far = table.set_index(models).groupby(level=0).last()
    return so_far.reindex(range(1, budget + 1), method="ffill").rename_axis("models").reset_index()


def gains(table: pd.DataFrame) -> pd.DataFrame:
    """One row per figure, quarter of the budget and search but the first: how much lower it is over study seeds."""
    rows = []
    budget = table["models"].max()
    first, *others = table["search"].unique()
    for name in FIGURES:
        wide = table.pivot(index="models", columns=["search", "seed"], values=name)
        for models in (round(budget * quarter / 4) for quarter in range(1, 5)):
            for search in others:
                lower = wide.loc[models, first] - wide.loc[models, search]
                rows.append(
                    {
                        "figure": name,
                        "models": models,
                        "search": search,
                        first: wide.loc[models, first].mean(),
                        "its FID": wide.loc[models, search].mean(),
                        "lower by": lower.mean(),
                        "standard error": lower.std() / np.sqrt(len(lower)),
                        "lower in": f"{(lower > 0).sum()} of {len(lower)}",
                    }
                )
    return pd.DataFrame(rows)


@rc_context(STYLE)
def figure(table: pd.DataFrame) -> Figure:
    """A panel per figure: for each search the mean over study seeds, and the band from the lowest to the highest."""
    drawn = Figure(figsize=(WIDTH, 3), layout="constrained")
    for axes, name in zip(drawn.subplots(1, len(FIGURES), sharey=True), FIGURES, strict=True):
        for search in table["search"].unique():
            wide = table[table["search"] == search].pivot(index="models", columns="seed", values=name)
            wide = wide[np.isfinite(wide).all(axis=1)]
            (line,) = axes.plot(wide.index, wide.mean(axis=1), lw=1.5, label=search, drawstyle="steps-post")
            low, high = wide.min(axis=1), wide.max(axis=1)
            axes.fill_between(wide.index, low, high, color=line.get_color(), alpha=0.15, lw=0, step="post")
        axes.set(xlabel="steps spent, in models", title=name)
        axes.legend(title=f"mean and range of {table['seed'].nunique()} study seeds", title_fontsize=7)
    drawn.supylabel("lowest FID so far", fontsize=8)
    return drawn


if __name__ == "__main__":
    sys.exit(main())
