"""The report's sheets of pictures and its Table 1: the right runs, real images, the paper's where it may be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from analysis.load import best_runs
from analysis.report.contents import Contents
from analysis.report.sheets import originals, sheet
from analysis.report.table1 import about_table_1, table_1
from sweep.results.folder import StudyFolder
from sweep.settings.compose import load_settings
from tests.analysis import planted
from tests.places import local
from wae_core.names import COLUMNS, PICTURES
from wae_core.pictures import image_grid, png

pytestmark = pytest.mark.slow


def grid(first: int, second: int) -> torch.Tensor:
    """Rows of images of one shade and of another, in turn, as reconstructions are laid out."""
    shades = torch.tensor([first, second], dtype=torch.uint8).repeat_interleave(COLUMNS).repeat(4)
    return image_grid(shades[:, None, None, None].expand(-1, 1, 28, 28))


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """18 runs of two algorithms; the shade of a run's samples is its place among those of its algorithm, times 10."""
    results = tmp_path_factory.mktemp("sheets")
    folder = planted.write(results, load_settings(["alg=all", "budget=3"]).study, ["wae-mmd", "vae"], 18)
    contents = Contents.load(results, "digits")
    for run_id, rank in _ranks(contents).items():
        work = local(folder.work(run_id))
        work.mkdir(parents=True)
        for name in PICTURES:
            (work / f"{name}.png").write_bytes(png(grid(200, 10 * rank) if name != "samples" else grid(rank, rank)))
    local(folder.real_images_file).write_text('{"fid": 21.0, "count": 500, "sharpness": 0.1}')
    return contents


def _ranks(contents: Contents) -> dict[str, int]:
    ranked = best_runs(contents.runs, 18)
    places = ranked.groupby("algorithm").cumcount()
    return dict(zip(ranked["run_id"], places, strict=True))


def shades(figure: Figure) -> dict[str, int]:
    """The most frequent shade but white of each panel, by the first line of its title."""
    found = {}
    for axes in figure.axes:
        if axes.images:
            pixels = np.rint(255 * np.asarray(axes.images[0].get_array())).astype(int).ravel()
            found[axes.get_title().split("\n")[0]] = int(np.bincount(pixels[pixels < 255]).argmax())
    return found


def test_samples_are_of_the_best_and_the_median_and_real_images_stand_beside(contents: Contents) -> None:
    found, ranks = shades(sheet(contents, "samples")), _ranks(contents)
    real = found.pop("real images,")
    assert real == 200
    assert len(found) == 4
    for title, shade in found.items():
        which, run_id = title.split(": ")
        completed = sum(run.startswith(run_id[:3]) for run in ranks)
        assert ranks[run_id] == shade == (0 if which == "best" else (completed - 1) // 2), title


def test_originals_are_every_other_row() -> None:
    both = grid(200, 10)[0].numpy().repeat(2, 0).repeat(2, 1)
    assert set(np.unique(both)) == {10, 200, 255} and set(np.unique(originals(both, 28))) == {200, 255}
    np.testing.assert_array_equal(originals(both, 28), grid(200, 200)[0].numpy().repeat(2, 0).repeat(2, 1)[:244])


def test_what_was_not_kept_is_said(contents: Contents) -> None:
    empty = StudyFolder(local(contents.folder.root).parent / "none", contents.study)
    nowhere = replace(contents, folder=empty)
    with pytest.raises(ValueError, match=r"no completed run has its samples\.png"):
        sheet(nowhere, "samples")


def test_the_papers_table_stands_beside_celeba_with_inception_alone(contents: Contents) -> None:
    table = table_1(contents)
    assert table["algorithm"].tolist() == ["wae-mmd", "vae", "real images"]
    assert not [name for name in table if "paper" in str(name)] and "does not stand beside it" in about_table_1(
        contents
    )
    assert table["FID"].tolist()[2] == "21.0" and table["sharpness"].tolist() == ["0.1", "0.1", "0.1"]
    protocol = contents.document["protocol"] | {
        "dataset": "celeba",
        "fid_features": "inception",
        "fid_samples": 10_000,
    }
    papers = replace(contents, document={**contents.document, "protocol": protocol})
    beside = table_1(papers).set_index("algorithm")
    assert beside["paper: FID"].to_dict() == {"wae-mmd": "55", "vae": "63", "real images": "2"}
    assert beside["paper's large study: FID (recalled)"].to_dict() == {
        "wae-mmd": "37",
        "vae": "45",
        "real images": "–",
    }
    assert "recalled" in about_table_1(papers)
    for key, value in (("dataset", "mnist"), ("fid_features", "digits"), ("fid_samples", 5_000)):
        other = replace(contents, document={"protocol": protocol | {key: value}})
        assert not [name for name in table_1(other) if "paper" in str(name)], key


def test_a_study_without_results_has_no_table_1(contents: Contents) -> None:
    assert table_1(replace(contents, runs=contents.runs.iloc[:0])).empty
