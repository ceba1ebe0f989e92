"""A study whose truth is known, written through the sweep's own row writer: what an analysis must find in it.

log FID = base of the algorithm + 2·(u − 0.4)² of the learning rate's place u in its range + 0.2 of the latent
dimension's + a step for small batches + the configuration's own noise + the seed's. WAE-MMD's λ is best at its low
end. Above 0.9 of the learning rate's range every second run diverges. All else has no influence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.console import Console

from analysis.sensitivity import place_in_range
from search_spaces import SearchSpace
from sweep.results import study_file
from sweep.results.folder import TABLES, StudyFolder
from sweep.results.parquet import write_table
from sweep.results.plan_file import PlanFile
from sweep.results.schema import COMPLETED, DIVERGED, EvaluationRow, RunRow, evaluation_rows
from sweep.results.tables import Tables
from sweep.search.confirmation import confirming, pick
from sweep.search.plan import plan_runs
from sweep.settings.settings import FailurePolicy, Settings, Study
from tests.made_up import digits_sha256, made_up_row
from wae_core.evaluation.selection import Evaluation
from wae_core.run import Run
from wae_core.storage.files import Location

BASES = {"wae-gan": math.log(100), "wae-mmd": math.log(120), "vae": math.log(150)}  # the planted order
CONFIGURATION, SEED = 0.15, 0.08  # standard deviations of log FID
CONFIRMED = 0.04  # by how much the kept checkpoint is worse on fresh samples
TOO_FAST = 0.9  # of the learning rate's range


def place(run: Run, name: str, space: SearchSpace) -> float:
    """Where the run's value of a hyperparameter lies in its range."""
    (line,) = [line for line in space.hyperparameters if line.name == name and run.algorithm in line.algorithms]
    return place_in_range(getattr(run.hyperparameters, name), line.distribution)


def true_log_fid(run: Run, space: SearchSpace, seed: int) -> float:
    """The mean of log FID over the seeds of the run's configuration, its own noise included."""
    value = BASES[run.algorithm] + 2 * (place(run, "learning_rate", space) - 0.4) ** 2
    value += 0.2 * place(run, "latent_dim", space) + 0.3 * (run.hyperparameters.batch_size == 16)
    if run.algorithm == "wae-mmd":
        value += 4 * place(run, "wae_lambda", space)
    noise = np.random.default_rng([seed, *run.config_id.encode()])
    return float(value + CONFIGURATION * noise.standard_normal())


def results_of(study: Study, algorithms: Sequence[str], budget: int) -> Iterator[tuple[RunRow, list[EvaluationRow]]]:
    """The rows of a study's runs, and their evaluations."""
    for algorithm in algorithms:
        for run in plan_runs(study, algorithm, budget):
            yield _result(study, run)


def write(results: Path, study: Study, algorithms: Sequence[str], budget: int) -> StudyFolder:
    """Write the study as launches leave it."""
    runs = [run for algorithm in algorithms for run in plan_runs(study, algorithm, budget)]
    return _write(results, study, runs)


def write_confirmation(settings: Settings) -> list[Run]:
    """Write the confirmation of a study that is there, as launches leave it; returns its runs."""
    confirmation = confirming(settings)
    assert confirmation is not None
    folder = StudyFolder(settings.results, settings.study.name)
    rows = [RunRow(**row) for row in folder.read_table("runs").to_pylist()]
    runs = [run for name in settings.algorithms for run in plan_runs(settings.study, name, settings.budget)]
    picked = pick(settings.study, confirmation, runs, rows, Console(quiet=True))
    _write(settings.results, confirmation.study, picked)
    return picked


def _write(results: str | Location, study: Study, runs: Sequence[Run]) -> StudyFolder:
    folder = StudyFolder(results, study.name)
    folder.records.mkdir(parents=True)
    policy = FailurePolicy(tries=3, worker_deaths=5)
    study_file.claim(folder, study, policy, (1, 28, 28), digits_sha256())
    PlanFile(folder).extend(runs)
    Tables(folder)
    # At once: a record of each run, which a compaction reads again, takes four times as long.
    for algorithm in {run.algorithm for run in runs}:
        found = [_result(study, run) for run in runs if run.algorithm == algorithm]
        rows = {
            "runs": [asdict(row) for row, _ in found],
            "evaluations": [asdict(each) for _, own in found for each in own],
        }
        for name, layout in TABLES.items():
            write_table(folder.table_file(name, algorithm), pa.Table.from_pylist(rows[name], schema=layout.schema))
    return folder


def _result(study: Study, run: Run) -> tuple[RunRow, list[EvaluationRow]]:
    noise = np.random.default_rng([study.seed, run.seed, *study.name.encode(), *run.config_id.encode(), 1])
    best = math.exp(true_log_fid(run, study.space, study.seed) + SEED * noise.standard_normal())
    too_fast = place(run, "learning_rate", study.space) > TOO_FAST
    is_diverged = bool(too_fast and noise.random() < 0.5)
    steps = run.protocol.evaluation_steps
    done = steps[: len(steps) // 2] if is_diverged else steps
    fids = best * (1 + 2 * (1 - np.arange(1, len(done) + 1) / len(steps)))
    evaluations = [
        Evaluation(step, float(fid), 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.01 * step)
        for step, fid in zip(done, fids, strict=True)
    ]
    flattery = 1 - CONFIRMED + 0.01 * noise.standard_normal()
    row = made_up_row(
        run,
        evaluations,
        DIVERGED if is_diverged else COMPLETED,
        confirmed_fid=evaluations[-1].fid / flattery,
        train_seconds=1.0,
        eval_seconds=0.5,
        checkpoint_path=None,
    )
    return row, evaluation_rows(run, evaluations)
