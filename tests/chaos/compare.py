"""What must hold when a sweep has ended, however often it was killed: a quiet one's rows, and nothing left over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pandas as pd

from sweep.reports.ledger import ledger_frame
from sweep.reports.status import status_frame
from sweep.results.folder import StudyFolder, read_evaluations, read_runs
from sweep.results.schema import STATUSES
from tests.chaos.progress import left_behind, names

# Timings, and where and how often a run was trained.
RUN_COLUMNS_THAT_MAY_DIFFER = frozenset(
    {"train_seconds", "eval_seconds", "cpu_seconds", "started_at", "ended_at"}
    | {"attempts", "host", "device", "pack_size", "checkpoint_path"}
)
EVALUATION_COLUMNS_THAT_MAY_DIFFER = frozenset({"train_seconds"})
NAMED = 5  # rows that a sentence names


def violations(quiet: str, shaken: str, study: str, tracking: str) -> list[str]:
    """Sentences on whatever differs from the quiet sweep's results, or is left over; empty if all is well."""
    return [
        *differences("runs", read_runs(quiet, study), read_runs(shaken, study)),
        *differences("evaluations", read_evaluations(quiet, study), read_evaluations(shaken, study)),
        *ledger_errors(StudyFolder(shaken, study)),
        *(f"{name} is left over" for name in sorted(left_behind(names(f"{shaken}/{study}")))[:NAMED]),
        *mirror_errors(tracking, study, read_runs(shaken, study)),
    ]


def differences(table: str, quiet: pd.DataFrame, shaken: pd.DataFrame) -> list[str]:
    """Rows that only one has, rows that are there twice, and for each column the rows that differ, bit for bit."""
    keys = ["run_id"] if table == "runs" else ["run_id", "step"]
    may_differ = RUN_COLUMNS_THAT_MAY_DIFFER if table == "runs" else EVALUATION_COLUMNS_THAT_MAY_DIFFER
    twice = shaken[shaken.duplicated(keys)]
    quiet, shaken = (frame.drop_duplicates(keys).set_index(keys).sort_index() for frame in (quiet, shaken))
    found = [f"{table}: {_named(twice[keys[0]])} there twice"] if len(twice) else []
    for what, index in (
        ("missing", quiet.index.difference(shaken.index)),
        ("too many", shaken.index.difference(quiet.index)),
    ):
        if len(index):
            found.append(f"{table}: {what} {_named(index)}")
    common = quiet.index.intersection(shaken.index)
    quiet, shaken = quiet.loc[common], shaken.loc[common]
    for column in quiet.columns.union(shaken.columns, sort=False):
        if column in may_differ:
            continue
        if column not in quiet or column not in shaken:
            found.append(f"{table}: only one has the column {column}")
            continue
        differs = (quiet[column] != shaken[column]) & ~(quiet[column].isna() & shaken[column].isna())
        if differs.any():
            first = int(differs.to_numpy().argmax())
            values = f"{quiet[column].iloc[first]} and {shaken[column].iloc[first]}"
            found.append(f"{table}.{column} differs in {_named(common[differs])}; first: {values}")
    return found


def ledger_errors(folder: StudyFolder) -> list[str]:
    """planned = completed + diverged + failed + missing, nothing missing, and the ledger's work is the rows'."""
    found = []
    for row in status_frame(folder).to_dict("records"):
        if row["planned"] != sum(row[status] for status in STATUSES) or row["missing"]:
            counts = ", ".join(f"{row[name]} {name}" for name in ("planned", *STATUSES, "missing"))
            found.append(f"the ledger of {row['algorithm']} does not add up: {counts}")
    runs = folder.read_table("runs").to_pandas()
    for row in ledger_frame(folder).to_dict("records"):
        own = runs[runs["algorithm"] == row["algorithm"]]
        sums = {"runs": len(own), "steps": own["steps_done"].sum(), "images": own["images_seen"].sum()}
        found += [
            f"the ledger of {row['algorithm']} has {row[name]} {name}, but its rows {value}"
            for name, value in sums.items()
            if row[name] != value
        ]
    return found


def mirror_errors(tracking: str, study: str, runs: pd.DataFrame) -> list[str]:
    """Ended runs and their configurations that MLflow has not, or has twice; runs that it believes to be running."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking)
    tags = {"run_id": study, "config_id": f"{study}/configurations"}
    counts: dict[str, Counter[str]] = {tag: Counter() for tag in tags}
    running = []
    for tag, name in tags.items():
        experiment = client.get_experiment_by_name(name)
        token = None
        while experiment is not None and token != "":
            page = client.search_runs([experiment.experiment_id], max_results=1000, page_token=token)
            counts[tag].update(run.data.tags[tag] for run in page)
            running += [run.data.tags[tag] for run in page if run.info.status == "RUNNING"]
            token = page.token or ""
    found = {
        "is not in MLflow": [key for tag in tags for key in dict.fromkeys(runs[tag]) if key not in counts[tag]],
        "is in MLflow more than once": [key for tag in tags for key, count in counts[tag].items() if count > 1],
        "has ended and is RUNNING in MLflow": sorted(set(running) & set(runs["run_id"])),
    }
    return [f"{_named(keys)} {what}" for what, keys in found.items() if keys]


def _named(keys: Iterable[object]) -> str:
    listed = [" step ".join(map(str, key)) if isinstance(key, tuple) else str(key) for key in keys]
    more = f" and {len(listed) - NAMED} more" if len(listed) > NAMED else ""
    return ", ".join(listed[:NAMED]) + more
