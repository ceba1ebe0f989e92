"""A study's two experiments in MLflow: their names, the columns that its pages show of them, and what they say."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sweep.errors import ResultsError
from sweep.results.folder import StudyFolder
from sweep.results.study_file import read_rules
from sweep.tracking.entry import CONFIGURATION_METRICS
from sweep.tracking.mlflow_sqlite import OUR_TAG
from wae_core.evaluation.features import features_name
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


def experiment_of_runs(folder: StudyFolder, study: str) -> Experiment:
    """Describe the experiment of the study's runs."""
    note = (
        f"Study **{study}**, a row per run. {GROUPING}: a group's mean is that of its best runs.\n\n"
        f"Means over seeds are in the experiment {study}/{CONFIGURATIONS}; which algorithm is best, and how sure "
        f"that is, says `make report STUDY={study}`. Hyperparameters are params, and those that are numbers also "
        "metrics, which can be filtered by size: `metrics.learning_rate < 0.001 and tags.status = 'completed'`. "
        f"{_kind_of_fid(folder)}"
    )
    return Experiment(study, "run_id", _tags(note, "best_fid", ["fid", "best_fid", "confirmed_fid"]))


def experiment_of_configurations(folder: StudyFolder, study: str) -> Experiment:
    """Describe the experiment of the study's configurations."""
    note = (
        f"Study **{study}**, a row per configuration, over its seeds. {GROUPING}.\n\n"
        "A configuration of which a run diverged is infinitely bad: it has no mean, and comes last. The lowest of "
        f"many means is too good: `make report STUDY={study}` judges the best by seeds that did not pick it. Runs "
        f"are in the experiment {study}. {_kind_of_fid(folder)}"
    )
    metrics = [*CONFIGURATION_METRICS, "completed", "diverged"]
    return Experiment(f"{study}/{CONFIGURATIONS}", "config_id", _tags(note, "fid_mean", metrics))


def seeds_of(folder: StudyFolder) -> int | None:
    """Return how many seeds each configuration has; None where study.yaml does not say."""
    try:
        return read_rules(folder)[0].seeds
    except (OSError, ResultsError):
        return None


def _kind_of_fid(folder: StudyFolder) -> str:
    try:
        protocol = read_rules(folder)[0].protocol
    except (OSError, ResultsError):
        return ""
    return (
        f"FID by {features_name(protocol.fid_features)} features of {protocol.fid_samples:,} samples, against "
        f"{protocol.dataset}; it can be compared with FIDs of the same kind alone."
    )


def _tags(note: str, order: str, metrics: list[str]) -> dict[str, str]:
    # MLflow's table has metrics before params, each in the order of the alphabet.
    columns = [f"metrics.`{name}`" for name in metrics]
    columns += [f"params.`{name}`" for name in ("algorithm", *DECLARED)]
    view = {"orderByKey": f"metrics.`{order}`", "orderByAsc": True, "selectedColumns": columns}
    return {OUR_TAG: json.dumps(view), NOTE: note}
