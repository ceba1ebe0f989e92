"""Importance, edges and divergence of a study in which they were planted."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.configurations import configurations
from analysis.sensitivity import at_edges, divergence, importance, positions
from search_spaces.hyperparameters import Condition
from sweep.settings.compose import load_settings
from sweep.settings.settings import Study
from tests.analysis import planted

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study() -> Study:
    return load_settings(["alg=all", "budget=3"]).study


@pytest.fixture(scope="module")
def table(study: Study) -> pd.DataFrame:
    rows = [asdict(row) for row, _ in planted.results_of(study, ["wae-mmd", "vae"], 600)]
    return configurations(pd.DataFrame(rows))


def test_positions_are_uniform_in_the_range(table: pd.DataFrame, study: Study) -> None:
    places = positions(table, study.space, "wae-mmd")
    for name in ("learning_rate", "wae_lambda", "kernel_scale"):
        assert places[name].between(0, 1).all()
        assert places[name].mean() == pytest.approx(0.5, abs=0.06), name
        assert np.quantile(places[name], 0.25) == pytest.approx(0.25, abs=0.08), name


def column(frame: pd.DataFrame, key: list[str], value: str) -> dict[Any, float]:
    """One column of a frame by others."""
    keys = frame[key].itertuples(index=False, name=None)
    return dict(zip(keys, frame[value].astype(float).tolist(), strict=True))


def test_the_planted_importance_is_found(table: pd.DataFrame, study: Study) -> None:
    found = importance(table, study.space, "vae")
    assert found["hyperparameter"].tolist()[0] == "learning_rate" and found["r2"].min() > 0.3
    by_name = column(found, ["hyperparameter"], "importance")
    assert by_name["decoder_variance",] < 0.1 * by_name["learning_rate",]


def test_without_any_influence_nothing_is_important(table: pd.DataFrame, study: Study) -> None:
    own = table[table["algorithm"] == "vae"]
    shuffled = own.assign(fid_mean=np.random.default_rng(0).permutation(own["fid_mean"]))
    assert importance(shuffled, study.space, "vae")["r2"].max() < 0.05


def test_the_planted_edge_is_found_and_no_other(table: pd.DataFrame, study: Study) -> None:
    found = at_edges(table, study.space, "wae-mmd")
    p, share, expected = (column(found, ["hyperparameter", "edge"], name) for name in ("p", "share", "expected"))
    assert p["wae_lambda", "low"] < 0.001
    assert share["wae_lambda", "low"] > 2 * expected["wae_lambda", "low"]
    assert min(p["kernel_scale", "low"], p["kernel_scale", "high"]) > 0.01
    assert p["learning_rate", "high"] > 0.5


def test_the_planted_divergence_is_found(table: pd.DataFrame, study: Study) -> None:
    """One of three runs diverges in 7 of 8 configurations of the last tenth, which is in the last third."""
    found = divergence(table, study.space, "vae")
    key = ["hyperparameter", "part"]
    count, low, high = (column(found, key, name) for name in ("diverged", "low", "high"))
    assert count["learning_rate", "low"] == count["learning_rate", "middle"] == 0
    assert low["learning_rate", "high"] < 7 / 8 * 0.3 < high["learning_rate", "high"]
    for part in ("low", "middle", "high"):
        assert low["decoder_variance", part] < 7 / 8 * 0.1 < high["decoder_variance", part], part


def test_the_interval_of_a_share_that_diverges_covers_it(table: pd.DataFrame, study: Study) -> None:
    """Of 300 studies of 90 configurations, each of which diverges with a probability of 0.2."""
    own = table[table["algorithm"] == "vae"].head(90)
    lines = tuple(line for line in study.space.hyperparameters if line.name == "learning_rate")
    space = replace(study.space, hyperparameters=lines)
    covered = []
    for seed in range(300):
        diverged = np.random.default_rng(seed).random(len(own)) < 0.2
        shares = divergence(own.assign(diverged=diverged.astype(int)), space, "vae")
        covered += ((shares["low"] <= 0.2) & (shares["high"] >= 0.2)).tolist()
    assert len(covered) == 900 and 0.9 <= np.mean(covered) <= 0.99


def test_too_few_configurations_are_refused(table: pd.DataFrame, study: Study) -> None:
    few = table[table["config_index"] < 20]
    for compute in (importance, at_edges):
        with pytest.raises(ValueError, match="at least 30 configurations, and vae has 20"):
            compute(few, study.space, "vae")


def test_a_conditional_hyperparameter_has_a_place_only_where_it_applies(table: pd.DataFrame, study: Study) -> None:
    lines = list(study.space.hyperparameters)
    position = next(i for i, line in enumerate(lines) if line.name == "wae_lambda")
    lines[position] = replace(lines[position], when=Condition("encoder", ("deterministic",)))
    places = positions(table, replace(study.space, hyperparameters=tuple(lines)), "wae-mmd")
    own = table[table["algorithm"] == "wae-mmd"].set_index("config_index")
    assert (places["wae_lambda"].notna() == (own["encoder"] == "deterministic")).all()
