"""The report of a study as large as the paper's, 3 × 1,002 runs × 20 evaluations: fast, small, and all is found."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pandas as pd
import pytest

from analysis.report.command import main
from sweep.settings.compose import load_settings
from tests.analysis import planted

ALL = ["wae-mmd", "wae-gan", "vae"]
BUDGET, EVALUATIONS = 1002, 20
SECONDS, BYTES = 60, 10_000_000

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], pd.DataFrame]:
    """The tables of the report, by name; writing the study is not in the seconds."""
    results = tmp_path_factory.mktemp("large")
    steps = [str(15 * number) for number in range(1, EVALUATIONS + 1)]
    study = load_settings(["alg=all", "budget=3", f"study.evaluation_steps=[{','.join(steps)}]"]).study
    planted.write(results, study, ALL, BUDGET)
    began = time.perf_counter()
    main(["--results", str(results)])
    seconds = time.perf_counter() - began
    folder = results / "report" / "digits"
    size = (folder / "index.html").stat().st_size
    print(f"{3 * BUDGET:,} runs × {EVALUATIONS} evaluations: {seconds:.1f} s, a page of {size / 1e6:.1f} MB")
    assert seconds < SECONDS and size < BYTES

    def read(name: str) -> pd.DataFrame:
        return pd.read_csv(folder / f"{name}.csv")

    return read


def test_the_planted_order_is_found(report: Callable[[str], pd.DataFrame]) -> None:
    """By base WAE-GAN is before WAE-MMD before the VAE; but of WAE-MMD's λ most values are bad ones."""
    wins = report("improvements").set_index("Unnamed: 0")
    for name, rival in (("wae-gan", "vae"), ("wae-gan", "wae-mmd"), ("vae", "wae-mmd")):
        low = float(wins.loc[name, rival].split("[")[1].split(",")[0])
        assert low > 0.5, (name, rival)


def test_the_planted_importance_is_found(report: Callable[[str], pd.DataFrame]) -> None:
    """WAE-MMD's λ is the strongest, then the learning rate, then the architecture and the latent dimension."""
    found = report("importances")
    ranked = {name: own["hyperparameter"].tolist() for name, own in found.groupby("algorithm", sort=False)}
    assert ranked["wae-mmd"][:2] == ["wae_lambda", "learning_rate"]
    for name in ("wae-gan", "vae"):
        assert ranked[name][0] == "learning_rate" and set(ranked[name][1:3]) == {"architecture", "latent_dim"}


def test_the_planted_edge_is_found_and_no_other_of_wae_mmd(report: Callable[[str], pd.DataFrame]) -> None:
    found = report("edges")
    own = found[found["algorithm"] == "wae-mmd"]
    assert ("wae_lambda", "low") in list(zip(own["hyperparameter"], own["edge"], strict=True))
    planted_ones = {"wae_lambda", "latent_dim"}  # small codes are better, and 4 is the smallest
    assert set(found["hyperparameter"]) <= planted_ones


def test_the_planted_divergence_is_found(report: Callable[[str], pd.DataFrame]) -> None:
    found = report("divergences").set_index(["algorithm", "hyperparameter"])
    for name in ALL:
        shares = found.loc[(name, "learning_rate")].str.split("%").str[0].astype(float)
        assert shares["low third"] == shares["middle third"] == 0
        assert shares["high third"] == pytest.approx(100 * 7 / 8 * 0.3, abs=8)


def test_the_planted_scatter_and_bias_are_found(report: Callable[[str], pd.DataFrame]) -> None:
    for row in report("variances").to_dict("records"):
        assert float(str(row["between seeds"]).strip("±%")) == pytest.approx(100 * planted.SEED, abs=1)
        assert str(row["kept checkpoint is too good by"]).startswith(("3.", "4."))


def test_the_honest_winner_is_worth_what_was_planted(report: Callable[[str], pd.DataFrame]) -> None:
    """It stands within its interval, and above the best run's own FID, which luck has flattered."""
    summary = report("summary").set_index("algorithm")
    for name in ALL:
        value, low, high = (
            float(word.strip("[],")) for word in summary.loc[name, "best configuration, honestly"].split()
        )
        assert low < value < high and math.isfinite(high)
        assert float(summary.loc[name, "best run"]) < value
