"""`bigwae space`: the table, the remarks and the picture; bad input is told and nothing is written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import Rectangle

from search_spaces import SearchSpace, load
from search_spaces.distributions import LogUniform
from search_spaces.plot import COLORS, SHARED, draws_figure
from sweep.command import main
from sweep.settings.compose import load_settings

ROOT = Path(__file__).parents[2]


def related() -> SearchSpace:
    data = load("digits").as_dict()
    data["adversary_learning_rate"] |= {"high": 0.1, "at_least": "learning_rate"}
    data["kernel_scale"] |= {"distribution": "uniform", "step": 0.5}
    data["wae_lambda"] |= {"distribution": "uniform", "low": 1}
    first, second = ({**data["wae_lambda"], "when": {"encoder": e}} for e in ("deterministic", "stochastic"))
    data["wae_lambda"] = [first, second | {"high": 40.0}]
    data["learning_rate"] |= {"source": "a guess"}
    return SearchSpace.from_dict("mine", data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(related().as_dict()))
    return path


@pytest.mark.slow
def test_the_draws_are_those_of_the_study_that_the_space_belongs_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn_with: list[int] = []

    def note(space: SearchSpace, study_seed: int) -> Figure:
        drawn_with.append(study_seed)
        return Figure()

    monkeypatch.setattr("search_spaces.plot.draws_figure", note)
    for words in (["digits"], ["bigwae"], ["digits", "--seed", "7"]):
        assert main(["space", *words, "--out", str(tmp_path / "space.png")]) == 0
    own = load_settings(["study=digits"]).study.seed, load_settings(["study=bigwae"]).study.seed
    assert tuple(drawn_with) == (*own, 7) and own[0] != 0


@pytest.mark.slow
def test_it_prints_the_space_and_what_there_is_to_remark_and_paints_it(path: Path) -> None:
    words = [sys.executable, "-m", "sweep.command", "space", str(path), "--images", "20"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}  # this source tree, whatever is installed
    done = subprocess.run(words, cwd=path.parent, env=environment, capture_output=True, text=True, check=True)
    rows = [[cell.strip() for cell in row.split("│")[1:-1]] for row in done.stdout.splitlines() if "│" in row]
    assert ["learning_rate", "all", "log_uniform", "[0.003, 0.03]", "a guess"] in rows
    assert ["kernel_scale", "wae-mmd", "uniform", "[0.5, 16] in steps of 0.5", "O"] in rows
    assert ["latent_dim", "all", "choice", "{2, 4, 8, 16}", "O"] in rows
    assert [
        "adversary_learning_rate",
        "wae-gan",
        "log_uniform",
        "[0.0001, 0.1], at least learning_rate",
        "O",
    ] in rows
    assert ["wae_lambda", "wae-mmd, wae-gan", "uniform", "[1, 40], when encoder is stochastic", "O"] in rows
    warnings = [line for line in done.stdout.splitlines() if line.startswith("warning: ")]
    assert [warning.split(":")[1] for warning in warnings] == [
        f" learning_rate ({', '.join(load('digits').algorithms)})",
        " batch_size",
    ]
    assert done.stdout.splitlines()[-1] == "1,000 draws: results/space-mine.png"
    assert np.std(imread(path.parent / "results" / "space-mine.png")) > 0.05
    assert done.stderr == ""


def test_every_mistake_is_told_and_nothing_is_written(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_text(path.read_text().replace("kernel_scale", "kernel_scales").replace("low: 0.003", "low: 0.2"))
    out = path.parent / "picture.png"
    assert main(["space", str(path), "--out", str(out)]) == 2
    output = capsys.readouterr()
    unknown, missing, order = output.err.splitlines()
    assert "kernel_scales" in unknown and "did you mean kernel_scale" in unknown
    assert "lacks kernel_scale" in missing
    assert "low is 0.2 and high is 0.03" in order
    assert output.out == ""
    assert not out.exists()


@pytest.mark.parametrize("words", [["digits", "--seed", "one"], [], ["digits", "--sed", "1"]])
def test_a_wrong_word_is_told(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["space", *words])
    assert caught.value.code == 2
    assert "bigwae space: error: " in capsys.readouterr().err


def test_a_picture_that_cannot_be_written_is_told(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = path / "picture.png"  # under a file
    assert main(["space", "digits", "--out", str(out)]) == 2
    assert f"error: {out} cannot be written: " in capsys.readouterr().err


def panels_of(space: SearchSpace) -> dict[str, Axes]:
    """The panels of the picture by their titles."""
    return {panel.get_title("left"): panel for panel in draws_figure(space, 0).axes}


@pytest.mark.slow
def test_a_panel_for_each_hyperparameter_on_the_axis_of_its_distribution() -> None:
    panels = panels_of(related())
    assert list(panels) == list(dict.fromkeys(line.name for line in related().hyperparameters))
    log_uniform = {line.name for line in related().hyperparameters if isinstance(line.distribution, LogUniform)}
    assert {name for name, panel in panels.items() if panel.get_xscale() == "log"} == log_uniform
    assert {"learning_rate", "adversary_learning_rate"} <= log_uniform
    drawn = [load("digits").sample("vae", index, 0)["latent_dim"] for index in range(1000)]
    bars = [bar for bar in panels["latent_dim"].patches if isinstance(bar, Rectangle)]
    assert [bar.get_height() for bar in bars] == [drawn.count(value) for value in (2, 4, 8, 16)]
    assert len(panels["kernel_scale"].patches) == 32
    dots = panels["adversary_learning_rate"].lines[0]
    assert len(np.asarray(dots.get_xdata())) == 1000
    assert np.all(np.asarray(dots.get_ydata()) >= np.asarray(dots.get_xdata()))
    assert [label.get_text() for label in panels["wae_lambda"].get_xticklabels()] == ["deterministic", "stochastic"]
    assert panels["latent_dim"].patches[0].get_facecolor() == pytest.approx(_rgba(SHARED))
    assert panels["kernel_scale"].patches[0].get_facecolor() == pytest.approx(_rgba(COLORS["wae-mmd"]))


def test_algorithms_that_draw_apart_are_drawn_apart() -> None:
    panels = panels_of(load("paper_celeba"))
    shown = [(text.get_text(), text.get_color()) for text in panels["learning_rate"].texts]
    assert shown == [("0.001", COLORS["wae-mmd"]), ("0.0003", COLORS["wae-gan"]), ("0.0001", COLORS["vae"])]
    assert [(text.get_text(), text.get_color()) for text in panels["latent_dim"].texts] == [("64", SHARED)]


def test_one_that_depends_on_what_only_some_algorithms_have_is_drawn_alone() -> None:
    data = load("digits").as_dict()
    first, second = ({**data["wae_lambda"], "algorithms": [name]} for name in ("wae-mmd", "wae-gan"))
    data["wae_lambda"] = [first, second | {"at_least": "adversary_learning_rate"}]
    space = SearchSpace.from_dict("mine", data)
    panels = panels_of(space)
    assert panels["wae_lambda"].get_ylabel() == "configurations"


def _rgba(color: str) -> tuple[float, ...]:
    return (*(int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)), 1.0)
