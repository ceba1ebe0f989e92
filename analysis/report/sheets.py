"""Sheets of pictures: samples, reconstructions and interpolations of the best and the median, real images beside."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from analysis.configurations import judged_fids
from analysis.looks import STYLE, WIDTH
from analysis.report.contents import Contents
from sweep.results.schema import COMPLETED
from wae_core.names import GAP, ZOOM
from wae_core.storage.files import Location, read


@rc_context(STYLE)
def sheet(contents: Contents, name: str) -> Figure:
    """One kind of picture of each algorithm's best and median run, a column each; beside samples, real images.

    Raises:
        ValueError: no run that completed has such a picture.
    """
    shown = {algorithm: _pictures(contents, algorithm, name) for algorithm in contents.with_results}
    shown = {algorithm: pictures for algorithm, pictures in shown.items() if pictures}
    if not shown:
        raise ValueError(f"no completed run has its {name}.png")
    real = _real_images(contents) if name == "samples" else None
    columns, rows = len(shown) + (real is not None), max(map(len, shown.values()))
    first = next(iter(shown.values()))[0][1]
    height, width = first.shape[:2]
    panel_width = WIDTH / max(columns, 2)
    size = (panel_width * columns, rows * (panel_width * height / width + 0.35))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    for column, pictures in enumerate(shown.values()):
        for row, (title, pixels) in enumerate(pictures):
            _show(panels[row, column], title, pixels)
    if real is not None:
        _show(panels[0, -1], "real images,\nheld out", real)
    return figure


def originals(reconstructions: np.ndarray, height: int) -> np.ndarray:
    """Return the rows of real images, every other one of a picture of reconstructions, below each other.

    Args:
        reconstructions: [H', W'] or [H', W', C], as `wae_core.pictures` lays it out.
        height: of one image, in its own pixels.
    """
    pitch, gap = (height + GAP) * ZOOM, GAP * ZOOM
    rows = [reconstructions[top : top + pitch] for top in range(0, len(reconstructions) - gap, 2 * pitch)]
    return np.concatenate([*rows, reconstructions[-gap:]])


def _pictures(contents: Contents, algorithm: str, name: str) -> list[tuple[str, np.ndarray]]:
    """The titles and pixels of an algorithm's best and median run, of those that have the picture."""
    own = contents.runs[(contents.runs["algorithm"] == algorithm) & (contents.runs["status"] == COMPLETED)]
    ranked = own.assign(fid=judged_fids(own)).sort_values(["fid", "run_id"], ignore_index=True)
    positions = {"best": 0, "median": (len(ranked) - 1) // 2} if len(ranked) > 1 else {"best": 0}
    found = []
    for which, position in positions.items() if len(ranked) else ():
        run = ranked.iloc[position]
        path = contents.folder.work(str(run["run_id"])) / f"{name}.png"
        if path.exists():
            fids = f"FID {run['best_fid']:.1f}, {run['confirmed_fid']:.1f} confirmed"
            found.append((f"{which}: {run['run_id']}\n{fids}", _pixels(path)))
    return found


def _real_images(contents: Contents) -> np.ndarray | None:
    """The held-out images in a run's reconstructions, which are the same for all; None where there are none."""
    shape: Sequence[int] | None = contents.document.get("image_shape")
    for algorithm in contents.with_results:
        for _, pixels in _pictures(contents, algorithm, "reconstructions"):
            return originals(pixels, shape[1]) if shape else None
    return None


def _pixels(path: Location) -> np.ndarray:
    pixels: np.ndarray = imread(io.BytesIO(read(path)))
    return pixels


def _show(panel: Axes, title: str, pixels: np.ndarray) -> None:
    panel.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="lanczos")
    panel.set_title(title, fontsize=6)
    panel.set_anchor("N")
