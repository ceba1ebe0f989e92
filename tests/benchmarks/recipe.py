"""How long `digits` must train: the ranking of its configurations after s steps against that after 4·s.

python -m tests.benchmarks.recipe results recipe docs/digits/recipe.png

The study was trained for at least four times the steps in question and scored often; learning rates do not drop, so
its beginning is the shorter study. `make sweep` line of it: docs/digits.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from scipy.stats import spearmanr

from analysis.load import load_evaluations, load_runs
from analysis.looks import KEY, LOOKS, STYLE

FACTOR = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", help="the results folder")
    parser.add_argument("study", help="the study in it")
    parser.add_argument("picture", type=Path, help="where the picture goes, a PNG")
    arguments = parser.parse_args()
    runs = load_runs(arguments.results, arguments.study).set_index("run_id")
    found = agreement(runs, load_evaluations(arguments.results, arguments.study))
    print(f"{len(runs)} runs of {runs['config_index'].nunique()} configurations an algorithm")
    print(found.to_string(float_format="%.2f"))
    draw(found).savefig(arguments.picture, dpi=150)
    print(arguments.picture)


def agreement(runs: pd.DataFrame, evaluations: pd.DataFrame) -> pd.DataFrame:
    """Return a row per number of steps s, of which 4·s were trained too.

    Args:
        runs: by run_id.
        evaluations: a row per run and evaluation step.

    Returns:
        Per algorithm Spearman's rank correlation of the configurations' mean kept FIDs after s and 4·s steps; the
        share of runs whose kept checkpoint is not the last; core-seconds a model, of s steps and their evaluations.
    """
    fids = evaluations.pivot_table(index="run_id", columns="step", values="fid")
    kept = fids.cummin(axis=1).join(runs[["algorithm", "config_index"]])
    means = kept.groupby(["algorithm", "config_index"]).mean()
    seconds = (runs["cpu_seconds"] / runs["steps_done"]).mean()
    rows = {}
    for step in (int(step) for step in fids.columns if FACTOR * int(step) in fids.columns):
        ranks = {
            algorithm: spearmanr(own[step], own[FACTOR * step]).statistic
            for algorithm, own in means.groupby(level="algorithm")
        }
        not_last = float((fids.loc[:, :step].idxmin(axis=1) < step).mean())
        rows[step] = ranks | {"kept is not the last": not_last, "core-seconds": seconds * step}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("steps")


@rc_context(STYLE)
def draw(found: pd.DataFrame) -> Figure:
    """Draw the agreement of rankings, and the share of runs that keep an earlier checkpoint, against the cost."""
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for algorithm in (name for name in LOOKS if name in found):
        look = LOOKS[algorithm]
        left.plot(
            found["core-seconds"],
            found[algorithm],
            color=look.color,
            ls=look.dash,
            marker=look.marker,
            label=algorithm,
        )
    left.axhline(0.9, color=KEY.color, lw=0.8, ls=":")
    left.set(ylabel=f"Spearman, s steps against {FACTOR}·s", ylim=(None, 1))
    left.legend(loc="lower right")
    right.plot(found["core-seconds"], found["kept is not the last"], color=KEY.color, marker="o")
    right.axhline(0.25, color=KEY.color, lw=0.8, ls=":")
    right.set(ylabel="runs that keep an earlier checkpoint", ylim=(0, 1))
    right.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    per_step = float(found["core-seconds"].iloc[0]) / found.index[0]
    for axes in (left, right):
        axes.set(xlabel="core-seconds a model")
        axes.secondary_xaxis("top", functions=(lambda x: x / per_step, lambda x: x * per_step)).set_xlabel("steps s")
    return figure


if __name__ == "__main__":
    main()
