"""How sure a figure is: intervals that resample configurations, and estimates that no selection has flattered.

The seeds of a configuration resemble each other, so runs are no independent observations: a nominal 95 % interval
over runs covers the truth much more seldom. Everything here resamples, picks and pairs whole configurations.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, t

Floats = NDArray[np.floating[Any]]

DRAWS = 2000
FEWEST = 6  # configurations: of fewer, no interval of resampled ones means anything
LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate with the bounds of its confidence interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Spread:
    """The variance of FIDs, of their logarithms or of any other figure, taken apart.

    Attributes:
        between: variance of the configurations' true means; at least 0.
        within: variance between the seeds of one configuration.
        disagreement: how often two seeds put two configurations in opposite orders.
    """

    between: float
    within: float
    disagreement: float


def bootstrap(counts: int | tuple[int, ...], statistic: Callable[..., float], level: float = LEVEL) -> Interval:
    """Return a statistic of configurations with its percentile interval (Efron 1979).

    The draws are the same at every call, so that a report is reproducible. Of fewer than FEWEST configurations the
    bounds are not numbers.

    Args:
        counts: how many configurations there are; several where independent samples are resampled each for itself.
        statistic: of the indices [count] of configurations, each of which may come several times; of as many arrays
            as there are counts. Where it reads the values of two algorithms at the same indices, the interval is that
            of a paired comparison.

    Raises:
        ValueError: there is no configuration.
    """
    sizes = (counts,) if isinstance(counts, int) else counts
    if min(sizes) < 1:
        raise ValueError("an interval needs at least one configuration")
    estimate = float(statistic(*map(np.arange, sizes)))
    if min(sizes) < FEWEST:
        return Interval(estimate, math.nan, math.nan)
    generator = np.random.default_rng(0)
    values = [statistic(*(generator.integers(0, size, size) for size in sizes)) for _ in range(DRAWS)]
    # Of values that may be infinite, a quantile is one of them, and nothing between two.
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return Interval(estimate, float(low), float(high))


def median(values: Floats) -> Interval:
    """Return the median [configurations] with its interval; infinite values take part."""
    return bootstrap(len(values), lambda index: float(middle(values[index])))


def improvement(a: Floats, b: Floats, *, paired: bool) -> Interval:
    """Return the probability that a configuration of `a` is better (lower) than one of `b`; ties count half.

    It is the probability of improvement of Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the
    Statistical Precipice".

    Args:
        a: [n] the configurations' mean FIDs.
        b: [m] those of another algorithm.
        paired: whether the configurations of one index share their draws (then n = m): each is compared with its own
            partner alone, and resampled with it.

    Raises:
        ValueError: paired values differ in number.
    """
    if paired:
        if len(a) != len(b):
            raise ValueError(f"paired values are equally many, and these are {len(a)} and {len(b)}")
        wins = _wins(a, b)
        return bootstrap(len(a), lambda index: float(wins[index].mean()))
    wins = _wins(a[:, None], b[None, :]) / (len(a) * len(b))

    def mean(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> float:
        return float(np.bincount(rows, minlength=len(a)) @ wins @ np.bincount(columns, minlength=len(b)))

    return bootstrap((len(a), len(b)), mean)


def middle(values: Floats) -> np.floating[Any]:
    """Return the median; the lower of two, since there may be nothing between them."""
    found: np.floating[Any] = np.sort(values)[(len(values) - 1) // 2]
    return found


def _wins(a: Floats, b: Floats) -> Floats:
    """1 where a is better, ½ where both are equal, infinite ones included."""
    return np.asarray((a < b) + 0.5 * (a == b), dtype=float)


def expected_best(values: Floats, n: int) -> float:
    """Return the expected lowest of n configurations, drawn without replacement from these; exact.

    With v₁ ≤ … ≤ v_N it is Σᵢ vᵢ · C(N − i, n − 1) / C(N, n); Dodge et al. 2019, "Show Your Work", have the form with
    replacement. It is infinite where n configurations may all have diverged.

    Args:
        values: [N] figures of configurations, lower is better.

    Raises:
        ValueError: n is not between 1 and N.
    """
    weights = _is_lowest(len(values), n)
    ordered = np.sort(values)
    return float(np.sum(ordered[weights > 0] * weights[weights > 0]))


def median_best(values: Floats, n: int) -> float:
    """Return the median of the lowest of n configurations, drawn without replacement from these; exact.

    It is finite where the expectation is not, as long as at most half of the draws of n have all diverged.

    Raises:
        ValueError: n is not between 1 and N.
    """
    reached = np.cumsum(_is_lowest(len(values), n))
    return float(np.sort(values)[int(np.searchsorted(reached, 0.5 - 1e-12))])


def best_of(values: Floats, n: int) -> Interval:
    """Return the median of the best of n configurations with an interval that assumes nothing of their distribution.

    The median of the lowest of n is the quantile q = 1 − ½^(1/n) of one, and a quantile lies between order statistics
    with a binomial probability (David and Nagaraja, "Order Statistics", §7.1). Where n is so near to N that no value
    is a lower bound, that is 0.

    Args:
        values: [N] figures of configurations, lower is better, at least 0.

    Raises:
        ValueError: n is not between 1 and N.
    """
    value, ordered = median_best(values, n), np.sort(values)
    quantile = 1 - 0.5 ** (1 / n)
    below, above = (int(binom.ppf(p, len(values), quantile)) for p in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    low = float(ordered[below - 1]) if below > 0 else 0.0
    high = float(ordered[above]) if above < len(values) else math.inf
    return Interval(value, min(low, value), max(high, value))


def _is_lowest(count: int, n: int) -> Floats:
    """[count] the probability that the i-th of the ordered values is the lowest of n."""
    if not 1 <= n <= count:
        raise ValueError(f"n is {n}, but it is between 1 and {count}, the number of configurations")
    # C(N − i, n − 1) / C(N, n), as a product of ratios: the binomials themselves overflow.
    weights = np.empty(count)
    weight = n / count
    for i in range(count):
        weights[i] = weight
        left = count - i - 1
        weight *= max(0, left - n + 1) / left if left else 0
    return weights


def honest_winner(fids: Floats) -> Interval:
    """Return what the configuration that was picked as the best is worth, judged by seeds that did not pick it.

    Each seed in turn is left out: the configuration of the lowest mean over the others is picked, and the left-out
    seed judges it; the value is the geometric mean over the seeds. A mean that has won is too low, since luck has
    helped to pick it. The interval is that of the picked configurations' own worth: its width comes from the scatter
    of log FID between the seeds of one configuration, pooled over all, which is taken to be alike everywhere. (A
    bootstrap would not do: the lowest of resampled values is no smooth statistic, and its interval covers seldom.)

    Args:
        fids: [configurations, seeds], above 0; infinite where a run diverged.

    Raises:
        ValueError: there is no configuration, or fewer than two seeds.
    """
    if fids.ndim != 2 or len(fids) == 0 or fids.shape[1] < 2:
        raise ValueError("an honest winner needs at least two seeds: some pick it, others judge it")
    count = fids.shape[1]
    picked = [int(np.argmin(np.delete(fids, seed, axis=1).mean(axis=1))) for seed in range(count)]
    value = math.exp(np.log([fids[pick, seed] for seed, pick in enumerate(picked)]).mean())
    error, freedom = _error_of_mean(fids)
    return _within(value, error, freedom)


def first_of(fids: Floats) -> Interval:
    """Return the mean FID of the first configuration over its seeds, none of which has picked it.

    Its interval is made as `honest_winner` makes it.

    Args:
        fids: [configurations, seeds], above 0; infinite where a run diverged.

    Raises:
        ValueError: there is no configuration.
    """
    if len(fids) == 0:
        raise ValueError("there is no configuration, so there is no first one")
    error, freedom = _error_of_mean(fids)
    return _within(float(fids[0].mean()), error, freedom)


def ratio_of_firsts(a: Floats, b: Floats) -> Interval:
    """Return the mean FID of the first configuration of `a`, divided by that of `b`; below 1 where `a` is better.

    Args:
        a: [configurations, seeds], above 0; infinite where a run diverged. The scatter between seeds is pooled over
            them, but not with that of `b`; the degrees of freedom are the smaller ones.
        b: those of another algorithm.

    Raises:
        ValueError: one of them has no configuration.
    """
    first, second = first_of(a).value, first_of(b).value
    (error_a, freedom_a), (error_b, freedom_b) = _error_of_mean(a), _error_of_mean(b)
    value = first / second if math.isfinite(first) and math.isfinite(second) else math.inf
    return _within(value, math.hypot(error_a, error_b), min(freedom_a, freedom_b))


def _error_of_mean(fids: Floats) -> tuple[float, int]:
    """The standard error of the log of a mean over seeds, from the pooled scatter, and its degrees of freedom."""
    logs = np.log(fids[np.isfinite(fids).all(axis=1)])
    freedom = len(logs) * (fids.shape[1] - 1)
    return math.sqrt(logs.var(axis=1, ddof=1).mean() / fids.shape[1]) if freedom else math.inf, freedom


def _within(value: float, error: float, freedom: int) -> Interval:
    """The interval of a value with this standard error of its logarithm; without bounds where nothing is known."""
    if not freedom or not math.isfinite(value):
        return Interval(value, 0.0, math.inf)
    factor = math.exp(float(t.ppf((1 + LEVEL) / 2, freedom)) * error)
    return Interval(value, value / factor, value * factor)


def spread(figures: Floats) -> Spread:
    """Take the variance of figures apart, by the one-way analysis of variance with random effects.

    Args:
        figures: [configurations, seeds], finite; logarithms of FIDs, say.

    Raises:
        ValueError: there are fewer than two configurations or seeds, or a figure is not finite.
    """
    count, seeds = figures.shape
    if count < 2 or seeds < 2 or not np.isfinite(figures).all():
        raise ValueError("variances need finite figures of at least two configurations with at least two seeds each")
    within = float(figures.var(axis=1, ddof=1).mean())
    between = float(figures.mean(axis=1).var(ddof=1)) - within / seeds
    orders = np.sign(figures[:, None, :] - figures[None, :, :])[np.triu_indices(count, 1)]  # [pairs, seeds]
    first, second = np.triu_indices(seeds, 1)
    return Spread(max(0.0, between), within, float((orders[:, first] * orders[:, second] < 0).mean()))


def selection_bias(best: Floats, confirmed: Floats, configuration: NDArray[np.int64]) -> Interval:
    """Return by which share the kept FIDs are lower than on fresh samples: the mean of 1 − best/confirmed.

    Args:
        best: [runs] the lowest FID of each run's evaluations.
        confirmed: [runs] the same checkpoint's FID on fresh samples.
        configuration: [runs] which configuration each run is of.

    Raises:
        ValueError: there is no run.
    """
    names, group = np.unique(configuration, return_inverse=True)
    counts = np.bincount(group, minlength=len(names))
    sums = np.bincount(group, weights=1 - best / confirmed, minlength=len(names))
    return bootstrap(len(names), lambda index: float(sums[index].sum() / counts[index].sum()))
