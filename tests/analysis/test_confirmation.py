"""The confirmation of a study whose truth was planted: what fresh seeds say, and how flattered the pick was."""

from __future__ import annotations

import math
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis import uncertainty
from analysis.configurations import configurations
from analysis.confirmation import Confirmation
from analysis.load import load_runs
from analysis.report.command import write_report
from analysis.report.confirmation import FEWEST, headline
from analysis.report.contents import Contents
from analysis.report.verdict import verdict
from analysis.uncertainty import Floats, first_of, ratio_of_firsts, selection_bias
from sweep.command import main
from sweep.settings.compose import load_settings
from sweep.settings.settings import Settings
from tests.analysis import planted
from wae_core.run import Run

ALL = ["wae-mmd", "wae-gan", "vae"]
STUDIES, CONFIGURATIONS, PICKED, SEEDS, FRESH = 300, 100, 10, 3, 5
BETWEEN, WITHIN = 0.3, 0.15  # standard deviations of log FID


def simulated(generator: np.random.Generator, base: float = 5.0) -> tuple[Floats, Floats, Floats]:
    """A study's best configurations: their true mean FIDs, what its own seeds say of them, and fresh seeds' FIDs."""
    truth = base + BETWEEN * generator.standard_normal(CONFIGURATIONS)
    own = np.exp(truth[:, None] + WITHIN * generator.standard_normal((CONFIGURATIONS, SEEDS))).mean(axis=1)
    picked = np.argsort(own)[:PICKED]
    fresh = np.exp(truth[picked, None] + WITHIN * generator.standard_normal((PICKED, FRESH)))
    return np.exp(truth[picked] + WITHIN**2 / 2), own[picked], fresh


def test_fresh_seeds_are_not_flattered_and_their_interval_covers() -> None:
    generator = np.random.default_rng(1)
    flattered, honest, covered = [], [], []
    for _ in range(STUDIES):
        true, own, fresh = simulated(generator)
        found = first_of(fresh)
        flattered.append(own[0] / true[0])
        honest.append(found.value / true[0])
        covered.append(found.low <= true[0] <= found.high)
    assert np.mean(flattered) < 0.97, "or there would be nothing to cure"
    assert np.mean(honest) == pytest.approx(1, abs=0.01)
    assert 0.9 <= np.mean(covered) <= 0.99


def test_the_ratio_of_two_winners_covers_and_tells_no_difference_where_there_is_none() -> None:
    generator = np.random.default_rng(2)
    covered = []
    for _ in range(STUDIES):
        (true_a, _, a), (true_b, _, b) = simulated(generator), simulated(generator, 5.1)
        found = ratio_of_firsts(a, b)
        covered.append(found.low <= true_a[0] / true_b[0] <= found.high)
    assert 0.9 <= np.mean(covered) <= 0.99


@pytest.mark.slow
def test_the_interval_of_the_flattery_covers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uncertainty, "DRAWS", 400)
    generator = np.random.default_rng(4)
    covered = []
    for _ in range(STUDIES):
        true, own, fresh = simulated(generator)
        found = selection_bias(own, fresh.mean(axis=1), np.arange(PICKED))
        covered.append(found.low <= (1 - own / true).mean() <= found.high)
    assert PICKED == FEWEST and 0.9 <= np.mean(covered) <= 0.99


def test_where_a_fresh_seed_diverged_nothing_is_claimed() -> None:
    fids = np.array([[100.0, math.inf], [110.0, 120.0], [90.0, 95.0]])
    assert first_of(fids).value == math.inf and ratio_of_firsts(fids, fids[1:]).high == math.inf
    assert ratio_of_firsts(fids[1:], fids).high == math.inf
    one = first_of(np.array([[100.0], [90.0]]))
    assert (one.value, one.low, one.high) == (100, 0, math.inf), "one seed does not tell how far seeds scatter"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """90 runs of each algorithm, and their best five confirmed."""
    results = tmp_path_factory.mktemp("planted")
    settings = load_settings(["alg=all", "budget=90", "confirm=5", f"results={results}"])
    planted.write(results, settings.study, ALL, 90)
    planted.write_confirmation(settings)
    return settings


@pytest.fixture
def results(settings: Settings) -> Path:
    assert isinstance(settings.results, Path)
    return settings.results


