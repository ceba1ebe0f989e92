"""A study's two experiments in MLflow: their names, the columns that its pages show of them, and what they say."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import yaml

from sweep.results.folder import STUDY_FILE_ERRORS, StudyFolder
from sweep.tracking.entry import CONFIGURATION_METRICS
from sweep.tracking.mlflow_sqlite import OUR_TAG
from wae_core.hyperparameters import DECLARED

CONFIGURATIONS = "configurations"  # behind the study's name and a slash: the experiment's
NOTE = "mlflow.note.content"  # the tag that MLflow's pages show as a description
GROUPING = (  # said first: MLflow's pages show the first line alone until a click
    "**MLflow's charts and its *Group by* see the loaded rows only** (100 at first; *Load more* adds to them)"
)


@dataclass(frozen=True)
class Experiment:
    """What an experiment is to be in MLflow.

    Attributes:
        identity: the tag by which our name of a run or configuration is found.
        tags: as it is created.
    """

    name: str
    identity: str
    tags: dict[str, str]


@dataclass(frozen=True)
class Experiments:
    """A study's two experiments, and the number of seeds of each configuration: None where no study.yaml says it."""

    runs: Experiment
    configurations: Experiment
    seeds: int | None

    @classmethod
    def of(cls, folder: StudyFolder, study: str) -> Experiments:
        """Describe them by the study's name and its study.yaml."""
        document = _document(folder)
        kind, seeds = _kind_of_fid(document), document.get("seeds")
        return cls(
            _of_runs(study, kind),
            _of_configurations(study, kind),
            seeds if isinstance(seeds, int) else None,
        )


def _of_runs(study: str, kind: str) -> Experiment:
    note = (
        f"Study **{study}**, a row per run. {GROUPING}: a group's mean is that of its best runs.\n\n"
        f"Means over seeds are in the experiment {study}/{CONFIGURATIONS}; which algorithm is best, and how sure "
        f"that is, says `make report STUDY={study}`. Hyperparameters are params, and those that are numbers also "
        "metrics, which can be filtered by size: `metrics.learning_rate < 0.001 and tags.status = 'completed'`. "
        f"{kind}"
    )
    return Experiment(study, "run_id", _tags(note, "best_fid", ["fid", "best_fid", "confirmed_fid"]))


def _of_configurations(study: str, kind: str) -> Experiment:
    note = (
        f"Study **{study}**, a row per configuration, over its seeds. {GROUPING}.\n\n"
        "A configuration of which a run diverged is infinitely bad: it has no mean, and comes last. The lowest of "
        f"many means is too good: `make report STUDY={study}` judges the best by seeds that did not pick it. Runs "
        f"are in the experiment {study}. {kind}"
    )
    metrics = [*CONFIGURATION_METRICS, "completed", "diverged"]
    return Experiment(f"{study}/{CONFIGURATIONS}", "config_id", _tags(note, "fid_mean", metrics))


def _kind_of_fid(document: dict[str, Any]) -> str:
    try:
        protocol, features = document["protocol"], document["fid_features"]
        kind = f"{features} features of {protocol['fid_samples']:,} samples, against {protocol['dataset']}"
    except STUDY_FILE_ERRORS:  # a launch and `make status` say what is wrong with it
        return ""
    return f"FID: {kind}; it can be compared with FIDs of the same kind alone."


def _document(folder: StudyFolder) -> dict[str, Any]:
    """What study.yaml says; nothing where it cannot be read, which hinders no mirror."""
    try:
        return dict(yaml.safe_load(folder.study_file.read_bytes()))
    except STUDY_FILE_ERRORS:
        return {}


def _tags(note: str, order: str, metrics: list[str]) -> dict[str, str]:
    # MLflow's table has metrics before params, each in the order of the alphabet.
    columns = [f"metrics.`{name}`" for name in metrics]
    columns += [f"params.`{name}`" for name in ("algorithm", *DECLARED)]
    view = {"orderByKey": f"metrics.`{order}`", "orderByAsc": True, "selectedColumns": columns}
    return {OUR_TAG: json.dumps(view), NOTE: note}
