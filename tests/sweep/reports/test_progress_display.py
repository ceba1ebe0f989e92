"""What a person sees while a sweep runs: counts that add up, a rate, the time left and the best FID."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from sweep.events import Ended, Evaluated, Paused
from sweep.reports.cost import CostModel
from sweep.reports.progress_display import ProgressDisplay
from sweep.search.plan import plan_runs
from sweep.settings.settings import Cluster, Study
from wae_core.evaluation.selection import Evaluation
from wae_core.run import Run

NAN = float("nan")
CORE = Cluster(
    "ray", "cpu", None, cpus_per_worker=1, gpus_per_worker=0, tpus_per_worker=0, pack_size=1, teraflops=0.02
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which a test moves."""
    now = [1000.0]
    monkeypatch.setattr("sweep.reports.progress_display.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def runs(study: Study) -> list[Run]:
    """Six runs of two algorithms, 4 steps each."""
    return [*plan_runs(study, "wae-mmd", 3), *plan_runs(study, "vae", 3)]


class SameForAll(CostModel):
    """Runs of any algorithm take the same, so that the time left is plain arithmetic."""

    def flops(self, run: Run) -> int:
        return 1_000_000


@pytest.fixture
def cost(study: Study) -> CostModel:
    return SameForAll(study, (1, 28, 28), CORE)


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


def plain(output: io.StringIO) -> Console:
    return Console(file=output, width=300, force_terminal=False)


def test_lines_have_counts_rate_time_left_and_the_best_fids(
    clock: list[float],
    cost: CostModel,
    runs: list[Run],
    output: io.StringIO,
    make_result: Callable[..., Any],
    make_evaluation: Callable[[int, float], Evaluation],
) -> None:
    earlier, _ = make_result(runs[0], fids=(70.0,))
    with ProgressDisplay(plain(output), runs, [earlier], cost) as display:
        clock[0] += 60
        display.note(Ended(runs[1], make_result(runs[1], fids=(50.0,))[0]))
        clock[0] += 60
        display.note(Ended(runs[3], make_result(runs[3], "diverged", fids=())[0]))
        clock[0] += 60
        display.note(Evaluated(runs[4], make_evaluation(2, 33.333)))
    lines = output.getvalue().splitlines()
    assert len(lines) == 3
    # 5 models were missing; 1, 2 and 2½ of them are done after 1, 2 and 3 minutes.
    assert lines[0].startswith("2 completed of 6; 0 running; 60 models/hour, 0:04:00 left; ")
    assert lines[1].startswith("2 completed, 1 diverged of 6; 0 running; 60 models/hour, 0:03:00 left; ")
    assert lines[2].startswith("2 completed, 1 diverged of 6; 1 running; 50 models/hour, 0:03:00 left; ")
    assert re.search(r"best FID: .*33\.3", lines[2])
    for line in lines:
        assert "nan" not in line


def test_a_run_counts_as_running_until_it_has_its_row(
    clock: list[float],
    cost: CostModel,
    runs: list[Run],
    output: io.StringIO,
    make_result: Callable[..., Any],
    make_evaluation: Callable[[int, float], Evaluation],
) -> None:
    with ProgressDisplay(plain(output), runs, [], cost) as display:
        for step in (2, 4):
            clock[0] += 60
            display.note(Evaluated(runs[0], make_evaluation(step, 40.0)))
        clock[0] += 60
        display.note(Ended(runs[0], make_result(runs[0])[0]))
    assert [line.split("; ")[1:3] for line in output.getvalue().splitlines()] == [
        ["1 running", "30 models/hour, 0:11:00 left"],
        ["1 running", "30 models/hour, 0:10:00 left"],
        ["0 running", "20 models/hour, 0:15:00 left"],
    ]


class ByBatch(CostModel):
    """FLOPs are batch sizes."""

    def flops(self, run: Run) -> int:
        return run.hyperparameters.batch_size


def test_the_time_left_weighs_runs_by_what_they_take_and_learns_what_that_is(
    clock: list[float],
    study: Study,
    make_run: Callable[..., Run],
    output: io.StringIO,
    make_result: Callable[..., Any],
) -> None:
    long, short, *others = (
        make_run("vae", seed=seed, batch_size=size) for seed, size in enumerate((300, 100, 100, 100, 200))
    )
    cost = ByBatch(study, (1, 28, 28), CORE)
    with ProgressDisplay(plain(output), [long, short, *others], [], cost) as display:
        clock[0] += 60
        display.note(Ended(long, make_result(long)[0]))  # 300 of 800
        clock[0] += 60
        row, _ = make_result(short, train_seconds=300.0, eval_seconds=0.0)
        cost.learn(make_result(long, train_seconds=100.0, eval_seconds=0.0)[0])
        cost.learn(row)  # in small batches everything takes nine times as long, in those between both five times
        display.note(Ended(short, row))
    lines = output.getvalue().splitlines()
    assert lines[0].split("; ")[2] == "60 models/hour, 0:01:40 left"
    # 100 and 300 seconds' worth in two minutes; left are twice 300 and, by the median of both, 200 × 5/3.
    assert lines[1].split("; ")[2] == "60 models/hour, 0:04:40 left"


def test_best_fids_are_the_lowest_of_rows_and_evaluations(
    clock: list[float],
    cost: CostModel,
    runs: list[Run],
    output: io.StringIO,
    make_result: Callable[..., Any],
    make_evaluation: Callable[[int, float], Evaluation],
) -> None:
    earlier = [make_result(runs[0], fids=(38.0,))[0], make_result(runs[3], fids=(60.0, 50.0))[0]]
    with ProgressDisplay(plain(output), runs, earlier, cost) as display:
        for fid in (40.0, 30.0, 35.0):
            clock[0] += 60
            display.note(Evaluated(runs[1], make_evaluation(2, fid)))
        clock[0] += 60
        display.note(Ended(runs[4], make_result(runs[4], fids=(45.0,))[0]))
    assert [line.rpartition(": ")[2] for line in output.getvalue().splitlines()] == [
        "vae 50.0, wae-mmd 38.0",
        "vae 50.0, wae-mmd 30.0",
        "vae 50.0, wae-mmd 30.0",
        "vae 45.0, wae-mmd 30.0",
    ]


@pytest.mark.parametrize("fids", [(NAN, 40.0), (40.0, NAN), (NAN, 40.0, NAN), (NAN,)])
def test_a_fid_that_is_no_number_is_never_the_best(
    clock: list[float],
    cost: CostModel,
    runs: list[Run],
    output: io.StringIO,
    fids: tuple[float, ...],
    make_evaluation: Callable[[int, float], Evaluation],
) -> None:
    with ProgressDisplay(plain(output), runs, [], cost) as display:
        for fid in fids:
            clock[0] += 60
            display.note(Evaluated(runs[0], make_evaluation(2, fid)))
    last = output.getvalue().splitlines()[-1]
    assert "nan" not in last
    assert last.endswith("best FID: wae-mmd 40.0" if 40.0 in fids else "best FID: –")


def test_lines_are_rare_but_the_last_model_has_one(
    clock: list[float], cost: CostModel, runs: list[Run], output: io.StringIO, make_result: Callable[..., Any]
) -> None:
    with ProgressDisplay(plain(output), runs, [], cost) as display:
        for run in runs:
            clock[0] += 1
            display.note(Ended(run, make_result(run)[0]))
    (line,) = output.getvalue().splitlines()
    assert line.startswith("6 completed of 6; 0 running; 3,600 models/hour, 0:00:00 left; ")


def test_lines_are_at_least_ten_seconds_apart(
    clock: list[float],
    cost: CostModel,
    runs: list[Run],
    output: io.StringIO,
    make_evaluation: Callable[[int, float], Evaluation],
) -> None:
    with ProgressDisplay(plain(output), runs, [], cost) as display:
        for _ in range(10):
            clock[0] += 4
            display.note(Evaluated(runs[0], make_evaluation(2, 40.0)))
    assert len(output.getvalue().splitlines()) == 3  # after 12, 24 and 36 seconds


def test_before_the_first_score_no_rate_is_made_up(
    clock: list[float], cost: CostModel, runs: list[Run], output: io.StringIO, make_result: Callable[..., Any]
) -> None:
    ended = [make_result(run)[0] for run in runs[:5]]
    console = Console(file=output, width=300, force_terminal=True)
    with ProgressDisplay(console, runs, ended, cost):
        clock[0] += 60
    assert "no model scored yet" in output.getvalue()


def test_a_terminal_shows_a_table_with_a_row_for_each_algorithm(
    clock: list[float],
    cost: CostModel,
    runs: list[Run],
    output: io.StringIO,
    make_result: Callable[..., Any],
    make_evaluation: Callable[[int, float], Evaluation],
) -> None:
    console = Console(file=output, width=160, force_terminal=True, no_color=True)
    with ProgressDisplay(console, runs, [make_result(runs[0], fids=(70.0,))[0]], cost) as display:
        clock[0] += 3600
        display.note(Evaluated(runs[1], make_evaluation(1, 60.0)))
        display.note(Ended(runs[3], make_result(runs[3], "failed", ())[0]))
        display.note(Ended(runs[4], make_result(runs[4], "diverged", ())[0]))
        display.note(Ended(runs[5], make_result(runs[5], fids=(20.0,))[0]))
    shown = output.getvalue()
    cells = [
        [cell.strip() for cell in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line).split("│")[1:-1]]
        for line in shown.splitlines()
        if "│" in line
    ][-2:]
    # algorithm, planned, completed, diverged, failed, running, best FID
    assert cells == [["wae-mmd", "3", "1", "0", "0", "1", "60.00"], ["vae", "3", "1", "1", "1", "0", "20.00"]]
    assert "models/hour" in shown


