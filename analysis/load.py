"""Reads a study's two tables and answers what they are mostly asked: the best runs, and fair comparisons."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from sweep.results.folder import read_evaluations, read_rescores, read_runs
from sweep.results.schema import COMPLETED
from wae_core.algorithms.registry import ALGORITHMS
from wae_core.storage.files import Location, listed, location


def load_runs(results: str | Location, study: str) -> pd.DataFrame:
    """One row per ended run, also while the sweep goes on; the columns are those of `sweep.results.schema.RunRow`.

    Args:
        results: a folder, or its address in an object store (s3://…, gs://…).

    Raises:
        FileNotFoundError: there is no such study; the sentence names those that there are.
        ResultsError: a file of it is damaged, of another version, or a stranger among the tables.
    """
    return _read(read_runs, results, study)


def load_evaluations(results: str | Location, study: str) -> pd.DataFrame:
    """One row per (ended run, evaluation step); the columns are those of `sweep.results.schema.EvaluationRow`.

    Args:
        results: a folder, or its address in an object store (s3://…, gs://…).

    Raises:
        FileNotFoundError: there is no such study; the sentence names those that there are.
        ResultsError: a file of it is damaged, of another version, or a stranger among the tables.
    """
    return _read(read_evaluations, results, study)


def load_rescores(results: str | Location, study: str) -> pd.DataFrame:
    """One row per (stored model, way in which `bigwae rescore` scored it again), to be joined to the runs by run_id.

    The columns are those of `sweep.results.schema.RescoreRow`. FIDs can be compared where `fid_features`,
    `fid_reference` and `fid_samples` are equal.

    Args:
        results: a folder, or its address in an object store (s3://…, gs://…).

    Raises:
        FileNotFoundError: there is no such study; the sentence names those that there are.
        ResultsError: a file of it is damaged, of another version, or a stranger among the tables.
    """
    return _read(read_rescores, results, study)


def best_runs(runs: pd.DataFrame, n: int) -> pd.DataFrame:
    """The `n` completed runs with the lowest `best_fid` of each algorithm, best first; in the registry's order."""
    ranked = runs[runs["status"] == COMPLETED].sort_values(["best_fid", "run_id"])
    own = [ranked[ranked["algorithm"] == algorithm].head(n) for algorithm in ALGORITHMS]
    return pd.concat(own, ignore_index=True)


def common_configurations(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of those configurations that have ended for all algorithms and all seeds of the frame.

    Algorithms share the tensor shapes and learning rates of configuration i (equal computation), so these are the
    runs on which they can be compared, also while a sweep is under way.
    """
    ended = runs.groupby("config_index")["run_id"].transform("nunique")
    return runs[ended == runs["algorithm"].nunique() * runs["seed"].nunique()].reset_index(drop=True)


def _read(read: Callable[[Location, str], pd.DataFrame], results: str | Location, study: str) -> pd.DataFrame:
    place = location(results)
    try:
        return read(place, study)
    except FileNotFoundError as error:
        studies = ", ".join(path.parent.name for path in listed(place, "*/runs"))
        there_are = f"there are {studies}" if studies else "there is no study at all: run 'make sweep' first"
        raise FileNotFoundError(f"no study {study!r} in the results folder '{results}': {there_are}") from error
