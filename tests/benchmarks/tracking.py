"""Part `tracking`: what the MLflow mirror takes at full speed, by what it writes to, and what it costs who feeds it.

SQLite beside the results, as without `tracking=`; MLflow's server before SQLite and before PostgreSQL; PostgreSQL
directly; all on loopback. EVALUATIONS of each run are written one by one, as they come from workers, and then its
end, with its pictures and its configuration. Then sweeps of models that do nothing, through Tune, beside the mirror.

python -m tests.benchmarks tracking --runs 200 --rounds 5
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from sweep.results.folder import StudyFolder
from sweep.results.schema import evaluation_rows
from sweep.search.plan import plan_runs
from sweep.settings.compose import load_settings
from sweep.tracking import mirror
from sweep.tracking.entry import Entry
from sweep.tracking.mirror import default_uri, open_mlflow
from sweep.tracking.mlflow_study import MlflowStudy
from tests.benchmarks.measuring import Options, Row, ratios
from tests.benchmarks.orchestration import local_session, ours_block
from tests.chaos.faulty_proxy import faulty_proxy
from tests.chaos.mlflow_server import MlflowServer, mlflow_server
from tests.chaos.postgres_server import PostgresServer, missing, postgres_server
from tests.made_up import made_up_row
from wae_core.evaluation.selection import Evaluation
from wae_core.names import PICTURES
from wae_core.run import Run

EVALUATIONS = 20  # of a run, as in the paper's study
PICTURE_BYTES = 50_000
RUNS = 20  # of a block
COUNTED = 5  # runs whose requests are counted
SERVER, STOPPED = "server, PostgreSQL", "server, PostgreSQL, stopped meanwhile"


@dataclass(frozen=True)
class Block:
    """Seconds, of wall and of this process's CPU, for an evaluation, and for a run's end with its configuration."""

    evaluation: float
    evaluation_cpu: float
    end: float
    end_cpu: float

    @property
    def run_cpu(self) -> float:
        """Seconds of CPU for a whole run."""
        return EVALUATIONS * self.evaluation_cpu + self.end_cpu


@dataclass(frozen=True)
class Made:
    """A study that nobody has trained: its folder has a record and pictures for each run."""

    folder: StudyFolder
    runs: list[Run]
    evaluations: list[Evaluation]

    @classmethod
    def of(cls, results: Path, study: str, count: int) -> Made:
        """Publish `count` runs of a configuration each."""
        settings = load_settings(["alg=wae-mmd", f"budget={count}", "study.seeds=1", f"results={results}"])
        runs = [replace(run, study=study) for run in plan_runs(settings.study, "wae-mmd", count)]
        evaluations = [Evaluation(step, *[float(step)] * 8) for step in range(1, EVALUATIONS + 1)]
        folder = StudyFolder(results, study)
        folder.records.mkdir(parents=True)
        for run in runs:
            (results / study / "work" / run.run_id).mkdir(parents=True)
            for name in PICTURES:
                (results / study / "work" / run.run_id / f"{name}.png").write_bytes(os.urandom(PICTURE_BYTES))
            assert folder.publish(made_up_row(run, evaluations), evaluation_rows(run, evaluations))
        return cls(folder, runs, evaluations)


def measure(options: Options, say: Callable[[str], None]) -> list[Row]:
    if missing():
        raise SystemExit(f"error: {missing()}")
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(_flushing_at_once())
        postgres = stack.enter_context(postgres_server())
        before_sqlite = stack.enter_context(mlflow_server(f"sqlite:///{scratch}/server.db", f"{scratch}/one"))
        before_postgres = stack.enter_context(mlflow_server(postgres.uri, f"{scratch}/two"))
        kinds = {
            "SQLite": default_uri(scratch),
            "server, SQLite": before_sqlite.address,
            SERVER: before_postgres.address,
            "PostgreSQL": _new_database(postgres),
        }
        blocks: dict[str, list[Block]] = {name: [] for name in kinds}
        for number in range(options.rounds + 1):  # the first makes tables and imports, and is left out
            for kind, (name, uri) in enumerate(kinds.items()):
                block = _block(uri, Made.of(scratch, f"round{number}-{kind}", RUNS if number else COUNTED))
                say(f"{name}: {1000 * block.evaluation:.1f} ms an evaluation, {1000 * block.end:.1f} ms an end")
                if number:
                    blocks[name].append(block)
        counts = _requests(before_postgres.address, Made.of(scratch, "counted", COUNTED))
        return [*_speed(blocks, counts), *_sweeps(kinds, before_postgres, scratch, options, say)]


def _speed(blocks: Mapping[str, list[Block]], counts: tuple[float, float]) -> list[Row]:
    rows = []
    base = [block.run_cpu for block in blocks["SQLite"]]
    for name, own in blocks.items():
        evaluations, ends = [block.evaluation for block in own], [block.end for block in own]
        note = f"{1 / median(evaluations):,.0f} a second"
        rows.append(Row(f"{name}: an evaluation", tuple(1000 * one for one in evaluations), "ms", note=note))
        per_run = EVALUATIONS * median(evaluations) + median(ends)
        note = f"{1 / per_run:,.1f} runs a second, their {EVALUATIONS} evaluations included"
        if "server" in name:
            note += f"; {(EVALUATIONS * counts[0] + counts[1]) / per_run:,.0f} requests a second"
        rows.append(Row(f"{name}: a run's end", tuple(1000 * one for one in ends), "ms", note=note))
        cpu = [block.run_cpu for block in own]
        what = f"{name} / SQLite: the driver's CPU for a run"
        rows.append(Row(what, ratios(cpu, base), "×", note=f"{1000 * median(cpu):,.0f} ms"))
    rows.append(Row("requests to a server: an evaluation", counts[:1], ""))
    rows.append(Row("requests to a server: a run's end, its pictures and configuration", counts[1:], ""))
    return rows


def _sweeps(
    kinds: Mapping[str, str],
    server: MlflowServer,
    scratch: Path,
    options: Options,
    say: Callable[[str], None],
) -> list[Row]:
    """What a run takes a sweep whose models do nothing, so that the mirror is never done, against SQLite's."""
    kinds = {name: kinds[name] for name in ("SQLite", SERVER)} | {STOPPED: kinds[SERVER]}
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    with local_session(scratch, say) as executor:
        for number in range(options.rounds + 1):  # the first starts the workers, and is left out
            for turn in range(len(kinds)):
                name = [*kinds][(number + turn) % len(kinds)]  # each comes first once, so that no place is the best
                folder = scratch / f"sweep{number}-{turn}"
                folder.mkdir()
                tracking = None if name == "SQLite" else kinds[name]
                meanwhile = _stopped(server) if name == STOPPED else None
                block = ours_block(folder, options.runs, executor, None, tracking, meanwhile)
                say(f"{name}: {1000 * block.swept:.1f} ms a run, {1000 * block.mirrored:.1f} ms with its mirror")
                if number:
                    taken[name].append(block.swept)
    return [
        Row(
            f"a sweep of {options.runs} runs that do nothing, {name} / SQLite: wall time until the last has ended",
            ratios(own, taken["SQLite"]),
            "×",
            note=f"{1000 * median(own):.1f} ms a run",
        )
        for name, own in taken.items()
    ]