def test_what_a_search_proposes_takes_the_place_of_what_was_expected(
    clock: list[float], study: Study, runs: list[Run], output: io.StringIO, make_result: Callable[..., Any]
) -> None:
    class ByLatentDimension(CostModel):
        def flops(self, run: Run) -> int:
            return 1_000_000 * run.hyperparameters.latent_dim

    def with_latent_dim(run: Run, latent_dim: int) -> Run:
        return replace(run, hyperparameters=replace(run.hyperparameters, latent_dim=latent_dim))

    expected = [with_latent_dim(run, 4) for run in runs[:3]]
    cost = ByLatentDimension(study, (1, 28, 28), CORE)
    with ProgressDisplay(plain(output), expected, [], cost) as display:
        display.plan([with_latent_dim(expected[2], 16)])
        clock[0] += 60
        display.note(Ended(expected[0], make_result(expected[0])[0]))
    assert "0:05:00 left" in output.getvalue()  # 4 took a minute, 4 + 16 are left


def test_what_is_stopped_early_leaves_its_work_to_others_and_what_pauses_does_not_run(
    clock: list[float],
    runs: list[Run],
    cost: CostModel,
    output: io.StringIO,
    make_result: Callable[..., Any],
    make_evaluation: Callable[[int, float], Evaluation],
) -> None:
    with ProgressDisplay(plain(output), runs[:4], [], cost) as display:
        clock[0] += 60
        display.note(Ended(runs[0], make_result(runs[0], steps_done=2)[0]))  # of 4
        display.plan([runs[4]])
        clock[0] += 60
        display.note(Evaluated(runs[1], make_evaluation(2, 50.0)))
        display.note(Paused(runs[1], 50.0))
        clock[0] += 60
        display.note(Ended(runs[2], make_result(runs[2], "diverged")[0]))
    first, *_, last = output.getvalue().splitlines()
    assert "1 completed of 4; 0 running" in first
    assert "0:07:00 left" in first  # half a run took a minute, three and a half are left
    assert "1 completed, 1 diverged of 5; 0 running" in last
    assert "0:03:00 left" in last  # two runs' work of the four
