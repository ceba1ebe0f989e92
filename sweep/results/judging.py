"""The one rule by which a run is judged, and the table of configurations under it: what every comparison starts from.

A diverged run is a result, and infinitely bad whatever it had reached before. A failed run says nothing about its
hyperparameters: it is left out, and counted. It holds for status, figures, Optuna, ASHA, counterfactual and mirror.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sweep.results.schema import COMPLETED, DIVERGED, FAILED
from wae_core.hyperparameters import DECLARED

if TYPE_CHECKING:
    import pandas as pd

KEY = ["study", "algorithm", "config_index"]
# What a confirmation's columns are called beside those of the study that it confirms.
FRESH = {"seeds": "fresh_seeds", "fid_mean": "fresh_mean", "confirmed_mean": "fresh_confirmed_mean"}


def judged_fid(status: str, best_fid: float | None) -> float | None:
    """Return the FID by which a run is judged: infinite where it diverged or has none; None where it failed."""
    if status == FAILED:
        return None
    return best_fid if status == COMPLETED and best_fid is not None and math.isfinite(best_fid) else math.inf


def judged_fids(runs: pd.DataFrame) -> pd.Series[float]:
    """Return the FID by which each run is judged: infinite where it diverged, not a number where it failed.

    Args:
        runs: rows of `load_runs`; the result has their index.
    """
    import pandas as pd  # it takes a second, and workers judge without frames

    fids = [
        judged_fid(status, None if math.isnan(fid) else fid)
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