@contextlib.contextmanager
def _stopped(server: MlflowServer) -> Iterator[None]:
    """SIGSTOP to all of MLflow's server."""
    assert server.pid is not None
    os.killpg(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(server.pid, signal.SIGCONT)


def _block(uri: str, made: Made) -> Block:
    with closing(open_mlflow(uri, made.folder, made.folder.root.name)) as mlflow:
        evaluations = _timed(partial(_write_evaluations, mlflow, made))
        ends = _timed(partial(_write_ends, mlflow, made))
    runs = len(made.runs)
    return Block(*(one / runs / EVALUATIONS for one in evaluations), *(one / runs for one in ends))


def _requests(address: str, made: Made) -> tuple[float, float]:
    """The requests of an evaluation, and of a run's end with its configuration, counted at a proxy."""
    port, runs = urlsplit(address).port, len(made.runs)
    assert port is not None
    with (
        faulty_proxy(port) as (proxy, own_port),
        closing(open_mlflow(f"http://127.0.0.1:{own_port}", made.folder, made.folder.root.name)) as mlflow,
    ):
        counted = [len(proxy.requests)]
        for write in (_write_evaluations, _write_ends):
            write(mlflow, made)
            counted.append(len(proxy.requests))
    return (counted[1] - counted[0]) / runs / EVALUATIONS, (counted[2] - counted[1]) / runs


def _timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds, of wall and of this process's CPU."""
    began = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began[0], time.process_time() - began[1]


def _write_evaluations(mlflow: MlflowStudy, made: Made) -> None:
    for run in made.runs:
        for evaluation in made.evaluations:
            mlflow.write(Entry.of_run(run, [evaluation]))


def _write_ends(mlflow: MlflowStudy, made: Made) -> None:
    missing = mlflow.missing([run.run_id for run in made.runs], [run.config_id for run in made.runs])
    assert len(missing) == 2 * len(made.runs)
    for entry in missing:
        mlflow.write(entry)


def _new_database(postgres: PostgresServer) -> str:
    import psycopg

    with psycopg.connect(postgres.uri, autocommit=True) as connection:
        connection.execute("CREATE DATABASE direct")
    return postgres.uri.rpartition("/")[0] + "/direct"


@contextlib.contextmanager
def _flushing_at_once() -> Iterator[None]:
    """Let the mirror write without the pauses in which it gathers what comes."""
    before = mirror.FLUSH_SECONDS
    mirror.FLUSH_SECONDS = 0.05
    try:
        yield
    finally:
        mirror.FLUSH_SECONDS = before
