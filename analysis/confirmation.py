"""The confirmation of a study: its best configurations, judged by seeds that did not pick them."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analysis.configurations import configurations, fid_matrix
from analysis.load import load_runs
from sweep.results.folder import StudyFolder, confirmation_of, confirmed_study
from sweep.results.judging import FRESH, KEY
from sweep.results.plan_file import read_plan
from wae_core.storage.files import Location, location


@dataclass(frozen=True)
class Confirmation:
    """What has been confirmed of a study.

    Attributes:
        study: the name of the confirmation.
        runs: rows of the configurations of which every fresh seed has ended, and none failed.
        seeds: the number of fresh seeds of each configuration.
        unfinished: the config_ids of the others that were picked.
    """

    study: str
    runs: pd.DataFrame
    seeds: int
    unfinished: list[str]

    @classmethod
    def load(cls, results: str | Location, study: str) -> Confirmation | None:
        """Read the confirmation of a study, finished or not; None where there is none.

        Raises:
            ResultsError: one of its files is damaged, or of another version.
        """
        folder = StudyFolder(location(results), confirmation_of(study))
        if not folder.plan_file.exists() or confirmed_study(folder) != study:
            return None
        runs, plan = load_runs(results, folder.root.name), read_plan(folder).to_pandas()
        table = configurations(runs)
        seeds = int(plan.groupby("config_id").size().max())
        whole = set(table.loc[table["seeds"] == seeds, "config_id"])
        unfinished = [config_id for config_id in dict.fromkeys(plan["config_id"]) if config_id not in whole]
        return cls(folder.root.name, runs[runs["config_id"].isin(whole)], seeds, unfinished)

    def beside(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the study's table of configurations with three columns more, which are null where none is confirmed.

        They are fresh_seeds, fresh_mean (over these, of the lowest FID of each) and fresh_confirmed_mean (of the FID
        of the same checkpoints on fresh samples): no selection has flattered the last.

        Args:
            table: rows of `configurations` of the study.
        """
        fresh = configurations(self.runs).rename(columns=FRESH)
        fresh = fresh[[*KEY[1:], *FRESH.values()]].astype({"fresh_seeds": "Int64"})
        return table.merge(fresh, on=KEY[1:], how="left")

    def fids(self, table: pd.DataFrame, algorithm: str) -> pd.DataFrame:
        """Return the FIDs on fresh samples with fresh seeds, [configurations, seeds]: the study's best first.

        Args:
            table: rows of `configurations` of the study, whose mean FIDs are the order.
        """
        matrix = fid_matrix(self.runs.assign(best_fid=self.runs["confirmed_fid"]), algorithm)
        own = table[(table["algorithm"] == algorithm) & table["config_index"].isin(matrix.index)]
        return matrix.loc[own.sort_values(["fid_mean", "config_index"])["config_index"]]
