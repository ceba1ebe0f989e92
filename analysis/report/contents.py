"""What a report is made of: the rows of one study, what was planned, what it cost, and how it was made."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import yaml

from analysis.configurations import configurations, is_paired
from analysis.confirmation import Confirmation
from analysis.load import load_evaluations, load_rescores, load_runs
from analysis.looks import LOOKS
from analysis.sensitivity import importance
from search_spaces import SearchSpace
from search_spaces.sentences import SpaceError
from sweep.reports.ledger import ledger_frame
from sweep.results.folder import StudyFolder
from sweep.results.plan_file import read_plan
from wae_core.storage.files import Location, location, read


@dataclass(frozen=True)
class Contents:
    """One study, as it stands.

    Attributes:
        algorithms: those that are planned or have a row, in the order of the figures.
        planned: the number of runs by algorithm.
        rescores: rows of `load_rescores`.
        table: rows of `configurations`.
        ledger: rows of `ledger_frame`.
        document: study.yaml; empty where there is none.
        space: the study's own; None where there is none.
        confirmation: of its best configurations; None where there is none.
    """

    study: str
    folder: StudyFolder
    algorithms: list[str]
    planned: Mapping[str, int]
    runs: pd.DataFrame
    evaluations: pd.DataFrame
    rescores: pd.DataFrame
    table: pd.DataFrame
    ledger: pd.DataFrame
    document: Mapping[str, Any]
    space: SearchSpace | None
    confirmation: Confirmation | None

    @property
    def with_results(self) -> list[str]:
        """The algorithms of which some configuration can be judged."""
        return [name for name in self.algorithms if self.judged(name).size]

    @property
    def is_proposed(self) -> bool:
        """Whether Optuna proposes its configurations, for each algorithm its own."""
        return bool(self.document.get("search", "random") != "random")

    @property
    def is_paired(self) -> bool:
        """Whether configurations of one index can be compared with each other."""
        return len(self.with_results) > 1 and not self.is_proposed and is_paired(self.table)

    @cached_property
    def importances(self) -> Mapping[str, pd.DataFrame]:
        """Rows of `sensitivity.importance` by algorithm, of those of which it can be computed."""
        found: dict[str, pd.DataFrame] = {}
        if self.space is None:
            return found
        for name in self.with_results:
            with contextlib.suppress(ValueError):  # too few configurations, or nothing varies
                found[name] = importance(self.table, self.space, name)
        return found

    def judged(self, algorithm: str) -> pd.Series[float]:
        """Return the mean FIDs of the configurations that can be judged, by config_index."""
        own = self.table[(self.table["algorithm"] == algorithm) & self.table["fid_mean"].notna()]
        return own.set_index("config_index")["fid_mean"]

    @classmethod
    def load(cls, results: str | Location, study: str) -> Contents:
        """Read a study, finished or not.

        Raises:
            FileNotFoundError: there is no such study.
            ResultsError: one of its files is damaged, or of another version.
        """
        runs, evaluations = load_runs(results, study), load_evaluations(results, study)
        folder = StudyFolder(location(results), study)
        planned: dict[str, int] = {}
        if folder.plan_file.exists():
            planned = read_plan(folder)["algorithm"].to_pandas().value_counts().to_dict()
        names = set(planned) | set(runs["algorithm"])
        document = _document(folder)
        return cls(
            study=study,
            folder=folder,
            algorithms=[name for name in LOOKS if name in names],
            planned=planned,
            runs=runs,
            evaluations=evaluations,
            rescores=load_rescores(results, study),
            table=configurations(runs),
            ledger=ledger_frame(folder),
            document=document,
            space=_space(document),
            confirmation=Confirmation.load(results, study),
        )


def _document(folder: StudyFolder) -> Mapping[str, Any]:
    if not folder.study_file.exists():
        return {}
    document = yaml.safe_load(read(folder.study_file))
    return document if isinstance(document, dict) else {}


def _space(document: Mapping[str, Any]) -> SearchSpace | None:
    try:
        return SearchSpace.from_dict("the-study-s", document["space"])
    except (LookupError, SpaceError):  # of a file that was edited: the report does without
        return None
