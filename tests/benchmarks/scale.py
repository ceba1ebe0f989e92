"""A study of thousands of ended runs: how long a launch, a status and a reader take, and what lies in its folder.

python -m tests.benchmarks scale --runs 10000 --rounds 3

The runs are made up, 6 evaluations each; records, tables, plan and study file are written by the sweep's own code.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from sweep.results import study_file
from sweep.results.folder import StudyFolder
from sweep.results.plan_file import extend_plan
from sweep.results.schema import evaluation_rows
from sweep.results.tables import Tables
from sweep.results.work.run_folder import BEST
from sweep.search.plan import plan_runs
from sweep.settings.compose import load_settings
from tests.benchmarks.measuring import Options, Row
from tests.made_up import digits_sha256, made_up_row
from tests.places import local
from wae_core.evaluation.selection import Evaluation
from wae_core.names import PICTURES
from wae_core.run import ALGORITHMS, Run

ROOT = Path(__file__).parents[2]
SEEDS = 3
RECORDS_PER_COMPACTION = 200
LAUNCH_SECONDS, READ_SECONDS = 10.0, 2.0  # at 10,000 runs


def measure(options: Options, say: Callable[[str], None]) -> list[Row]:
    """Make the study, then launch and read it again and again."""
    with tempfile.TemporaryDirectory(prefix="bigwae-scale-") as name:
        budget = SEEDS * -(-options.runs // (SEEDS * len(ALGORITHMS)))
        words = ["alg=all", f"budget={budget}", f"results={name}"]
        began = time.perf_counter()
        folder, count = _make_study(words)
        made = (time.perf_counter() - began) / count
        say(f"{count} runs made")
        first, first_said = _command("sweep", *words)
        say(f"launched without mlflow.db: {first_said}")
        launches, launch_said = zip(*(_command("sweep", *words) for _ in range(options.rounds)), strict=True)
        say(f"launched with mlflow.db: {launch_said[-1]}")
        statuses = [_command("sweep.command", "status", "--results", name)[0] for _ in range(options.rounds)]
        root = local(folder.root)
        reads = {table: [_read_seconds(root / table) for _ in range(5)] for table in ("runs", "evaluations")}
        rows = len(pd.read_parquet(root / "evaluations"))
        entries = Counter(path.parent.relative_to(root) for path in root.rglob("*"))
        most = {str(path): number for path, number in entries.most_common(3)}
        return [
            Row(f"launch of {count} ended runs", tuple(launches), "s", at_most=LAUNCH_SECONDS, note=launch_said[-1]),
            Row("the same without mlflow.db", (first,), "s", note=first_said),
            Row("status", tuple(statuses), "s", at_most=LAUNCH_SECONDS),
            Row("pd.read_parquet of runs", tuple(reads["runs"]), "s", at_most=READ_SECONDS),
            Row(f"pd.read_parquet of {rows} evaluations", tuple(reads["evaluations"]), "s", at_most=READ_SECONDS),
            Row("files in records/", (float(entries[Path("records")]),), "", at_most=0.0, note=f"entries: {most}"),
            Row("making one run's rows, with publish and compact", (1000 * made,), "ms"),
        ]


def _make_study(words: Sequence[str]) -> tuple[StudyFolder, int]:
    """A finished study, as launches leave it; returns its folder and its number of runs."""
    settings = load_settings(words)
    folder = StudyFolder(settings.results, settings.study.name)
    folder.records.mkdir(parents=True)
    study_file.claim(folder, settings.study, settings.failures, None, digits_sha256())
    runs = [run for algorithm in ALGORITHMS for run in plan_runs(settings.study, algorithm, settings.budget)]
    extend_plan(folder, runs)
    tables, draw = Tables(folder), random.Random(0)
    for number, run in enumerate(runs, start=1):
        _publish(folder, run, draw)
        if number % RECORDS_PER_COMPACTION == 0 or number == len(runs):
            tables.compact()
    return folder, len(runs)


def _publish(folder: StudyFolder, run: Run, draw: random.Random) -> None:
    evaluations = [
        Evaluation(step, *(draw.random() for _ in range(8))) for step in run.protocol.evaluation_steps
    ]  # fmt: skip
    row = made_up_row(run, evaluations, confirmed_fid=draw.random(), fid_infinity=draw.random())
    work = local(folder.work(run.run_id))
    work.mkdir(parents=True)
    for name in (BEST, "best.json", *(f"{picture}.png" for picture in PICTURES)):
        (work / name).write_bytes(b"made up")
    assert folder.publish(row, evaluation_rows(run, evaluations))


def _command(module: str, *words: str) -> tuple[float, str]:
    """Seconds of `python -m module words`, and what it said of MLflow."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", module, *words], cwd=ROOT, capture_output=True, text=True)
    took = time.perf_counter() - began
    assert done.returncode == 0, done.stderr
    assert module != "sweep" or "nothing to train" in done.stdout, done.stdout
    return took, " ".join(line for line in done.stdout.splitlines() if "MLflow is" in line) or "MLflow has all"


def _read_seconds(path: Path) -> float:
    began = time.perf_counter()
    pd.read_parquet(path)
    return time.perf_counter() - began
