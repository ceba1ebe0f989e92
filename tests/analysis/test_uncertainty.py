"""Statistics against truths that were planted: simulated studies with seeds, and small exact cases."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from analysis import uncertainty
from analysis.plots import median_of_runs
from analysis.report.comparison import ratio
from analysis.uncertainty import (
    FEWEST,
    best_of,
    bootstrap,
    expected_best,
    honest_winner,
    improvement,
    median,
    median_best,
    selection_bias,
    spread,
)

STUDIES = 300
BETWEEN, WITHIN = 0.3, 0.1  # standard deviations of log FID: of configurations, and of the seeds of one
NOMINAL = (0.90, 0.99)  # what a 95 % interval may cover in 300 simulated studies


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Intervals of 400 draws, not of 2,000: in a fifth of the time, and they cover what those do."""
    monkeypatch.setattr(uncertainty, "DRAWS", 400)


def study(seed: int, count: int = 60, seeds: int = 3, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """The true mean log FIDs [count] of configurations, and what their seeds measured [count, seeds]."""
    generator = np.random.default_rng(seed)
    truth = math.log(100) + shift + BETWEEN * generator.standard_normal(count)
    return truth, truth[:, None] + WITHIN * generator.standard_normal((count, seeds))


# --- intervals


def covers(seed: int) -> bool:
    _, logs = study(seed)
    interval = bootstrap(len(logs), lambda index: float(logs[index].mean()))
    return interval.low <= math.log(100) <= interval.high


@pytest.mark.slow
def test_an_interval_over_configurations_covers_as_often_as_it_says() -> None:
    assert NOMINAL[0] <= np.mean([covers(seed) for seed in range(STUDIES)]) <= NOMINAL[1]


@pytest.mark.slow
def test_an_interval_over_runs_would_not() -> None:
    """Why configurations are resampled: the same with runs, of configurations that differ three times as much."""

    def covers_by_runs(seed: int) -> bool:
        runs = study(seed)[1].ravel()
        interval = bootstrap(len(runs), lambda index: float(runs[index].mean()))
        return interval.low <= math.log(100) <= interval.high

    assert np.mean([covers_by_runs(seed) for seed in range(STUDIES)]) < NOMINAL[0] - 0.05


@pytest.mark.slow
def test_the_interval_of_a_median_covers_it() -> None:
    found = [median(np.exp(study(seed)[1].mean(axis=1))) for seed in range(STUDIES)]
    assert NOMINAL[0] <= np.mean([each.low <= 100 <= each.high for each in found]) <= NOMINAL[1]


@pytest.mark.slow
def test_the_interval_of_a_median_over_runs_covers_it() -> None:
    """Of configurations whose seeds resemble each other, a few of which are missing."""
    found = []
    for seed in range(STUDIES):
        fids = np.exp(study(seed)[1])
        fids[::7, 2] = np.nan
        found.append(median_of_runs(fids))
    assert NOMINAL[0] <= np.mean([each.low <= 100 <= each.high for each in found]) <= NOMINAL[1]


def test_a_median_over_runs_leaves_out_what_failed() -> None:
    fids = np.array([[1.0, np.nan], [np.nan, np.nan], [3.0, math.inf]])
    assert median_of_runs(fids).value == 3.0
    with pytest.raises(ValueError, match="at least one configuration"):
        median_of_runs(fids[1:2])


def test_a_median_of_which_most_diverged_is_infinite() -> None:
    found = median(np.array([1.0, 2.0, math.inf, math.inf, math.inf, math.inf]))
    assert (found.value, found.high) == (math.inf, math.inf) and found.low == 1.0


def test_no_interval_of_nothing() -> None:
    with pytest.raises(ValueError, match="at least one configuration"):
        median(np.array([]))


def test_of_few_configurations_there_is_an_estimate_and_no_interval() -> None:
    few = median(np.arange(1.0, FEWEST))
    assert few.value == 3.0 and math.isnan(few.low) and math.isnan(few.high)
    assert median(np.arange(1.0, FEWEST + 1)).low == 1.0


# --- improvement


@pytest.mark.slow
@pytest.mark.parametrize("paired", [True, False])
def test_the_probability_of_improvement_is_covered(paired: bool) -> None:
    """b is worse by a planted shift; of pairs that share their configuration's effect, or of independent ones."""
    shift = 0.1
    within = WITHIN / math.sqrt(3)
    deviation = math.hypot(within, within) if paired else math.hypot(within, within, BETWEEN, BETWEEN)
    truth = 0.5 * (1 + math.erf(shift / deviation / math.sqrt(2)))
    covered = []
    for seed in range(STUDIES):
        effects, logs = study(seed)
        generator = np.random.default_rng(10_000 + seed)
        others = (effects if paired else study(50_000 + seed)[0]) + shift
        b = (others[:, None] + WITHIN * generator.standard_normal((60, 3))).mean(axis=1)
        found = improvement(logs.mean(axis=1), b, paired=paired)
        covered.append(found.low <= truth <= found.high)
    assert NOMINAL[0] <= np.mean(covered) <= NOMINAL[1]


def test_ties_count_half_and_a_diverged_one_loses() -> None:
    a, b = np.array([1.0, 2.0, math.inf, math.inf]), np.array([1.0, math.inf, 3.0, math.inf])
    assert improvement(a, b, paired=True).value == (0.5 + 1 + 0 + 0.5) / 4
    assert improvement(np.array([1.0, 3.0]), np.array([2.0]), paired=False).value == 0.5
    with pytest.raises(ValueError, match="equally many"):
        improvement(a, b[:2], paired=True)


@pytest.mark.slow
@pytest.mark.parametrize("paired", [True, False])
def test_a_planted_ratio_is_found_and_covered(paired: bool) -> None:
    """b has 1.1 times the FID of a; of pairs that share their configuration's effect, or of independent ones."""
    found = []
    for seed in range(STUDIES):
        effects, logs = study(seed)
        noise = WITHIN * np.random.default_rng(10_000 + seed).standard_normal((60, 3))
        others = (effects if paired else study(50_000 + seed)[0]) + math.log(1.1)
        a, b = (np.exp(each).mean(axis=1) for each in (logs, others[:, None] + noise))
        found.append(ratio(a, b, paired=paired))
    assert NOMINAL[0] <= np.mean([each.low <= 1 / 1.1 <= each.high for each in found]) <= NOMINAL[1]
    assert np.mean([math.log(each.value) for each in found]) == pytest.approx(-math.log(1.1), abs=0.01)


def test_a_ratio_of_pairs_knows_who_diverged() -> None:
    a, b = np.array([1.0, math.inf, math.inf, 1.0, 3.0]), np.array([2.0, 4.0, math.inf, math.inf, 3.0])
    assert ratio(a, b, paired=True).value == 0.5  # of 0, ½, 1 and ∞; the third pair has no FID at all
    assert np.isnan(ratio(a[2:3], b[2:3], paired=True).value)
    assert np.isnan(ratio(np.full(3, math.inf), np.full(3, math.inf), paired=False).value)
    with pytest.raises(ValueError, match="equally many"):
        ratio(a, b[:2], paired=True)


# --- the best of n


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_the_best_of_n_is_that_of_all_choices(n: int) -> None:
    values = np.array([5.0, 1.0, 4.0, 4.0, 9.0])
    lowest = [min(chosen) for chosen in itertools.combinations(values, n)]
    assert expected_best(values, n) == pytest.approx(np.mean(lowest))
    assert median_best(values, n) == np.quantile(lowest, 0.5, method="inverted_cdf")


def test_the_best_of_n_of_a_thousand_does_not_overflow() -> None:
    values = np.arange(1.0, 1001.0)  # the expected minimum of n of 1..N is (N + 1) / (n + 1)
    for n in (1, 10, 500, 1000):
        assert expected_best(values, n) == pytest.approx(1001 / (n + 1))


def test_the_best_of_n_where_some_have_diverged() -> None:
    values = np.array([3.0, 1.0, math.inf])
    assert expected_best(values, 1) == math.inf
    assert expected_best(values, 2) == pytest.approx((1 + 1 + 3) / 3)
    assert median_best(values, 1) == 3.0
    for n in (0, 4):
        with pytest.raises(ValueError, match="between 1 and 3"):
            expected_best(values, n)


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 5, 15, 30])
def test_the_band_of_the_best_of_n_covers_its_median(n: int) -> None:
    many = np.exp(study(10**6, count=200_000)[1].mean(axis=1))
    truth = float(np.quantile(many, 1 - 0.5 ** (1 / n)))
    found = [best_of(np.exp(study(seed)[1].mean(axis=1)), n) for seed in range(STUDIES)]
    assert NOMINAL[0] <= np.mean([each.low <= truth <= each.high for each in found]) <= NOMINAL[1]
    if n <= 15:  # beyond a quarter of all, the sample's own best is the best of most draws
        assert np.mean([each.value for each in found]) == pytest.approx(truth, rel=0.03)


