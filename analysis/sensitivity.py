"""Which hyperparameters matter, whether the best lie at the edge of their ranges, and where runs diverge."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest, rankdata
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import KFold

from analysis.uncertainty import LEVEL
from search_spaces import SearchSpace
from search_spaces.distributions import Choice, Distribution, Fixed, LogUniform
from search_spaces.relations import lines_of

FEWEST = 30  # configurations, of which a forest can learn something
FOLDS, TREES, SHUFFLES = 5, 100, 5
OUTER = 0.1  # of a range, at either end: its edge; and of the configurations: the best
PARTS = ("low", "middle", "high")  # thirds of a range


def positions(table: pd.DataFrame, space: SearchSpace, algorithm: str) -> pd.DataFrame:
    """Return where in their ranges the hyperparameters of an algorithm's configurations lie.

    Args:
        table: rows of `configurations`, of one study.
        space: the study's own.

    Returns:
        A column per hyperparameter that varies, by config_index: from 0, the lower limit, to 1, the upper one, along
        the distribution that it is drawn from (logarithmic where that is); of a choice, its place among the values.
        Not a number where a condition of the space leaves the hyperparameter out.
    """
    own = table[table["algorithm"] == algorithm].set_index("config_index")
    columns: dict[str, pd.Series[float]] = {}
    for line in space.hyperparameters:
        if algorithm not in line.algorithms or isinstance(line.distribution, Fixed):
            continue
        values = own[line.name]
        if line.when is not None:
            values = values[own[line.when.name].isin(line.when.values)]
        there = values.dropna().map(lambda value, of=line.distribution: place_in_range(value, of)).astype(float)
        before = columns.get(line.name, pd.Series(dtype=float))
        columns[line.name] = pd.concat([before, there]) if len(before) else there
    return pd.DataFrame(columns, index=own.index)


def importance(table: pd.DataFrame, space: SearchSpace, algorithm: str) -> pd.DataFrame:
    """Return how much of the order of configurations each hyperparameter explains.

    A random forest learns the ranks of the mean FIDs, diverged configurations last, on four fifths of the
    configurations; on the fifth, the loss of R² where one hyperparameter's values are shuffled is its importance.
    Whole configurations are held out: runs of one configuration on both sides would let the forest recognise it.

    Returns:
        hyperparameter, importance (mean over the folds), sd (over folds and shuffles) and r2 (of the whole forest on
        what was held out, the same in all rows; where it is not above 0, no importance says anything); the most
        important first.

    Raises:
        ValueError: there are fewer than FEWEST configurations, or nothing varies.
    """
    own = judged_configurations(table, algorithm)
    places = positions(table, space, algorithm).loc[own.index].fillna(-1.0)  # a place of its own: it does not apply
    if places.shape[1] == 0:
        raise ValueError(f"no hyperparameter of {algorithm} varies")
    ranks = rankdata(own["fid_mean"]) / len(own)
    drops, scores = [], []
    for learnt, held_out in KFold(FOLDS, shuffle=True, random_state=0).split(places):
        forest = RandomForestRegressor(TREES, min_samples_leaf=2, random_state=0)
        forest.fit(places.iloc[learnt], ranks[learnt])
        scores.append(forest.score(places.iloc[held_out], ranks[held_out]))
        drops.append(_permutation_losses(forest, places.iloc[held_out], ranks[held_out]))
    loss = np.concatenate(drops, axis=1)  # [hyperparameters, folds × shuffles]
    found = pd.DataFrame(
        {
            "hyperparameter": places.columns,
            "importance": loss.mean(axis=1),
            "sd": loss.std(axis=1, ddof=1),
            "r2": float(np.mean(scores)),
        }
    )
    return found.sort_values("importance", ascending=False, ignore_index=True)


def _permutation_losses(forest: RandomForestRegressor, places: pd.DataFrame, ranks: np.ndarray) -> np.ndarray:
    """[hyperparameters, SHUFFLES] the loss of R² where one hyperparameter's values are shuffled.

    As scikit-learn's `permutation_importance`, which asks the forest once per shuffle and takes five times as long.
    """
    generator, count = np.random.default_rng(0), places.shape[1]
    shuffled = np.tile(places.to_numpy(), (count, SHUFFLES, 1, 1))  # [hyperparameters, SHUFFLES, n, hyperparameters]
    for own in range(count):
        for copy in range(SHUFFLES):
            generator.shuffle(shuffled[own, copy, :, own])
    asked = pd.DataFrame(shuffled.reshape(-1, count), columns=places.columns)
    squares = np.square(forest.predict(asked).reshape(count, SHUFFLES, -1) - ranks).sum(axis=2)
    unshuffled = np.square(forest.predict(places) - ranks).sum()
    return np.asarray((squares - unshuffled) / np.square(ranks - ranks.mean()).sum())


def at_edges(table: pd.DataFrame, space: SearchSpace, algorithm: str) -> pd.DataFrame:
    """Return, for both ends of each range, whether the best configurations crowd there, so that it may be too narrow.

    Returns:
        hyperparameter, edge (low or high), limit (of the range there), share (of the best tenth that lie in the outer
        tenth of the range; of a choice, on its outermost value), expected (the same of all configurations) and p (how
        likely a share so large is by chance; small where the range should be widened).

    Raises:
        ValueError: there are fewer than FEWEST configurations.
    """
    own = judged_configurations(table, algorithm)
    places = positions(table, space, algorithm).loc[own.index]
    best = own["fid_mean"].nsmallest(math.ceil(OUTER * len(own))).index
    rows = []
    for name in places.columns:
        there = places[name].dropna()
        ordered = pd.api.types.is_numeric_dtype(own[name])
        winners = there[there.index.isin(best)]
        if not ordered or winners.empty:
            continue
        values = [v for line in lines_of(space.hyperparameters, name, algorithm) for v in line.distribution.support]
        limits = {"low": min(values), "high": max(values)}
        outermost = {"low": there <= max(OUTER, there.min()), "high": there >= min(1 - OUTER, there.max())}
        for edge, is_there in outermost.items():
            expected, count = float(is_there.mean()), int(is_there[winners.index].sum())
            p = float(binomtest(count, len(winners), expected, alternative="greater").pvalue) if expected else 1.0
            rows.append(
                {
                    "hyperparameter": name,
                    "edge": edge,
                    "limit": limits[edge],
                    "share": count / len(winners),
                    "expected": expected,
                    "p": p,
                }
            )
    return pd.DataFrame(rows, columns=["hyperparameter", "edge", "limit", "share", "expected", "p"])


def divergence(table: pd.DataFrame, space: SearchSpace, algorithm: str) -> pd.DataFrame:
    """Return in which part of each range configurations diverge.

    Returns:
        hyperparameter, part (of the range: low, middle or high third), configurations, diverged (those of which at
        least one run has) and share, with the bounds of its Wilson interval, low and high.
    """
    own = table[table["algorithm"] == algorithm].set_index("config_index")
    places = positions(table, space, algorithm)
    rows = []
    for name in places.columns:
        third = (places[name].dropna() * len(PARTS)).clip(upper=len(PARTS) - 1).astype(int)
        for number, part in enumerate(PARTS):
            chosen = own.loc[third.index[third == number], "diverged"]
            if len(chosen):
                count = int((chosen > 0).sum())
                low, high = binomtest(count, len(chosen)).proportion_ci(LEVEL, method="wilson")
                counts = {"hyperparameter": name, "part": part, "configurations": len(chosen), "diverged": count}
                rows.append(counts | {"share": count / len(chosen), "low": float(low), "high": float(high)})
    return pd.DataFrame(
        rows, columns=["hyperparameter", "part", "configurations", "diverged", "share", "low", "high"]
    )


def judged_configurations(table: pd.DataFrame, algorithm: str) -> pd.DataFrame:
    """Return the configurations of an algorithm that can be judged, by config_index.

    Raises:
        ValueError: there are fewer than FEWEST, of which importance and edges say nothing.
    """
    own = table[(table["algorithm"] == algorithm) & table["fid_mean"].notna()]
    if len(own) < FEWEST:
        raise ValueError(
            f"importance and edges need at least {FEWEST} configurations, and {algorithm} has {len(own)}"
        )
    return own.set_index("config_index")


def place_in_range(value: Any, distribution: Distribution) -> float:
    """Return where a value lies in what it is drawn from, from 0 to 1, as `positions` says."""
    if isinstance(distribution, Choice | Fixed):
        ordered = sorted(distribution.support, key=lambda each: (isinstance(each, str), each))
        return ordered.index(value) / max(1, len(ordered) - 1)
    if isinstance(distribution, LogUniform):
        return math.log(value / distribution.low) / math.log(distribution.high / distribution.low)
    return float((value - distribution.low) / (distribution.high - distribution.low))
