"""The report of a study as large as the paper's, 3 × 1,002 runs × 20 evaluations: fast, small, and all is found."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable

import pytest

from analysis.report.command import main
from sweep.settings.compose import load_settings
from tests.analysis import planted

ALL = ["wae-mmd", "wae-gan", "vae"]
BUDGET, EVALUATIONS = 1002, 20
SECONDS, BYTES = 60, 10_000_000
Tables = Callable[[str], list[dict[str, str]]]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """The rows of the report's tables, by name; writing the study is not in the seconds."""
    results = tmp_path_factory.mktemp("large")
    steps = [str(30 * number) for number in range(1, EVALUATIONS + 1)]
    study = load_settings(["alg=all", "budget=3", f"study.evaluation_steps=[{','.join(steps)}]"]).study
    planted.write(results, study, ALL, BUDGET)
    began = time.perf_counter()
    main(["--results", str(results)])
    seconds = time.perf_counter() - began
    folder = results / "report" / "digits"
    size = (folder / "index.html").stat().st_size
    print(f"{3 * BUDGET:,} runs × {EVALUATIONS} evaluations: {seconds:.1f} s, a page of {size / 1e6:.1f} MB")
    assert seconds < SECONDS and size < BYTES

    def read(name: str) -> list[dict[str, str]]:
        with (folder / f"{name}.csv").open() as file:
            return list(csv.DictReader(file))

    return read


def numbers(text: str) -> list[float]:
    """A value and the bounds of its interval: 1,234.5 [1,000.0, 2,000.0]."""
    return [float(word.strip("[],").replace(",", "")) for word in text.split()]


def test_the_planted_order_is_found(report: Tables) -> None:
    """By base WAE-GAN is before WAE-MMD before the VAE; but of WAE-MMD's λ most values are bad ones."""
    wins = {row[""]: row for row in report("improvements")}
    for name, rival in (("wae-gan", "vae"), ("wae-gan", "wae-mmd"), ("vae", "wae-mmd")):
        assert numbers(wins[name][rival])[1] > 0.5, (name, rival)


def test_the_planted_importance_is_found(report: Tables) -> None:
    """WAE-MMD's λ is the strongest, then the learning rate; of the others that, batch size and latent dimension."""
    rows = report("importances")
    ranked = {name: [row["hyperparameter"] for row in rows if row["algorithm"] == name] for name in ALL}
    assert ranked["wae-mmd"][:2] == ["wae_lambda", "learning_rate"]
    for name in ("wae-gan", "vae"):
        assert ranked[name][0] == "learning_rate" and set(ranked[name][1:3]) == {"batch_size", "latent_dim"}


def test_the_planted_edges_are_found_and_no_other(report: Tables) -> None:
    found = {(row["algorithm"], row["hyperparameter"], row["edge"]) for row in report("edges")}
    assert ("wae-mmd", "wae_lambda", "low") in found
    small_codes = {(name, "latent_dim", "low") for name in ALL}  # are better, and 2 is the smallest
    large_batches = {(name, "batch_size", "high") for name in ALL}  # are better, and 32 is the largest
    assert found <= {("wae-mmd", "wae_lambda", "low"), *small_codes, *large_batches}


def test_the_planted_divergence_is_found(report: Tables) -> None:
    """One of three runs diverges in 7 of 8 configurations of the last tenth, which is in the last third."""
    rows = [row for row in report("divergences") if row["hyperparameter"] == "learning_rate"]
    assert [row["algorithm"] for row in rows] == ALL
    for row in rows:
        low, middle, high = (float(row[f"{part} third"].split("%")[0]) for part in ("low", "middle", "high"))
        assert low == middle == 0 and high == pytest.approx(100 * 7 / 8 * 0.3, abs=8)


def test_the_planted_scatter_and_bias_are_found(report: Tables) -> None:
    for row in report("variances"):
        assert float(row["between seeds"].strip("±%")) == pytest.approx(100 * planted.SEED, abs=1)
        assert row["kept checkpoint is too good by"].startswith(("3.", "4."))


def test_the_honest_winner_is_not_the_best_run(report: Tables) -> None:
    """It stands within its interval, and above the best run's own FID, which luck has flattered."""
    for row in report("summary"):
        value, low, high = numbers(row["best configuration, honestly"])
        assert low < value < high and math.isfinite(high)
        assert float(row["best run"]) < value
