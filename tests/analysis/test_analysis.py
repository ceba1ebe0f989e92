"""The analysis on small hand-made frames: known answers, and figures that hide no run."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis import load, plots
from analysis.configurations import configurations
from analysis.looks import LOOKS
from analysis.report.hyperparameters import fid_against_hyperparameters, trend
from search_spaces import SearchSpace
from sweep.results.folder import StudyFolder
from sweep.results.schema import EVALUATIONS, RUNS, SCHEMA_VERSION, EvaluationRow, RunRow
from sweep.results.tables import Tables
from tests.places import local
from wae_core.hyperparameters import DECLARED
from wae_core.run import ALGORITHMS

NOW = datetime(2025, 1, 1, tzinfo=UTC)
FIDS = {"wae-mmd": 20.0, "wae-gan": 15.0, "vae": 30.0}  # of configuration 0, seed 0


def run_row(algorithm: str, config_index: int, seed: int, fid: float | None, **changes: object) -> RunRow:
    """A run that ended with `fid`; a None is a run without any."""
    wae = algorithm != "vae"
    columns = {
        "schema_version": SCHEMA_VERSION,
        "study": "digits",
        "algorithm": algorithm,
        "config_index": config_index,
        "config_id": f"{algorithm}-{config_index:05d}",
        "seed": seed,
        "run_id": f"{algorithm}-{config_index:05d}-s{seed}",
        "status": "completed" if fid is not None else "diverged",
        "status_reason": None if fid is not None else "the loss is not finite at step 7",
        "latent_dim": (4, 8)[config_index % 2],
        "batch_size": 32,
        "learning_rate": 1e-3 * (1 + config_index),
        "adversary_learning_rate": 2e-3 if algorithm == "wae-gan" else None,
        "kernel_scale": 2.5 if algorithm == "wae-mmd" else None,
        "wae_lambda": 10.0 + config_index if wae else None,
        "decoder_variance": None if wae else 0.3,
        "architecture": "dcgan_small",
        "encoder": "deterministic" if wae else None,
        "steps_planned": 100,
        "steps_done": 100 if fid is not None else 7,
        "best_step": 100 if fid is not None else None,
        "best_fid": fid,
        "confirmed_fid": fid and fid + 0.5,
        "fid_infinity": fid and fid - 0.5,
        "best_sharpness": fid and 0.02,
        "best_reconstruction_error": fid and 0.01,
        "fid_features": "digit_classifier-64@0123456789abcdef",
        "fid_reference": "digits/held_out/1000",
        "fid_samples": 1000,
        "data_sha256": "of the data",
        "precision": "float32",
        "images_seen": 3200,
        "train_seconds": 1.0,
        "eval_seconds": 1.0,
        "cpu_seconds": 2.0,
        "device": "cpu",
        "host": "here",
        "attempts": 1,
        "pack_size": 1,
        "git_commit": "0" * 40,
        "started_at": NOW,
        "ended_at": NOW,
        "checkpoint_path": None,
    }
    return RunRow(**(columns | changes))  # type: ignore[arg-type]


def evaluation_row(run: RunRow, step: int, fid: float) -> EvaluationRow:
    figures: dict[str, Any] = dict.fromkeys(
        ("sharpness", "reconstruction_error", "train_reconstruction_error", "latent_mmd", "loss", "penalty"),
        0.01,
    )
    keys: dict[str, Any] = {name: getattr(run, name) for name in ("run_id", "algorithm", "config_index", "seed")}
    return EvaluationRow(step=step, fid=fid, train_seconds=1.0, **(figures | keys))


def make_results(tmp_path: Path) -> Path:
    """A results folder with a study `digits`: 3 algorithms × 2 configurations × 2 seeds, one run diverged at once.

    Configuration 2 has ended for the VAE only, with an FID lower than all others.
    """
    results = tmp_path / "results"
    folder = StudyFolder(results, "digits")
    folder.records.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = [
        run_row(algorithm, index, seed, fid + index + 0.25 * seed)
        for algorithm, fid in FIDS.items()
        for index in (0, 1)
        for seed in (0, 1)
        if (algorithm, index, seed) != ("vae", 1, 1)
    ]
    rows += [run_row("vae", 1, 1, None), run_row("vae", 2, 0, 1.5)]
    for row in rows:
        last = [] if row.best_fid is None else [evaluation_row(row, 100, row.best_fid)]
        assert folder.publish(row, [evaluation_row(row, 50, 40.0 + row.config_index), *last])
        work = local(folder.work(row.run_id))
        work.mkdir(parents=True)
        matplotlib.image.imsave(work / "samples.png", rng.random((28, 28)), cmap="gray")
    Tables(folder)
    return results


def frame(*rows: RunRow) -> pd.DataFrame:
    return pd.DataFrame([asdict(row) for row in rows])


def texts(figure: Figure) -> str:
    """All that stands written in a figure."""
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    return "\n".join(text.get_text() for text in figure.findobj(Text) if isinstance(text, Text))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("analysis"))


def test_tables_are_read_whole(results: Path) -> None:
    runs, evaluations = load.load_runs(results, "digits"), load.load_evaluations(str(results), "digits")
    assert list(runs.columns) == RUNS.names
    assert list(evaluations.columns) == EVALUATIONS.names
    assert runs["run_id"].is_unique
    assert (len(runs), len(evaluations)) == (13, 25)


def test_a_study_without_an_ended_run_has_typed_empty_tables(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path / "a=b", "new")
    Tables(folder)
    runs = load.load_runs(tmp_path / "a=b", "new")
    assert list(runs.columns) == RUNS.names
    assert load.best_runs(runs, 3).empty
    assert load.common_configurations(runs).empty
    assert configurations(runs).empty
    with pytest.raises(ValueError, match="there is no run yet"):
        plots.fid_distribution(runs)


def test_an_unknown_study_is_refused_with_those_that_there_are(results: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no study 'mnist' in .*: there are digits$"):
        load.load_runs(results, "mnist")
    with pytest.raises(FileNotFoundError, match="no study at all: run 'make sweep' first"):
        load.load_evaluations(tmp_path / "nowhere", "digits")


def test_best_runs_are_the_lowest_fids_of_each_algorithm() -> None:
    runs = frame(
        run_row("vae", 0, 0, 9.0),
        run_row("vae", 1, 0, 7.0),
        run_row("vae", 2, 0, None),
        run_row("vae", 3, 0, 8.0, status="diverged"),
        run_row("wae-gan", 1, 1, 5.0),
        run_row("wae-gan", 0, 1, 5.0),
        run_row("wae-mmd", 0, 0, None),
    )
    assert list(load.best_runs(runs, 2)["run_id"]) == [
        "wae-gan-00000-s1",
        "wae-gan-00001-s1",
        "vae-00001-s0",
        "vae-00000-s0",
    ]


def test_common_configurations_have_all_algorithms_and_seeds() -> None:
    whole = [run_row(algorithm, 4, seed, 1.0) for algorithm in ("vae", "wae-gan") for seed in (0, 1)]
    half = [run_row("vae", 5, 0, 1.0), run_row("vae", 5, 1, 1.0), run_row("wae-gan", 5, 1, 1.0)]
    alone = [run_row("vae", 6, seed, 1.0) for seed in (0, 1)]
    lost = [run_row(algorithm, 7, seed, None) for algorithm in ("vae", "wae-gan") for seed in (0, 1)]
    common = load.common_configurations(frame(*alone, *half, *whole, *lost))
    assert sorted(common["run_id"]) == sorted(row.run_id for row in whole + lost)
    assert sorted(load.common_configurations(frame(*alone))["config_index"]) == [6, 6]


def test_every_algorithm_and_hyperparameter_can_be_drawn() -> None:
    assert set(LOOKS) == set(ALGORITHMS)
    assert set(DECLARED) <= set(RUNS.names)


def test_fids_are_labelled_with_network_and_count_and_never_mixed() -> None:
    one = run_row("vae", 0, 0, 9.0)
    assert plots.fid_label(frame(one)) == "FID (digit_classifier-64@012345…, 1,000 samples)"
    with pytest.raises(ValueError, match=r"FIDs of one kind .* 1000 and .* 500"):
        plots.fid_label(frame(one, run_row("vae", 1, 0, 9.0, fid_samples=500)))


def test_the_distribution_shows_every_run_and_the_median_counts_lost_ones() -> None:
    fids = [10.0, 20.0, 40.0, None, None]
    rows = [run_row("vae", index, 0, fid) for index, fid in enumerate(fids)]
    failed = run_row("vae", 9, 0, 80.0, status="failed")
    figure = plots.fid_distribution(frame(*rows, failed))
    strip, shares = figure.axes
    assert "N = 6 runs, 2 diverged, 1 failed" in texts(figure)
    assert "40.0" in texts(figure)  # of 10, 20, 40, ∞, ∞; the three known alone have 20
    marks = [line for line in strip.lines if line.get_marker() not in ("None", None)]
    assert sum(len(np.asarray(line.get_xdata())) for line in marks) == 6
    share = np.asarray(shares.lines[0].get_ydata())
    reached = share[np.isfinite(np.asarray(shares.lines[0].get_xdata()))]
    assert reached.max() == pytest.approx(3 / 5)


@pytest.mark.slow
def test_steps_show_every_curve_and_the_kept_checkpoint(results: Path) -> None:
    runs, evaluations = load.load_runs(results, "digits"), load.load_evaluations(results, "digits")
    figure = plots.fid_over_steps(runs[runs["config_index"] < 2], evaluations)
    assert [axes.get_title().split("\n")[0] for axes in figure.axes] == ["wae-mmd", "wae-gan", "vae"]
    for needed in ("20.0 at step 100", "15.0 at step 100", "30.0 at step 100", "FID\n(digit_classifier-64@"):
        assert needed in texts(figure)
    wae_mmd, _, vae = figure.axes
    assert len(wae_mmd.lines) == 4 + 2  # curves; the best again, and its checkpoint
    assert len(vae.lines) == 4 + 2 + 1  # and the cross of the run that diverged


@pytest.mark.slow
def test_hyperparameters_that_apply_have_a_panel_with_every_run(results: Path) -> None:
    runs = load.load_runs(results, "digits")
    figure = fid_against_hyperparameters(runs)
    assert "(digit_classifier-64@" in texts(figure)
    panels = {axes.get_xlabel(): axes for axes in figure.axes}
    given = {declared.label for name, declared in DECLARED.items() if runs[name].notna().any()}
    assert panels.keys() - {""} == given and len(given) == 9
    assert panels["learning rate"].get_xscale() == "log"
    assert panels["penalty weight $λ$"].get_xscale() == "linear"
    drawn = {label: sum(len(np.asarray(line.get_xdata())) for line in axes.lines) for label, axes in panels.items()}
    assert (drawn["learning rate"], drawn["encoder"], drawn["kernel scale $C$"]) == (13, 8, 4)
    vae = fid_against_hyperparameters(runs[runs["algorithm"] == "vae"])
    assert sum(bool(axes.get_xlabel()) for axes in vae.axes) == 5


def test_a_trend_is_the_quantiles_of_neighbours() -> None:
    x = np.arange(200.0)
    fids = np.where(x < 100, 10.0, np.where(x % 10 == 0, 5.0, 20.0))
    found = trend(np.roll(x, 7), np.roll(fids, 7))
    assert len(found) == 10 and found[0.5].tolist() == [10.0] * 5 + [20.0] * 5
    assert found[0.1].tolist() == [10.0] * 5 + [5.0] * 5
    assert trend(x[:39], fids[:39]).empty, "two groups of 20 make a trend"
    fids[:15] = np.inf
    assert trend(x, fids)[0.5].tolist()[0] == np.inf, "the median of a group of which most diverged"


def test_the_space_gives_limits_axes_and_importance_stands_above() -> None:
    rows = [run_row("vae", index, 0, 10.0 + index, decoder_variance=0.01 * 1.1**index) for index in range(45)]
    drawn: dict[str, dict[str, Any]] = {
        "latent_dim": {"distribution": "choice", "values": [4, 8]},
        "batch_size": {"distribution": "fixed", "value": 32},
        "learning_rate": {"distribution": "uniform", "low": 1e-3, "high": 0.1},
        "decoder_variance": {"distribution": "log_uniform", "low": 0.01, "high": 1},
        "architecture": {"distribution": "fixed", "value": "dcgan_small"},
    }
    lines = {name: {"algorithms": ["vae"], "source": "O"} | line for name, line in drawn.items()}
    space = SearchSpace.from_dict("mine", lines)
    important = pd.DataFrame({"hyperparameter": ["learning_rate"], "importance": [0.75]})
    figure = fid_against_hyperparameters(frame(*rows), space, {"vae": important})
    panels = {axes.get_xlabel(): axes for axes in figure.axes}
    learning_rate, variance = panels["learning rate"], panels[DECLARED["decoder_variance"].label]
    assert (learning_rate.get_xscale(), variance.get_xscale()) == ("linear", "log")
    dotted = [line.get_xdata() for line in learning_rate.lines if line.get_linestyle() == ":"]
    assert sorted(np.asarray(x)[0] for x in dotted) == [1e-3, 0.1]
    assert learning_rate.get_title() == "importance: vae 0.75" and variance.get_title() == ""


def test_runs_that_were_stopped_early_are_told_apart() -> None:
    rows = [run_row("vae", index, 0, 10.0 + index) for index in range(4)]
    stopped = run_row("vae", 4, 0, 30.0, steps_done=50, best_step=50)
    figure = plots.fid_distribution(frame(*rows, stopped))
    assert "stopped early" in texts(figure) and "1 stopped early" in texts(figure)
    assert "stopped early" not in texts(plots.fid_distribution(frame(*rows)))
    evaluations = pd.DataFrame(
        [asdict(evaluation_row(row, row.steps_done, row.best_fid or 0)) for row in (*rows, stopped)]
    )
    assert "was stopped early" in texts(plots.fid_over_steps(frame(*rows, stopped), evaluations))


def test_many_runs_are_bands_and_not_lines() -> None:
    rows = [run_row("vae", index, 0, 10.0 + index) for index in range(plots.MOST_LINES + 1)]
    evaluations = [evaluation_row(row, step, 2000 / step + row.config_index) for row in rows for step in (50, 100)]
    curves = pd.DataFrame(map(asdict, evaluations))
    (panel,) = plots.fid_over_steps(frame(*rows), curves).axes
    assert len(panel.lines) == 3 and len(panel.collections) == 2  # median, best, its checkpoint; two bands
    (panel,) = plots.fid_over_steps(frame(*rows[:-1]), curves).axes
    assert len(panel.lines) == plots.MOST_LINES + 2 and not panel.collections
