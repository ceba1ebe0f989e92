"""Kill anything, any time, and compare with a quiet sweep; exit code 1 if a row differs (`make chaos`).

python -m tests.chaos                        a quiet sweep, then sweeps under 100 kills, about 30 minutes on 2 cores
python -m tests.chaos --kills 5 --budget 3   a quick look
python -m tests.chaos --storage s3           nodes that share nothing but an S3 server (moto's, on loopback)

Killed are, by SIGKILL: workers that train, whole nodes of a cluster that breathes (of one to three, one goes or one
comes), the raylet or the GCS of a sweep on one machine, and the whole session of the driver, which is then launched
again. Some drivers get SIGTERM, or are stopped for longer than a lease lasts. Between two blows the sweep makes a
checkpoint or a record. Every other sweep has Ray on one machine alone; the first one's results lie on a small disk of
their own, which is full for some seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console
from rich.table import Table

from sweep.reports.ledger import ledger_frame
from sweep.results.folder import StudyFolder, read_evaluations, read_runs
from tests.benchmarks.measuring import describe_machine
from tests.chaos.compare import violations
from tests.chaos.disk import fill, small_disk
from tests.chaos.killer import Blow, Killer, kill_worker, random_blows
from tests.chaos.nodes import RayNodes, ray_nodes
from tests.chaos.s3_server import s3_bucket
from tests.chaos.shaking import ChaosError, Sweep, run_to_the_end
from wae_core.run import ALGORITHMS

STUDY = "digits"
WEIGHTS = {
    "cluster": {"worker": 0.55, "node": 0.28, "driver": 0.10, "SIGTERM": 0.05, "SIGSTOP": 0.02},
    "one machine": {"worker": 0.60, "raylet": 0.10, "GCS": 0.10, "driver": 0.08, "SIGTERM": 0.10, "SIGSTOP": 0.02},
}
MEAN_PAUSE = 4.0  # seconds; then it waits for a checkpoint or a record
DEFAULT_KILLS = {"local": 100, "s3": 6}
DEFAULT_BUDGET = {"local": 15, "s3": 3}
SECONDS_BETWEEN_LINES = 20.0


@dataclass
class Tally:
    """What happened in all sweeps so far."""

    kills: Counter[str] = field(default_factory=Counter)
    sweeps: int = 0
    launches: int = 0
    rows: int = 0
    evaluations: int = 0
    redone: int = 0  # attempts beyond each run's first
    redone_steps: int = 0  # at least
    disk: str = "not filled"
    exits: list[str] = field(default_factory=list)  # of drivers that nobody had killed
    quiet_seconds: float = 0.0
    shaken_seconds: float = 0.0
    violations: list[str] = field(default_factory=list)


class Teller:
    """Says what goes on, with the seconds since the beginning."""

    def __init__(self, kills_wanted: int, rows_wanted: int) -> None:
        self._kills_wanted, self._rows_wanted = kills_wanted, rows_wanted
        self._began = self._last_line = time.monotonic()

    def say(self, words: str) -> None:
        self._last_line = time.monotonic()
        print(f"[{self._last_line - self._began:5.0f} s] {words}", file=sys.stderr, flush=True)

    def look(self, tally: Tally, killer: Killer, results: str, began: float, kind: str | None) -> None:
        """A line for each kill, and now and then one without; with an estimate of the time left."""
        if kind is None and time.monotonic() - self._last_line < SECONDS_BETWEEN_LINES:
            return
        kills = tally.kills.total() + killer.kills.total() - killer.kills["disk"]
        rows = _count_rows(results)
        now = time.monotonic()
        shaken = tally.shaken_seconds + now - began
        by_kills = shaken / kills * (self._kills_wanted - kills) if kills else 0.0
        by_rows = (now - began) / rows * (self._rows_wanted - rows) if rows else 0.0
        left = f", about {timedelta(seconds=round(max(by_kills, by_rows)))} left" if kills and rows else ""
        what = {None: "", "disk": "full disk; "}.get(kind, f"{kind}; ")
        self.say(
            f"{what}{kills} of {self._kills_wanted} kills, sweep {tally.sweeps + 1}: "
            f"{rows} of {self._rows_wanted} rows{left}"
        )


def main() -> int:
    arguments = _arguments()
    kills = DEFAULT_KILLS[arguments.storage] if arguments.kills is None else arguments.kills
    budget = DEFAULT_BUDGET[arguments.storage] if arguments.budget is None else arguments.budget
    folder = arguments.results.absolute() / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    folder.mkdir(parents=True)
    random, tally = Random(arguments.seed), Tally()
    teller = Teller(kills, len(ALGORITHMS) * (budget // 3 * 3))
    words = ["alg=all", f"budget={budget}", f"study={STUDY}", *arguments.words]
    try:
        tally.quiet_seconds = _quiet_sweep(folder, words, teller)
        with contextlib.ExitStack() as stack:
            bucket = stack.enter_context(s3_bucket()) if arguments.storage == "s3" else None
            nodes = stack.enter_context(ray_nodes())
            nodes.breathe(random)
            os.environ.update(nodes.environment)
            while tally.kills.total() < kills and not tally.violations:
                _shaken_sweep(folder, words, bucket, nodes, random, kills, tally, teller)
    except ChaosError as error:
        tally.violations.append(str(error))
    _report(tally, arguments, folder)
    return 1 if tally.violations else 0


def _quiet_sweep(folder: Path, words: Sequence[str], teller: Teller) -> float:
    teller.say(f"a quiet sweep; results and logs go to {folder}")
    began = time.monotonic()
    run_to_the_end(Sweep([*words, f"results={folder / 'quiet'}"], folder / "quiet.log"), str(folder / "quiet"))
    return time.monotonic() - began


def _shaken_sweep(
    folder: Path,
    words: Sequence[str],
    bucket: str | None,
    nodes: RayNodes,
    random: Random,
    kills_wanted: int,
    tally: Tally,
    teller: Teller,
) -> None:
    """One sweep under kills, compared with the quiet one at its end; the first one's disk is full for a while."""
    name, began = f"shaken-{tally.sweeps + 1}", time.monotonic()
    is_alone = not bucket and tally.sweeps % 2 == 0
    blows = random_blows(random, WEIGHTS["one machine" if is_alone else "cluster"], MEAN_PAUSE)
    if bucket:  # what this is about
        blows = itertools.chain([Blow("node")], blows)
    blows = itertools.islice(blows, kills_wanted - tally.kills.total())
    weapons: dict[str, Callable[[], bool]] = {
        "worker": partial(kill_worker, random),
        "node": partial(nodes.breathe, random),
    }
    with contextlib.ExitStack() as stack:
        results, database = str(folder / name), folder / name / "mlflow.db"
        if bucket:
            results, database = f"{bucket}/{name}", folder / f"{name}-mlflow.db"
            words = [*words, f"tracking=sqlite:///{database}"]
        elif tally.sweeps == 0:
            try:
                disk = stack.enter_context(small_disk(folder / name))
            except PermissionError as error:
                tally.disk = f"skipped: {error}"
            else:
                blows = itertools.chain([Blow("disk", pause=5.0)], blows)
                weapons["disk"] = partial(fill, disk)
        sweep = Sweep([*words, f"results={results}"], folder / f"{name}.log", ["RAY_ADDRESS"] if is_alone else [])
        weapons |= {
            "driver": sweep.kill,
            "raylet": partial(sweep.lose, "raylet"),
            "GCS": partial(sweep.lose, "gcs_server"),
            "SIGTERM": sweep.terminate,
            "SIGSTOP": partial(sweep.pause, has_lease=bucket is not None),
        }
        killer = Killer(results, blows, weapons)
        try:
            run_to_the_end(sweep, results, killer, partial(teller.look, tally, killer, results, began))
            found = violations(str(folder / "quiet"), results, STUDY, f"sqlite:///{database}")
            runs = read_runs(results, STUDY)
            tally.rows += len(runs)
            tally.redone += int((runs["attempts"] - 1).sum())
            tally.redone_steps += int(ledger_frame(StudyFolder(results, STUDY))["wasted_steps"].sum())
            tally.evaluations += len(read_evaluations(results, STUDY))
            # Only a full disk may end a driver that nobody has killed.
            found += [f"the driver ended with {end}" for end in sweep.exits if "no space left" not in end.lower()]
            tally.violations += [f"{name}: {sentence}" for sentence in found]
        finally:
            if killer.kills.pop("disk", 0):
                tally.disk = "full once"
            tally.kills += killer.kills
            tally.sweeps += 1
            tally.launches += sweep.launches
            tally.exits += sweep.exits
            tally.shaken_seconds += time.monotonic() - began
    teller.say(f"sweep {tally.sweeps} is complete: {len(found)} differences")


