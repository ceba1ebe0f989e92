"""The comparison of a study with another one: which is better, algorithm by algorithm, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.configurations import judged_fids
from analysis.report.contents import Contents
from analysis.report.words import show
from analysis.uncertainty import FEWEST, Floats, Interval, bootstrap, improvement, median, middle
from sweep.results.folder import StudyFolder
from wae_core.hyperparameters import DECLARED
from wae_core.storage.files import location

# What FIDs must have in common to be compared: column, and its word.
KIND = {"fid_features": "features", "fid_samples": "samples", "fid_reference": "reference", "data_sha256": "data"}


@dataclass(frozen=True)
class Compared:
    """One algorithm in both studies.

    Attributes:
        counts: how many configurations of either are compared.
        is_paired: whether each is compared with the one of equal draws alone.
        wins: the probability that a configuration of the first study beats one of the second.
        ratio: the first study's FID as a share of the second's: below 1 where the first is better.
    """

    algorithm: str
    counts: tuple[int, int]
    is_paired: bool
    wins: Interval
    ratio: Interval

    @property
    def is_enough(self) -> bool:
        """Whether there are so many configurations that an interval means anything."""
        return min(self.counts) >= FEWEST

    @property
    def winner(self) -> int | None:
        """0 where the first study is better, 1 where the second is, None where it cannot be told."""
        if not self.is_enough or self.wins.low <= 0.5 <= self.wins.high:
            return None
        return int(self.wins.value < 0.5)


class Comparison:
    """A study beside another one.

    Attributes:
        names: what the two are called, which is their folder as well where the studies have one name.
        rows: one for each algorithm of which both have a configuration that can be judged.
        lonely: the algorithms of which only one has.
    """

    def __init__(self, contents: Contents, other: Contents) -> None:
        """Compare them.

        Raises:
            ValueError: their FIDs are of different kinds, or they are one study.
        """
        places = [str(each.folder.root.absolute()) for each in (contents, other)]
        if places[0] == places[1]:
            raise ValueError(f"study {contents.study!r} cannot be compared with itself: name another study or folder")
        alike = contents.study == other.study
        self.names = tuple(
            f"{each.study} in {each.folder.root.parent}" if alike else each.study for each in (contents, other)
        )
        _refuse_other_kinds(self.names, contents.runs, other.runs)
        both = [name for name in contents.with_results if name in other.with_results]
        self.rows = [_compare(contents, other, name) for name in both]
        self.lonely = sorted({*contents.with_results, *other.with_results} - set(both))

    def verdict(self) -> str:
        """Say in one sentence, for each algorithm, which of the two is better and how sure that is."""
        first, second = self.names
        said = [self._said(row) for row in self.rows]
        said += [f"only one of the two has results of {name}" for name in self.lonely]
        if not said:
            said = ["neither has results yet, so there is nothing to compare"]
        return f"{first} against {second}: {'; '.join(said)}."

    def table(self) -> pd.DataFrame:
        """Return one row per algorithm, ready to be read."""
        return pd.DataFrame(
            {
                "algorithm": row.algorithm,
                "configurations": str(row.counts[0]) if row.is_paired else " and ".join(map(str, row.counts)),
                "paired": "yes" if row.is_paired else "no",
                f"probability that {self.names[0]} is better": show(row.wins),
                "its FID as a share of the other's": show(row.ratio),
                "better": "cannot be told" if row.winner is None else self.names[row.winner],
            }
            for row in self.rows
        )

    def _said(self, row: Compared) -> str:
        if not row.is_enough:
            kind = "pairs of configurations" if row.is_paired else "configurations of each"
            return f"{row.algorithm} cannot be told, since that needs at least {FEWEST} {kind}"
        how = f"{row.counts[0]} pairs of equal draws" if row.is_paired else "not paired"
        figures = f"better with probability {show(row.wins)}, at {show(row.ratio)} of its FID; {how}"
        if row.winner is None:
            return f"{row.algorithm} cannot be told at this budget ({self.names[0]} is {figures})"
        return f"{row.algorithm} is better in {self.names[row.winner]} ({self.names[0]} is {figures})"


def ratio(a: Floats, b: Floats, *, paired: bool) -> Interval:
    """Return the FID of `a` as a share of that of `b`: 0.9 where it is lower by a tenth.

    Of pairs it is the median of the pairs' own ratios, without those of which both have diverged, which say nothing
    of it; else the ratio of the two medians. It is not a number where nothing is left, or both medians are infinite.

    Args:
        a: [n] the configurations' mean FIDs, above 0.
        b: [m] the others'; paired as in `improvement`.

    Raises:
        ValueError: paired values differ in number.
    """
    if paired:
        if len(a) != len(b):
            raise ValueError(f"paired values are equally many, and these are {len(a)} and {len(b)}")
        told = ~(np.isinf(a) & np.isinf(b))
        return median(a[told] / b[told]) if told.any() else Interval(math.nan, math.nan, math.nan)
    first, second = np.asarray(a), np.asarray(b)
    with np.errstate(invalid="ignore"):
        return bootstrap((len(a), len(b)), lambda i, j: float(middle(first[i]) / middle(second[j])))


def load_other(results: str, study: str, other: str) -> Contents:
    """Read what WITH= names: another study of the results folder, or another folder's study of the same name.

    Raises:
        FileNotFoundError: there is neither.
        ResultsError: one of its files is damaged, or of another version.
    """
    place = location(other)
    if "/" not in other and StudyFolder(results, other).root.is_dir():
        return Contents.load(results, other)
    if (place / study).is_dir():
        return Contents.load(place, study)
    if (place / "runs").is_dir():
        return Contents.load(place.absolute().parent, place.absolute().name)
    raise FileNotFoundError(
        f"with is {other!r}, but it is another study in {results}, or a results folder that has a study {study!r}"
    )


def _refuse_other_kinds(names: Sequence[str], runs: pd.DataFrame, others: pd.DataFrame) -> None:
    kinds = [_kinds(frame) for frame in (runs, others)]
    different = [
        f"{word} {_listed(kinds[0][column])} and {_listed(kinds[1][column])}"
        for column, word in KIND.items()
        if kinds[0][column] and kinds[1][column] and kinds[0][column] != kinds[1][column]
    ]
    if different:
        raise ValueError(
            f"{names[0]} and {names[1]} cannot be compared, since their FIDs are of different kinds: "
            + ", ".join(different)
        )


def _kinds(runs: pd.DataFrame) -> dict[str, set[str]]:
    known = runs[runs["best_fid"].notna() & judged_fids(runs).notna()]
    return {column: set(known[column].dropna().map(str)) for column in KIND}


def _listed(values: set[str]) -> str:
    return " or ".join(sorted(values))


def _compare(contents: Contents, other: Contents, algorithm: str) -> Compared:
    tables = [_judged(each, algorithm) for each in (contents, other)]
    common = tables[0].merge(tables[1], on="config_index")
    pairs = tables[0].merge(tables[1], on=["config_index", *DECLARED])
    # Proposals of Optuna may agree by chance, and a space that was changed leaves some draws as they were.
    is_paired = not (contents.is_proposed or other.is_proposed) and 0 < len(pairs) == len(common)
    a, b = (
        (pairs[f"fid_mean_{side}"] if is_paired else table["fid_mean"]).to_numpy(dtype=float)
        for side, table in zip("xy", tables, strict=True)
    )
    wins, share = improvement(a, b, paired=is_paired), ratio(a, b, paired=is_paired)
    return Compared(algorithm, (len(a), len(b)), is_paired, wins, share)


def _judged(contents: Contents, algorithm: str) -> pd.DataFrame:
    own = contents.table[(contents.table["algorithm"] == algorithm) & contents.table["fid_mean"].notna()]
    texts = {name: own[name].astype(object).where(own[name].notna(), np.nan) for name in DECLARED}
    return own.assign(**texts)[["config_index", *DECLARED, "fid_mean"]]