def test_the_best_of_all_has_no_lower_bound() -> None:
    found = best_of(np.arange(1.0, 11.0), 10)
    assert (found.value, found.low) == (1.0, 0.0) and 1 < found.high < 10


# --- the honest winner


@pytest.mark.slow
def test_an_honest_winner_is_not_flattered_and_its_interval_covers() -> None:
    """Its mean over studies is the worth of what is picked, within 2 %; the best mean of three is too good."""
    honest, truths, covered, naive, naive_truth = [], [], [], [], []
    for seed in range(STUDIES):
        effects, logs = study(seed, count=300)
        fids = np.exp(logs)
        picks = [int(np.argmin(np.delete(fids, left, axis=1).mean(axis=1))) for left in range(3)]
        truth, found = float(np.exp(effects[picks].mean())), honest_winner(fids)
        honest.append(found.value)
        truths.append(truth)
        covered.append(found.low <= truth <= found.high)
        winner = int(np.argmin(fids.mean(axis=1)))
        naive.append(fids[winner].mean())
        naive_truth.append(math.exp(effects[winner] + WITHIN**2 / 2))
    assert np.mean(honest) == pytest.approx(np.mean(truths), rel=0.02)
    assert NOMINAL[0] <= np.mean(covered) <= NOMINAL[1]
    assert np.mean(naive) < 0.97 * np.mean(naive_truth)


