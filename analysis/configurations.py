"""The table of configurations, which lies with the rule that judges them, and what comparisons need beyond it."""

from __future__ import annotations

import pandas as pd

from sweep.results.judging import configurations, judged_fids
from wae_core.hyperparameters import SHARED

__all__ = ["configurations", "fid_matrix", "is_paired", "judged_fids"]


def is_paired(table: pd.DataFrame) -> bool:
    """Say whether the algorithms of one study can be compared configuration by configuration.

    They can where the shared hyperparameters of one index are equal for all algorithms, as random draws from a space
    are. Proposals of Optuna are not: each algorithm has its own.

    Args:
        table: rows of `configurations`, of one study.

    Raises:
        ValueError: they are of several studies.
    """
    _one_study(table)
    counts = table.groupby("config_index")[list(SHARED)].nunique()
    return bool((counts <= 1).all(axis=None)) and table.groupby("config_index").size().max() > 1


def fid_matrix(runs: pd.DataFrame, algorithm: str) -> pd.DataFrame:
    """Return the judged FIDs of the configurations of which every seed has ended and none failed.

    Args:
        runs: rows of `load_runs`, of one study.

    Returns:
        A frame [configurations, seeds], by config_index and seed.

    Raises:
        ValueError: the runs are of several studies.
    """
    _one_study(runs)
    own = runs[runs["algorithm"] == algorithm]
    matrix = own.assign(fid=judged_fids(own)).pivot(index="config_index", columns="seed", values="fid")
    return matrix.reindex(columns=sorted(runs["seed"].unique())).dropna()


def _one_study(table: pd.DataFrame) -> None:
    studies = sorted(set(table["study"]))
    if len(studies) > 1:
        raise ValueError(f"studies are never pooled, and these rows are of {', '.join(studies)}")
