"""A study of thousands of ended runs: how long a launch, a status and a reader take, and what it costs its driver.

python -m tests.benchmarks scale --runs 10000 --rounds 3

The runs are made up, 6 evaluations each; records, tables, plan and study file are written by the sweep's own code.
What a driver does while a sweep goes on is given in seconds of CPU time: compared at two sizes, they show what grows.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from sweep.reports.cost import cost_model
from sweep.results import study_file
from sweep.results.folder import StudyFolder
from sweep.results.plan_file import PlanFile
from sweep.results.schema import evaluation_rows
from sweep.results.tables import HeldFolder, Tables
from sweep.results.work.run_folder import BEST
from sweep.running.packs import pack_runs
from sweep.search.asha import rungs_of
from sweep.search.plan import RandomProposals, plan_runs
from sweep.search.schedule import Schedule, Standing
from sweep.settings.compose import load_settings
from sweep.tracking.mirror import default_uri
from sweep.tracking.mlflow_study import MlflowStudy
from tests.benchmarks.measuring import Options, Row
from tests.made_up import digits_sha256, made_up_row
from tests.places import local
from wae_core.evaluation.selection import Evaluation
from wae_core.names import PICTURES
from wae_core.networks import ARCHITECTURES
from wae_core.run import ALGORITHMS, Run
from wae_core.training.throughput import Packing

ROOT = Path(__file__).parents[2]
SEEDS = 3
RECORDS_PER_COMPACTION = 2000
NEW = 60  # runs that end between two rewritings of the tables
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
        driver = _driver(name, budget, options.rounds)
        entries = Counter(path.parent.relative_to(root) for path in root.rglob("*"))
        most = {str(path): number for path, number in entries.most_common(3)}
        return [
            Row(f"launch of {count} ended runs", tuple(launches), "s", at_most=LAUNCH_SECONDS, note=launch_said[-1]),
            Row("the same without mlflow.db", (first,), "s", note=first_said),
            Row("status", tuple(statuses), "s", at_most=LAUNCH_SECONDS),
            Row("pd.read_parquet of runs", tuple(reads["runs"]), "s", at_most=READ_SECONDS),
            Row(f"pd.read_parquet of {rows} evaluations", tuple(reads["evaluations"]), "s", at_most=READ_SECONDS),
            *(Row(what, tuple(values), "s of CPU") for what, values in driver.items()),
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
    PlanFile(folder).extend(runs)
    tables, draw = Tables(folder), random.Random(0)
    for number, run in enumerate(runs, start=1):
        _publish(folder, run, draw)
        if number % RECORDS_PER_COMPACTION == 0 or number == len(runs):
            tables.compact()
    return folder, len(runs)


def _driver(results: str, budget: int, rounds: int) -> dict[str, list[float]]:
    """CPU seconds of what a driver does at this size: once at its launch, and again and again afterwards."""
    settings = load_settings(["alg=all", f"budget={budget + rounds * NEW}", f"results={results}", "scheduler=none"])
    study, folder = settings.study, StudyFolder(settings.results, settings.study.name)
    tables, plan, draw = Tables(folder), PlanFile(folder), random.Random(1)
    seconds: defaultdict[str, list[float]] = defaultdict(list)

    def timed(what: str, work: Callable[[], object]) -> None:
        began = time.process_time()
        work()
        seconds[what].append(time.process_time() - began)

    known = tables.run_ids()
    drawn = [run for algorithm in ALGORITHMS for run in plan_runs(study, algorithm, settings.budget)]
    ended, new = ([run for run in drawn if (run.run_id in known) == is_known] for is_known in (True, False))
    draw.shuffle(new)  # of all algorithms, as they end
    with closing(MlflowStudy(default_uri(settings.results), HeldFolder(folder, tables), study.name)) as mlflow:
        for number in range(rounds):
            block = new[NEW * number : NEW * (number + 1)]
            timed("to plan three runs more", partial(plan.extend, block[:3]))
            plan.extend(block)
            for run in block:
                _publish(folder, run, draw)
            ids = [run.run_id for run in block], [run.config_id for run in block]
            timed(f"to find what MLflow lacks of {NEW} ended runs", partial(mlflow.missing, *ids))
            timed(f"to take {NEW} records into the tables", tables.compact)
            cost, rows = cost_model(settings, []), tables.rows()
            timed("once: to learn from all rows what runs cost", partial(cost.learn_all, rows))
            pack = partial(pack_runs, seconds=cost.seconds, packings=dict.fromkeys(ARCHITECTURES, Packing(1)))
            timed("once: to order all runs by what they cost", partial(pack, ended))
            asha = replace(study, asha=3.0)
            standing = {run: Standing(rungs_of(asha)[0], {rungs_of(asha)[0]: draw.random()}) for run in ended}
            open_schedule = partial(
                Schedule,
                asha,
                ALGORITHMS,
                budget,
                RandomProposals(asha),
                ended,
                standing.__getitem__,
                pack,
                plan.extend,
            )
            timed("once: to decide with asha on all that is at a rung", open_schedule)
    return seconds


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