def test_a_winner_needs_two_seeds() -> None:
    with pytest.raises(ValueError, match="at least two seeds"):
        honest_winner(np.array([[1.0], [2.0]]))


def test_a_seed_that_diverges_makes_the_pick_infinite() -> None:
    fids = np.array([[1.0, 1.0, math.inf], [2.0, 2.0, 2.0]])
    # Without the third seed the first configuration is picked, and the third seed judges it.
    assert honest_winner(fids).value == math.inf


# --- variances and bias


@pytest.mark.slow
def test_planted_variances_are_found() -> None:
    _, logs = study(0, count=4000)
    found = spread(logs)
    assert math.sqrt(found.between) == pytest.approx(BETWEEN, rel=0.05)
    assert math.sqrt(found.within) == pytest.approx(WITHIN, rel=0.05)


def test_planted_disagreement_is_found() -> None:
    """Without any difference between configurations, two seeds disagree half the time; without noise never."""
    noise = np.random.default_rng(0).standard_normal((400, 3))
    assert spread(noise).disagreement == pytest.approx(0.5, abs=0.01)
    assert spread(noise).between < 0.05
    assert spread(np.arange(4.0)[:, None] + np.zeros(3)).disagreement == 0
    with pytest.raises(ValueError, match="finite figures of at least two"):
        spread(np.array([[1.0, math.inf], [1.0, 2.0]]))


@pytest.mark.slow
def test_a_planted_selection_bias_is_found_and_covered() -> None:
    covered = []
    for seed in range(STUDIES):
        generator = np.random.default_rng(seed)
        confirmed = np.exp(study(seed)[1]).ravel()
        share = 0.04 + 0.02 * np.repeat(generator.standard_normal(60), 3) + 0.01 * generator.standard_normal(180)
        found = selection_bias(confirmed * (1 - share), confirmed, np.repeat(np.arange(60), 3))
        covered.append(found.low <= 0.04 <= found.high)
    assert NOMINAL[0] <= np.mean(covered) <= NOMINAL[1]
