"""Whether rows belong to the study in whose folder they lie, and are whole: what keeps studies apart."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from sweep.errors import ResultsError
from sweep.results.folder import StudyFolder
from sweep.results.layout import flat_evaluations
from sweep.results.schema import COMPLETED
from wae_core.evaluation.features import features_name
from wae_core.hyperparameters import DECLARED, Hyperparameters
from wae_core.protocol import Protocol
from wae_core.run import Run
from wae_core.storage.files import Location


@dataclass(frozen=True)
class Rules:
    """What the rows of one study have in common, and with what each of its runs was planned.

    Attributes:
        seeds: those of each configuration.
        stops_early: whether a run may complete short of its last step.
        draw: gives the hyperparameters of (algorithm, index) where no plan says them; None where any may be right.
        planned: the hyperparameters of the planned runs, by run_id.
        fid_reference: the data set, split and count that FIDs are measured against; None where it is not known.
    """

    study: str
    seeds: range
    protocol: Protocol
    data_sha256: str
    stops_early: bool
    draw: Callable[[str, int], Hyperparameters] | None = None
    planned: dict[str, Hyperparameters] = field(default_factory=dict)
    fid_reference: str | None = None

    def plan(self, runs: Iterable[Run]) -> None:
        """Take in runs that are planned."""
        self.planned.update({run.run_id: run.hyperparameters for run in runs})

    def foreign(self, row: Mapping[str, Any]) -> str:
        """Return why a row of `runs` is none of this study's, for the end of a sentence; empty where it is one."""
        expected = {
            "study": self.study,
            "config_id": f"{row['algorithm']}-{row['config_index']:05d}",
            "steps_planned": self.protocol.steps,
            "fid_samples": self.protocol.fid_samples,
            "data_sha256": self.data_sha256,
            "precision": self.protocol.precision,
        }
        if row["fid_features"] is not None:  # a run that failed early has none
            expected["fid_features"] = features_name(self.protocol.fid_features)
            if self.fid_reference is not None:
                expected["fid_reference"] = self.fid_reference
        planned = self.planned.get(row["run_id"])
        if planned is None and self.draw is not None:
            planned = self.draw(row["algorithm"], row["config_index"])
        if planned is not None:
            expected |= {name: getattr(planned, name) for name in DECLARED}
        for column, value in expected.items():
            if row[column] != value:
                return f"its {column} is {row[column]!r}, and {value!r} in this study"
        if row["seed"] not in self.seeds:
            return f"its seed is {row['seed']}, and this study has seeds {self.seeds.start} to {self.seeds.stop - 1}"
        return ""

    def lacks(self, row: Mapping[str, Any], fids: Mapping[int, float]) -> str:
        """Return in what a row of `runs` disagrees with its evaluations; empty where they are all there.

        Args:
            fids: of its evaluations, by step.
        """
        done, is_completed = row["steps_done"], row["status"] == COMPLETED
        all_steps = self.protocol.evaluation_steps
        due = [step for step in all_steps if step <= done or (is_completed and not self.stops_early)]
        if not is_completed and done not in fids:
            due = [step for step in due if step != done]  # it ended before it was scored there
        if sorted(fids) != due:
            return f"{len(fids)} of its {len(due)} evaluations are there"
        best = min(((fid, step) for step, fid in fids.items() if math.isfinite(fid)), default=(None, None))
        if (row["best_fid"], row["best_step"]) != best:
            return f"its best FID is {row['best_fid']} at step {row['best_step']}, and {best[0]} by its evaluations"
        return ""


def fids_by_run(evaluations: pa.Table) -> dict[str, dict[int, float]]:
    """Return the FIDs of rows of the table `evaluations`, by run_id and step."""
    fids: defaultdict[str, dict[int, float]] = defaultdict(dict)
    columns = [evaluations[name].to_pylist() for name in ("run_id", "step", "fid")]
    for run_id, step, fid in zip(*columns, strict=True):
        fids[run_id][step] = fid
    return fids


def read_own_record(folder: StudyFolder, path: Location, rules: Rules) -> pa.Table:
    """Read a record as `StudyFolder.read_record` does, and compare it with the study's rules.

    Raises:
        ResultsError: it is damaged, of another version or another study, of other hyperparameters than were planned,
            or lacks evaluations.
    """
    record = folder.read_record(path)
    fids = fids_by_run(flat_evaluations(record))
    for row in record.to_pylist():
        if reason := rules.foreign(row) or rules.lacks(row, fids.get(row["run_id"], {})):
            raise ResultsError(f"{path} cannot be used: {reason}; it is in {folder.damaged}, and its run missing")
    return record
