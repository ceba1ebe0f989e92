"""One row per configuration: the table under every comparison of algorithms and hyperparameters."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sweep.results.judging import judged_fid
from sweep.results.schema import COMPLETED, DIVERGED, FAILED
from wae_core.hyperparameters import DECLARED, SHARED

KEY = ["study", "algorithm", "config_index"]


def judged_fids(runs: pd.DataFrame) -> pd.Series[float]:
    """Return the FID by which each run is judged: infinite where it diverged, not a number where it failed.

    Args:
        runs: rows of `load_runs`; the result has their index.
    """
    fids = [
        judged_fid(status, None if np.isnan(fid) else fid)
        for status, fid in zip(runs["status"], runs["best_fid"].astype(float), strict=True)
    ]
    return pd.Series(fids, index=runs.index, dtype=float)


def configurations(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per (study, algorithm, configuration) of which a run has ended.

    Columns: study, algorithm, config_index, config_id; seeds (runs that are judged), completed, diverged and failed
    (numbers of runs); fid_mean, fid_sd (sample standard deviation, n − 1) and fid_min over the judged runs, of which
    a diverged one counts as infinite; confirmed_mean, the mean of `confirmed_fid` over the same; steps_done (of all
    its runs together); and the hyperparameters. Where all runs failed, the figures are not numbers.

    Args:
        runs: rows of `load_runs`, of one study or several.
    """
    fids = judged_fids(runs)
    confirmed = runs["confirmed_fid"].where(runs["status"] == COMPLETED, fids)
    table = runs.assign(
        fid=fids,
        confirmed=confirmed,
        **{status: runs["status"] == status for status in (COMPLETED, DIVERGED, FAILED)},
    )
    grouped = table.groupby(KEY, sort=True)
    columns = grouped.agg(
        config_id=("config_id", "first"),
        seeds=("fid", "count"),
        completed=(COMPLETED, "sum"),
        diverged=(DIVERGED, "sum"),
        failed=(FAILED, "sum"),
        fid_mean=("fid", "mean"),
        fid_sd=("fid", "std"),
        fid_min=("fid", "min"),
        confirmed_mean=("confirmed", "mean"),
        steps_done=("steps_done", "sum"),
        **{name: (name, "first") for name in DECLARED},
    )
    return columns.reset_index()


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