@pytest.mark.slow
def test_the_table_has_the_confirmed_means_and_they_are_the_truth(settings: Settings, results: Path) -> None:
    table = configurations(load_runs(results, "digits"))
    confirmation = Confirmation.load(results, "digits")
    assert confirmation is not None and confirmation.seeds == 5 and confirmation.unfinished == []
    found = confirmation.beside(table)
    assert len(found) == len(table) == 90
    confirmed = found[found["fresh_seeds"].notna()]
    assert confirmed.groupby("algorithm").size().to_dict() == dict.fromkeys(ALL, 5)
    for name in ALL:
        own = confirmed[confirmed["algorithm"] == name]
        assert set(own["config_index"]) == set(
            table[table["algorithm"] == name].nsmallest(5, "fid_mean")["config_index"]
        )
        matrix = confirmation.fids(table, name)
        assert matrix.index.tolist() == own.sort_values("fid_mean")["config_index"].tolist() and matrix.shape == (
            5,
            5,
        )
        means = own.sort_values("fid_mean")["fresh_confirmed_mean"].to_numpy(dtype=float)
        assert matrix.to_numpy().mean(axis=1) == pytest.approx(means), "on fresh samples"
    runs = confirmation.runs.drop_duplicates("config_id").set_index("config_id")
    planned = {run.config_id: run for run in planted_runs(settings)}
    truth = np.array(
        [planted.true_log_fid(planned[name], settings.study.space, settings.study.seed) for name in runs.index]
    )
    fresh = confirmed.set_index("config_id").loc[runs.index]
    ratios = fresh["fresh_confirmed_mean"] / np.exp(truth) * (1 - planted.CONFIRMED)
    assert ratios.mean() == pytest.approx(1, abs=0.03)


def planted_runs(settings: Settings) -> list[Run]:
    from sweep.search.plan import plan_runs

    return [run for name in ALL for run in plan_runs(settings.study, name, settings.budget)]


@pytest.mark.slow
def test_the_report_opens_with_what_was_confirmed(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    contents = Contents.load(results, "digits")
    said = verdict(contents)
    assert said.startswith("Trained again with 5 fresh seeds and scored on fresh samples, the configuration ")
    assert "That of wae-gan is better than that of" in said and "were too good by" in said
    assert "Over all configurations, wae-gan is the best at this budget" in said
    assert "by the seeds that did not pick it" not in said, "the confirmed figure is in its place"
    page = unescape(write_report(contents, said, results / "report").read_text())
    assert said in page and "Confirmed by fresh seeds" in page
    shown = pd.read_csv(results / "report" / "confirmation.csv")
    assert len(shown) == 15 and shown["rank"].tolist() == 3 * [1, 2, 3, 4, 5]
    assert {"fresh_seeds", "fresh_confirmed_mean"} <= set(
        pd.read_csv(results / "report" / "configurations.csv").columns
    )
    assert main(["report", "--results", str(results), "--study", "digits-confirm"]) == 2
    assert "study digits-confirm confirms study digits" in capsys.readouterr().err


@pytest.mark.slow
def test_a_confirmation_under_way_shows_what_is_whole(tmp_path: Path) -> None:
    settings = load_settings(["alg=vae", "budget=30", "confirm=3", f"results={tmp_path}"])
    planted.write(tmp_path, settings.study, ["vae"], 30)
    assert headline(Contents.load(tmp_path, "digits")) == ""
    picked = planted.write_confirmation(settings)
    records = tmp_path / "digits-confirm" / "runs" / "vae.parquet"
    import pyarrow.parquet as pq

    table = pq.read_table(records)
    pq.write_table(
        table.filter([run_id != picked[0].run_id for run_id in table["run_id"].to_pylist()]).replace_schema_metadata(
            None
        ),
        records,
    )
    contents = Contents.load(tmp_path, "digits")
    assert contents.confirmation is not None and contents.confirmation.unfinished == [picked[0].config_id]
    assert f"with vae ({picked[5].config_id})" in headline(contents)
    page = write_report(contents, verdict(contents), tmp_path / "report").read_text()
    assert f"Not confirmed yet, or with a run that failed: {picked[0].config_id}" in unescape(page)


@pytest.mark.slow
def test_a_study_of_that_name_which_confirms_nothing_is_none(tmp_path: Path) -> None:
    settings = load_settings(["alg=vae", "budget=9", "confirm=1", f"results={tmp_path}"])
    planted.write(tmp_path, settings.study, ["vae"], 9)
    planted.write_confirmation(settings)
    path = tmp_path / "digits-confirm" / "study.yaml"
    document = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(document | {"confirms": None}))
    assert Confirmation.load(tmp_path, "digits") is None
