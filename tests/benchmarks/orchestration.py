"""Part `orchestration`: what a run costs beside its training, against plain Ray Tune and against Tune with MLflow.

Ours is the sweep's own path with a model that does nothing: the pack searcher, a worker process, a record published
for each run, the tables, the MLflow mirror. Only training and evaluation are left out.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import os
import tempfile
import time
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rich.console import Console

from sweep.events import Ended, Event, GivenUp, Task, WorkerContext
from sweep.reports.cost import CostModel
from sweep.reports.progress_display import ProgressDisplay
from sweep.results.compaction import TableKeeper
from sweep.results.folder import StudyFolder
from sweep.results.nodes.book import NodeBook
from sweep.results.schema import COMPLETED, SCHEMA_VERSION, EvaluationRow, RunRow
from sweep.results.tables import HeldFolder, Tables
from sweep.running.connection.session import session
from sweep.running.executor import Executor, Work
from sweep.running.tune import tune  # type: ignore[attr-defined]  # imported after Ray's settings are made
from sweep.search.fixed_plan import FixedPlan
from sweep.search.plan import plan_runs
from sweep.settings.compose import load_settings
from sweep.tracking.mirror import Mirror, default_uri
from tests.benchmarks.measuring import Options, Row, ratios
from wae_core.data.images import image_shape
from wae_core.run import Run

FUNCTION_TRIALS = 20  # each takes seconds
SHORT_BLOCK = 500
LONGEST_WAIT = 3600.0  # for the mirror, seconds


class PlainTrainable(tune.Trainable):
    """The least that Tune asks for."""

    def step(self) -> dict[str, Any]:
        return {"fid": 1.0, "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True


@dataclass(frozen=True)
class Block:
    """One block's figures, per run.

    Attributes:
        swept: seconds of wall time.
        mirrored: the same, the mirror's included.
        cpu: seconds of CPU time of driver and workers.
        driver: of the driver alone.
        growth: bytes of the driver's memory.
    """

    swept: float
    mirrored: float
    cpu: float
    driver: float
    growth: float


def measure(options: Options, say: Callable[[str], None]) -> list[Row]:
    short = min(SHORT_BLOCK, options.runs)
    with tempfile.TemporaryDirectory() as scratch:
        counter = iter(range(10**6))

        def block(kind: Callable[[Path, int], Block], runs: int) -> Block:
            folder = Path(scratch) / str(next(counter))
            folder.mkdir()
            found = kind(folder, runs)
            milliseconds = [round(1000 * one, 1) for one in (found.swept, found.mirrored, found.cpu)]
            say(f"{kind.__name__.strip('_')}: {runs} runs; ms a run, mirrored, of CPU: {milliseconds}")
            return found

        with local_session(Path(scratch), say) as executor:

            def ours(folder: Path, runs: int) -> Block:
                return ours_block(folder, runs, executor)

            for kind in (ours, _plain):  # starts the workers, imports MLflow
                block(kind, min(50, short))
            # The long blocks first: the memory that earlier blocks freed would hide what they take.
            long = {kind: block(kind, options.runs) for kind in (ours, _plain)}
            blocks: dict[Any, list[Block]] = {ours: [], _plain: []}
            for _ in range(options.rounds if short < options.runs else 0):
                for kind, found in blocks.items():
                    found.append(block(kind, short))
            trials = min(FUNCTION_TRIALS, options.runs // 20)
            today = block(_function_with_mlflow, trials) if trials else None
    mine, plain = long[ours], long[_plain]
    rows = [
        Row(
            f"{options.runs:,} runs: a run, tables included",
            (1000 * mine.swept,),
            "ms",
            at_most=30,
            note=f"{1000 * mine.cpu:.1f} ms of CPU, the mirror's included",
        ),
        Row(f"{options.runs:,} runs: a run, MLflow mirror included", (1000 * mine.mirrored,), "ms", at_most=50),
        Row(f"{options.runs:,} runs: driver's memory, a run", (mine.growth / 1000,), "kB", at_most=40),
        Row(
            f"{options.runs:,} runs: ours / plain Tune, reuse_actors",
            (mine.swept / plain.swept,),
            "×",
            at_most=1.5,
            note=f"plain: {1000 * plain.swept:.1f} ms a run, {1000 * plain.cpu:.1f} ms of CPU",
        ),
    ]
    if blocks[ours]:
        swept = [[one.swept for one in blocks[kind]] for kind in (ours, _plain)]
        note = f"ours {1000 * median(swept[0]):.1f} ms, plain {1000 * median(swept[1]):.1f} ms"
        what = f"blocks of {short} runs: ours / plain Tune, reuse_actors"
        rows.append(Row(what, ratios(*swept), "×", at_most=1.5, note=note))
    if today is not None:
        note = f"{1000 * today.swept:.0f} ms a run, measured on {trials} runs alone"
        what = "Tune's default (function trainable, MLflow callback) / ours"
        rows.append(Row(what, (today.swept / mine.mirrored,), "×", note=note))
    return rows


def local_session(folder: Path, say: Callable[[str], None]) -> AbstractContextManager[Executor]:
    """Ray and workers on this machine."""
    settings, book = load_settings([]), NodeBook(folder / "nodes.json")
    return session(settings.cluster, _context(folder), settings.study.protocol, book, say)


def _context(results: Path) -> WorkerContext:
    return WorkerContext(
        results=results,
        data=results,
        data_sha256="none",
        inception=None,
        device="cpu",
        git_commit="unknown",
        checkpoint_steps=1000,
    )


def ours_block(
    results: Path,
    count: int,
    executor: Executor,
    work: Work | None = None,
    tracking: str | None = None,
    meanwhile: AbstractContextManager[None] | None = None,
) -> Block:
    """The sweep's path from packs to tables and mirror, with what `sweep.launch` puts around it.

    Args:
        work: what is done in the place of training; None publishes records alone.
        tracking: MLflow's URI; None is a database in the results.
        meanwhile: entered when MLflow is open, left when all runs have ended.
    """
    own = ["study.seeds=1", f"study.name=bench-{results.name}", f"results={results}"]  # a server may have them all
    settings = load_settings(["alg=wae-mmd", f"budget={count}", *own])
    runs = plan_runs(settings.study, "wae-mmd", count)
    folder = StudyFolder(results, settings.study.name)
    folder.records.mkdir(parents=True)
    context = _context(results)
    tables = Tables(folder)
    problems: list[str] = []
    tracking = tracking or default_uri(results)
    mirror = Mirror(tracking, HeldFolder(folder, tables), settings.study.name, problems.append)
    mirror.start()
    assert mirror.wait_ready(LONGEST_WAIT), problems
    cost = CostModel(settings.study, image_shape(settings.study.protocol.dataset), settings.cluster)
    search = FixedPlan(runs, set(), lambda runs: [Task((run,)) for run in runs])
    display = ProgressDisplay(Console(file=io.StringIO()), runs, [], cost)
    memory: list[int] = []

    def on_event(event: Event) -> None:
        for observer in (search, cost, display, mirror):
            observer.note(event)
        if isinstance(event, Ended):
            memory.append(psutil.Process().memory_info().rss)
        assert not isinstance(event, GivenUp), f"the worker of {event.run.run_id} died"

    meter = _Meter()
    keeper = TableKeeper(folder, tables, None, lambda: None, problems.append)
    with meanwhile or contextlib.nullcontext(), keeper, display:
        executor.train(search, context, settings.failures, on_event, work or publish)
    swept = meter.wall()
    behind = mirror.close(LONGEST_WAIT)
    mirrored = meter.wall()
    assert behind is None and (meanwhile or not problems), (behind, problems)
    assert len(tables.run_ids()) == len(memory) == count
    tenth = count // 10  # by then the first imports and caches are there
    growth = (memory[-1] - memory[tenth]) / (count - tenth)
    return Block(swept / count, mirrored / count, meter.cpu() / count, meter.driver() / count, growth)


def publish(task: Task, context: WorkerContext) -> Iterator[Event]:
    """A real record for each run of the task, of one evaluation, and its row as the event."""
    for run in task.runs:
        evaluation = EvaluationRow(**_filled(EvaluationRow) | _coordinates(run, EvaluationRow))
        own = {"study": run.study, "run_id": run.run_id, "config_id": run.config_id, "status": COMPLETED}
        known = _filled(RunRow) | _coordinates(run, RunRow) | asdict(run.hyperparameters)
        row = RunRow(**known | own | {"schema_version": SCHEMA_VERSION})
        assert StudyFolder(context.results, run.study).publish(row, [evaluation])
        yield Ended(run, row)


def _coordinates(run: Run, row: type) -> dict[str, Any]:
    names = {field.name for field in fields(row)} & {"run_id", "algorithm", "config_index", "seed"}
    return {name: getattr(run, name) for name in names}


def _filled(row: type) -> dict[str, Any]:
    """A value of its type for each column, since nothing was measured."""
    values = {int: 1, float: 1.0, str: "no-op", datetime: datetime.now(UTC)}
    return {name: values[column_type] for name, column_type in _column_types(row).items()}


@functools.cache
def _column_types(row: type) -> dict[str, type]:
    hints = typing.get_type_hints(row)
    return {
        name: typing.get_args(hint)[0] if isinstance(hint, types.UnionType) else hint for name, hint in hints.items()
    }


def _plain(results: Path, count: int) -> Block:
    """Plain Tune with reused actors; its loggers, snapshots and checkpoints are off as in ours, which favours it."""
    return _tuner(
        results,
        count,
        tune.with_resources(PlainTrainable, {"CPU": 1}),
        tune.TuneConfig(num_samples=count, reuse_actors=True),
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
    )


def _function_with_mlflow(results: Path, count: int) -> Block:
    """What Tune's documentation shows: a function that reports, Tune's own loggers, the MLflow callback."""
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    mlflow = MLflowLoggerCallback(tracking_uri=default_uri(results), experiment_name="bench")
    switch = os.environ.pop("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS")
    try:
        return _tuner(results, count, _report_once, tune.TuneConfig(num_samples=count), callbacks=[mlflow])
    finally:
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = switch


def _report_once(config: dict[str, Any]) -> None:
    tune.report({"fid": 1.0})


def _tuner(results: Path, count: int, trainable: Any, tune_config: tune.TuneConfig, **run_config: Any) -> Block:
    memory = psutil.Process().memory_info().rss
    meter = _Meter()
    found = tune.Tuner(
        trainable,
        param_space={"learning_rate": tune.loguniform(1e-4, 1e-2)},
        tune_config=tune_config,
        run_config=tune.RunConfig(storage_path=str(results), verbose=0, **run_config),
    ).fit()
    swept = meter.wall()
    assert len(found) == count and found.num_errors == 0
    growth = psutil.Process().memory_info().rss - memory
    return Block(swept / count, swept / count, meter.cpu() / count, meter.driver() / count, growth / count)


class _Meter:
    """Wall time, and the CPU time of this process and all below it, since it was made."""

    def __init__(self) -> None:
        gc.collect()
        self._began, self._cpu, self._driver = time.perf_counter(), _cpu_seconds(), time.process_time()

    def wall(self) -> float:
        return time.perf_counter() - self._began

    def cpu(self) -> float:
        return _cpu_seconds() - self._cpu

    def driver(self) -> float:
        return time.process_time() - self._driver


def _cpu_seconds() -> float:
    """The ended ones are in their parents' `children`."""
    this = psutil.Process()
    total = 0.0
    for process in [this, *this.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total
