"""The README's picture: samples of each algorithm's best run beside the distribution of the FIDs of all runs.

    python -m analysis.first_picture --results results --study digits --out docs/first_picture.png

Nothing is trained: it shows what the study's folder holds.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from analysis.configurations import judged_fids
from analysis.load import best_runs, load_runs
from analysis.looks import KEY, LOOKS, STYLE, draw_runs, fates, scale_fid, spread
from analysis.plots import fid_label
from sweep.results.folder import StudyFolder
from wae_core.storage.files import Location, location, read

SIZE = (9.0, 2.8)  # inches
DPI = 150  # 1,350 pixels wide: sharp where a page shows it at 900
FONTS = {"font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9, "xtick.labelsize": 8.5, "ytick.labelsize": 9}


@rc_context(STYLE | FONTS)
def first_picture(runs: pd.DataFrame, folder: StudyFolder) -> Figure:
    """Draw a panel of samples per algorithm, and beside them every run's best FID with the median of each algorithm.

    A run without an FID is a cross at the right edge, and counts as infinitely bad in the median.

    Args:
        runs: all ended runs of the study.
        folder: the study's, for the pictures and the FID of real images.

    Raises:
        ValueError: there is no run, or the FIDs are of several kinds.
    """
    label = fid_label(runs)
    algorithms = [name for name in LOOKS if name in set(runs["algorithm"])]
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    *panels, strip = figure.subplots(1, len(algorithms) + 1, width_ratios=[*[1.0] * len(algorithms), 1.75])
    for panel, algorithm in zip(panels, algorithms, strict=True):
        _draw_samples(panel, runs[runs["algorithm"] == algorithm], algorithm, folder)
    real = _real_images_fid(folder.real_images_file)
    scale_fid(strip, "x", pd.Series([*runs["best_fid"], real], dtype=float))
    for row, algorithm in enumerate(algorithms):
        _draw_strip(strip, runs[runs["algorithm"] == algorithm], algorithm, row)
    if np.isfinite(real):
        strip.axvline(real, color=KEY.color, lw=1, ls=(0, (4, 2)))
        strip.annotate(f" real images {real:.0f}", (real, -0.72), va="top", color=KEY.color, fontsize=8)
    strip.set_yticks(range(len(algorithms)), algorithms)
    for tick, algorithm in zip(strip.get_yticklabels(), algorithms, strict=True):
        tick.set_color(LOOKS[algorithm].color)
    strip.set_ylim(len(algorithms) - 0.4, -0.75)
    strip.set_xlabel(f"{label}\nlower is better; a bar is a median", fontsize=8.5)
    counts = sorted(set(runs["algorithm"].value_counts()))
    strip.set_title(f"best FID of each of {' or '.join(map(str, counts))} runs per algorithm")
    return figure


def _draw_samples(panel: Axes, runs: pd.DataFrame, algorithm: str, folder: StudyFolder) -> None:
    """Show the samples of the run with the lowest FID, under its name and FIDs."""
    panel.set_axis_off()
    title = f"{algorithm}\nno FID"
    for best in best_runs(runs, 1).to_dict("records"):
        title = f"best {algorithm}: FID {best['best_fid']:.0f}\non fresh samples {best['confirmed_fid']:.0f}"
        path = folder.work(best["run_id"]) / "samples.png"
        if path.exists():
            panel.imshow(imread(io.BytesIO(read(path))), cmap="gray", vmin=0, vmax=1, interpolation="lanczos")
    panel.set_title(title, color=LOOKS[algorithm].color)


def _draw_strip(axes: Axes, runs: pd.DataFrame, algorithm: str, row: int) -> None:
    """Draw a mark for each run in the row, and a bar at their median."""
    own = runs.sort_values("best_fid")
    fids = own["best_fid"].fillna(np.inf).to_numpy(dtype=float)
    heights = row + 0.5 * spread(len(own))
    draw_runs(axes, LOOKS[algorithm], fids, heights, fates=fates(own), fids="x")
    judged = judged_fids(own).dropna()
    median = float(np.median(judged)) if len(judged) else np.inf
    if np.isfinite(median):
        axes.plot([median, median], [row - 0.33, row + 0.33], color="black", lw=1.8)
        axes.annotate(f"{median:.0f}", (median, row - 0.36), ha="center", va="bottom", fontweight="bold")


def _real_images_fid(file: Location) -> float:
    """Return the FID of real against real images; NaN if the study has not measured it."""
    return float(json.loads(read(file))["fid"]) if file.exists() else np.nan


def main(words: Sequence[str] | None = None) -> int:
    """Draw the picture; returns the exit code: 0, or 2 where there is nothing to draw from."""
    parser = argparse.ArgumentParser(prog="python -m analysis.first_picture", description=__doc__)
    parser.add_argument("--results", default="results", help="the results folder (default: %(default)s)")
    parser.add_argument("--study", default="digits", help="a study of it (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="where the picture goes, a PNG")
    arguments = parser.parse_args(words)
    try:
        runs = load_runs(arguments.results, arguments.study)
        figure = first_picture(runs, StudyFolder(location(arguments.results), arguments.study))
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        # Without the program's version among the file's metadata, the same study gives the same bytes.
        figure.savefig(arguments.out, dpi=DPI, metadata={"Software": None}, pil_kwargs={"optimize": True})
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