def _count_rows(results: str) -> int:
    try:
        return len(read_runs(results, STUDY))
    except FileNotFoundError:
        return 0


def _report(tally: Tally, arguments: argparse.Namespace, folder: Path) -> None:
    table = Table(title=f"chaos, seed {arguments.seed}, results on {arguments.storage}", title_justify="left")
    table.add_column("what")
    table.add_column("how much", justify="right")
    for what, value in (
        ("blows", f"{tally.kills.total()}: " + ", ".join(f"{count} {kind}" for kind, count in tally.kills.items())),
        ("disk", tally.disk),
        ("sweeps under kills", tally.sweeps),
        ("launches", tally.launches),
        ("rows compared", tally.rows),
        ("evaluations compared", tally.evaluations),
        ("attempts redone", tally.redone),
        ("steps redone, at least", tally.redone_steps),
        ("seconds, quiet sweep", round(tally.quiet_seconds)),
        ("seconds, under kills", round(tally.shaken_seconds)),
        ("drivers that ended unkilled", len(tally.exits)),
        ("differences", len(tally.violations)),
    ):
        table.add_row(what, str(value))
    Console(width=None if sys.stdout.isatty() else 140).print(table, highlight=False)
    for sentence in tally.violations:
        print(sentence)
    document: dict[str, Any] = {"machine": describe_machine(), "seed": arguments.seed, "storage": arguments.storage}
    path = arguments.json or folder / "chaos.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document | vars(tally), indent=1, ensure_ascii=False) + "\n")
    print(f"written to {path}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", help="more words for python -m sweep, e.g. study.steps=100")
    parser.add_argument("--kills", type=int, help=f"how many (default: {DEFAULT_KILLS})")
    parser.add_argument("--budget", type=int, help=f"models per algorithm and sweep (default: {DEFAULT_BUDGET})")
    parser.add_argument("--seed", type=int, default=0, help="of the killer (default: %(default)s)")
    parser.add_argument("--storage", choices=DEFAULT_KILLS, default="local", help="where the shaken results lie")
    parser.add_argument("--results", type=Path, default=Path("results/chaos"), help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="where the figures go (default: beside the results)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
