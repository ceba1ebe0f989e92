"""The README's picture, on a hand-made study: it shows the best run's samples, every run, and hides no lost one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from analysis.first_picture import first_picture, main
from analysis.load import load_runs
from sweep.results.folder import StudyFolder
from tests.analysis.test_analysis import run_row
from tests.places import local

KIND: dict[str, Any] = {
    "fid_features": "digit_classifier-64@012345",
    "fid_reference": "digits/held_out/1000",
    "fid_samples": 500,
}
FIDS = {"wae-mmd": [170.0, 200.0, 230.0], "wae-gan": [90.0, 120.0, np.nan], "vae": [150.0, np.nan, np.nan]}


def make_study(results: Path, fids: dict[str, list[float]]) -> pd.DataFrame:
    """Write the runs' table, the FID of real images and one white samples.png per run; returns the runs."""
    folder = StudyFolder(results, "digits")
    folder.records.mkdir(parents=True)
    local(folder.real_images_file).write_text(json.dumps({"count": 500, "fid": 21.3, "sharpness": 0.1}))
    for algorithm, own in fids.items():
        for index, fid in enumerate(own):
            is_whole = bool(np.isfinite(fid))
            row = run_row(algorithm, index, 0, fid if is_whole else None, confirmed_fid=fid + 2, **KIND)
            folder.publish(row, [])
            work = local(folder.work(row.run_id))
            work.mkdir(parents=True)
            Image.new("L", (16, 16), int(fid) if is_whole else 0).save(work / "samples.png")
    return load_runs(results, "digits")


def words(figure: Figure) -> str:
    return " | ".join(text.get_text() for axes in figure.axes for text in [axes.title, *axes.texts, axes.xaxis.label])


def test_each_panel_shows_the_samples_of_the_algorithms_lowest_fid(tmp_path: Path) -> None:
    figure = first_picture(make_study(tmp_path, FIDS), StudyFolder(tmp_path, "digits"))
    shades = [round(255 * float(np.max(np.asarray(axes.images[0].get_array())))) for axes in figure.axes[:3]]
    assert shades == [170, 90, 150]
    assert "best wae-gan: FID 90\non fresh samples 92" in words(figure)


def test_every_run_has_its_mark_and_a_lost_one_counts_as_infinitely_bad(tmp_path: Path) -> None:
    runs = make_study(tmp_path, FIDS)
    figure = first_picture(runs, StudyFolder(tmp_path, "digits"))
    strip = figure.axes[3]
    marks = sum(
        len(np.asarray(line.get_xdata())) for line in strip.lines if line.get_marker() in ("o", "^", "s", "x")
    )
    assert marks == len(runs)
    shown = words(figure)
    assert "200" in shown and "120" in shown  # medians; the VAE's is infinite and has no bar
    assert "real images 21" in shown and "3 runs per algorithm" in shown


def test_the_command_writes_a_png_or_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_study(tmp_path, FIDS)
    out = tmp_path / "pictures" / "first.png"
    assert main(["--results", str(tmp_path), "--out", str(out)]) == 0
    with Image.open(out) as picture:
        assert picture.width == 1350
    assert main(["--results", str(tmp_path), "--study", "none", "--out", str(out)]) == 2
    assert "no study 'none'" in capsys.readouterr().err
