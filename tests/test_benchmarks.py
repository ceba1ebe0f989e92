"""The benchmark suite runs from its command line and writes its figures; its records are those of the schema."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sweep.events import Ended, Task, WorkerContext
from sweep.results.folder import StudyFolder
from sweep.results.tables import Tables
from tests.benchmarks import cluster, numerics, orchestration, processes, search
from tests.benchmarks.measuring import Options, Row, interleave, ratios, within
from tests.benchmarks.models import LIKE_DIGITS
from wae_core.run import Run

ROOT = Path(__file__).parents[1]


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.benchmarks", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_smallest_benchmark_writes_its_figures(tmp_path: Path) -> None:
    path = tmp_path / "new" / "bench.json"
    done = bench("step", "--rounds", "1", "--json", str(path))
    assert done.returncode == 0, done.stderr
    assert "plain eager float32 / ours" in " ".join(done.stdout.split())
    document = json.loads(path.read_text())
    assert document["machine"]["cores"] >= 1
    assert document["machine"]["packages"]["torch"]
    eager, pythae = document["parts"]["step"]
    assert eager["value"] == eager["values"][0] > 0
    assert eager["meets_target"] is (eager["value"] >= eager["at_least"])
    assert pythae["value"] is None  # not asked for


@pytest.mark.slow
def test_unknown_part_is_refused() -> None:
    assert bench("orchestra").returncode == 2


@pytest.mark.slow
def test_a_part_that_fails_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    words = ["--rounds", "1", "--minutes", "0.01", "--pythae", "/no/such/python", "--json", str(path)]
    done = bench("step", "processes", *words)
    assert done.returncode == 1 and "Traceback" in done.stderr
    parts = json.loads(path.read_text())["parts"]
    assert [row["what"] for row in parts["step"]] == ["not measured: FileNotFoundError"]
    alone, two = parts["processes"]
    assert alone["value"] > 0 and two["value"] > 0 and "2 processes of one model / one" in two["what"]


def test_rounds_end_in_time_but_for_the_first() -> None:
    assert list(within(3, math.inf)) == [0, 1, 2]
    assert list(within(3, time.monotonic() - 1)) == [0]
    begun = []
    for number in within(100, time.monotonic() + 0.5):
        begun.append(number)
        time.sleep(0.2)
    assert begun == [0, 1], "a third would end too late"


def test_a_device_is_compared_with_float64_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerics, "CASES", {"dcgan_small": LIKE_DIGITS})
    monkeypatch.setattr(numerics, "ALGORITHMS", ("vae",))
    options = Options(numerics.CPU, runs=1, rounds=1, pythae=None)
    off = {row.what: row for row in numerics.measure(options, lambda words: None)}
    assert all(row.meets_target for row in off.values())
    gradient = "vae, dcgan_small, {}: an update's gradient, off by"
    exact, single, half = (off[gradient.format(name)].values[0] for name in ("float64", "float32", "bfloat16"))
    assert exact == 0 < single < 1e-5 < half


def test_a_network_that_magnifies_rounding_may_be_off_by_more() -> None:
    assert [numerics.allowed(name, 1e-6) for name in ("float64", "float32", "tf32")] == [1e-10, 1e-3, 8e-6 * 2**13]
    assert numerics.allowed("float64", 0.15) == pytest.approx(8 * 0.15 * 2**-29)
    assert numerics.allowed("float32", 0.15) is numerics.allowed("bfloat16", 1e-4) is None


def test_processes_are_held_against_one() -> None:
    rates = {(1, "plain", ""): (2.0, 4.0), (8, "captured", " by MPS"): (10.0, 8.0, 9.0)}
    alone, several = processes.rows(rates)
    assert (alone.value, alone.unit) == (3.0, "models/h")
    assert several.values == (5.0, 2.0) and several.note == "9 models/h"
    assert "8 processes of one model by a CUDA graph by MPS / one" in several.what


def test_no_op_run_leaves_a_whole_record(tmp_path: Path, make_run: Callable[..., Run]) -> None:
    runs = tuple(make_run("wae-mmd", seed=seed) for seed in range(2))
    folder = StudyFolder(tmp_path, "test")
    folder.records.mkdir(parents=True)
    context = WorkerContext(
        results=tmp_path,
        data=tmp_path,
        data_sha256="none",
        inception=None,
        device="cpu",
        git_commit="unknown",
        checkpoint_steps=1000,
    )
    reported = [event.row for event in orchestration.publish(Task(runs), context) if isinstance(event, Ended)]
    assert [row.run_id for row in reported if row] == [run.run_id for run in runs]
    assert Tables(folder).run_ids() == {run.run_id for run in runs}
    assert len(folder.read_table("evaluations")) == 2


def test_rounds_alternate_and_ratios_are_taken_within_a_round() -> None:
    order = []

    def contestant(name: str, figures: list[float]) -> Callable[[], float]:
        def measure() -> float:
            order.append(name)
            return figures[order.count(name) - 1]

        return measure

    took = interleave({"a": contestant("a", [2.0, 30.0, 4.0]), "b": contestant("b", [1.0, 10.0, 2.0])}, rounds=3)
    assert order == ["a", "b"] * 3
    row = Row("a / b", ratios(took["a"], took["b"]), "×", at_least=2.5)
    assert row.values == (2.0, 3.0, 2.0)
    assert row.value == 2.0
    assert row.meets_target is False


@pytest.mark.parametrize(("limits", "met"), [({}, None), ({"at_most": 2.0}, True), ({"at_most": 1.9}, False)])
def test_target_is_met_or_not(limits: dict[str, Any], met: bool | None) -> None:
    assert Row("figure", (2.0,), "ms", **limits).meets_target is met


def test_searches_are_compared_by_the_lowest_fid_for_the_steps_of_so_many_models() -> None:
    fids = {0: (5.0, 7.0), 1: (9.0, 1.0), 2: (6.0, 6.0), 3: (4.0, 4.0)}
    runs = pd.DataFrame(
        {
            "config_index": index,
            "best_fid": fid,
            "status": "diverged" if fid == 1.0 else "completed",
            "steps_planned": 10,
            "steps_done": 5 if fid in (1.0, 6.0) else 10,  # the diverged one gives nothing back
        }
        for index, own in fids.items()
        for fid in own
    )
    table = search.curves(runs, 8)
    assert table["models"].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert table["best run"].tolist()[1:] == [5.0, 5.0, 5.0, 5.0, 5.0, 4.0, 4.0]
    assert table["best configuration, mean over its seeds"].tolist()[1:] == [6.0, 6.0, 6.0, 6.0, 6.0, 4.0, 4.0]
    assert table.iloc[0][["best run"]].isna().all(), "before the first configuration has ended"
    both = pd.concat(
        table.assign(**{name: table[name] - less for name in search.FIGURES}, search=kind, seed=seed)
        for kind, less in (("random", 0.0), ("optuna", 1.0))
        for seed in range(2)
    )
    gains = search.gains(both)
    assert (gains["lower by"] == 1).all()
    assert set(gains["lower in"]) == {"2 of 2"}
    assert np.allclose(gains["standard error"], 0)
    search.figure(both)


def test_a_driver_that_costs_nothing_keeps_all_accelerators_busy() -> None:
    outcome = cluster.simulate([100.0] * 80, 3, 8, cluster.Driver(run=0.0, event=0.0))
    assert outcome.makespan == pytest.approx(1000, rel=0.05)
    assert outcome.utilisation == pytest.approx(1, abs=0.03)
    assert outcome.driver == 0


def test_a_driver_that_has_no_moment_left_hands_out_runs_at_its_own_pace() -> None:
    driver = cluster.Driver(run=0.05, event=0.01)  # 0.1 s a run of five events: ten runs a second
    seconds = [1.0] * 2000
    assert cluster.most_kept_busy(seconds, 5, driver) == pytest.approx(11)
    slow, fast = cluster.simulate(seconds, 5, 5, driver), cluster.simulate(seconds, 5, 1000, driver)
    assert slow.makespan > 2000 / 5 > fast.makespan
    assert fast.makespan == pytest.approx(2000 / 10, rel=0.05)
    assert fast.driver == pytest.approx(1, abs=0.05)
    assert fast.utilisation < 0.02


def test_the_longest_run_ends_a_sweep_at_the_earliest() -> None:
    outcome = cluster.simulate([3600.0, *[36.0] * 100], 0, 4096, cluster.Driver(run=0.01, event=0.01))
    assert outcome.makespan == pytest.approx(3600, rel=0.11)
