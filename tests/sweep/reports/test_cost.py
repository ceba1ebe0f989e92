"""The cost model: an assumed rate at first, then what ended runs of the same kind took."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import pytest

from sweep.reports.cost import CostModel
from sweep.search.plan import plan_runs
from sweep.settings.compose import load_settings
from sweep.settings.settings import Cluster, Study
from wae_core import flops
from wae_core.flops import run_flops
from wae_core.run import Run

GREY = (1, 28, 28)
CORE = Cluster(
    "ray", "cpu", None, cpus_per_worker=1, gpus_per_worker=0, tpus_per_worker=0, pack_size=1, teraflops=0.02
)


@pytest.fixture
def cost(study: Study) -> CostModel:
    return CostModel(study, GREY, CORE)


@pytest.fixture
def took(study: Study, make_result: Callable[..., Any]) -> Callable[..., Any]:
    """took(run, factor, ...): the row of a run that took `factor` nanoseconds a FLOP, a fifth of it to evaluate."""

    def make(run: Run, factor: float, status: str = "completed", **overrides: Any) -> Any:
        seconds = factor * 1e-9 * run_flops(run, GREY)
        return make_result(run, status, train_seconds=0.8 * seconds, eval_seconds=0.2 * seconds, **overrides)[0]

    return make


class Unwalked(list[float]):
    """Measurements that nobody may go through one by one."""

    def __iter__(self) -> Any:
        raise AssertionError("for one prediction, all that was ever measured was gone through")


@pytest.mark.parametrize("count", [1, 2, 5, 6])
def test_a_prediction_is_the_median_and_goes_through_no_measurements(
    cost: CostModel, study: Study, make_run: Callable[..., Run], took: Callable[..., Any], count: int
) -> None:
    rows = [took(make_run("vae", seed=seed), factor) for seed, factor in enumerate([7, 3, 9, 2, 5, 4][:count])]
    at_once = CostModel(study, GREY, CORE)
    at_once.learn_all(rows)
    cost._measured.default_factory = lambda: defaultdict(Unwalked)
    for row in rows:
        cost.learn(row)
    run = make_run("wae-mmd")
    assert cost.seconds(run) == at_once.seconds(run)
    assert cost.seconds(run) == pytest.approx(median([7, 3, 9, 2, 5, 4][:count]) * 1e-9 * run_flops(run, GREY))


def test_devices_of_unlike_kinds_are_told_apart_and_the_time_left_is_theirs_together(
    cost: CostModel, make_run: Callable[..., Run], took: Callable[..., Any]
) -> None:
    """Two workers, of which one is ten times as fast: of eleven runs it trains ten."""
    run = make_run("vae")
    for seed in range(10):
        cost.learn(took(make_run("vae", seed=seed), 1, device="cpu: fast"))
    cost.learn(took(make_run("vae", seed=10), 10, device="cpu: slow"))
    assert cost.devices == ["cpu: fast", "cpu: slow"]
    left = 1100
    predicted = left * cost.seconds(run) / 2  # two workers
    truth = left / (1 / 1 + 1 / 10) * 1e-9 * run_flops(run, GREY)
    assert predicted == pytest.approx(truth)


def test_before_any_run_has_ended_the_rate_is_the_cluster_s(cost: CostModel, make_run: Callable[..., Run]) -> None:
    run = make_run("wae-gan")
    assert cost.measured_runs == 0
    assert cost.flops(run) == run_flops(run, GREY)
    assert cost.seconds(run) == pytest.approx(run_flops(run, GREY) / 0.02e12)


def test_the_nearest_measurements_count(
    cost: CostModel, make_run: Callable[..., Run], took: Callable[..., Any]
) -> None:
    def factor(architecture: str, batch_size: int) -> float:
        """Predicted nanoseconds a FLOP, of another algorithm and latent dimension than those measured."""
        run = make_run("vae", architecture=architecture, batch_size=batch_size, latent_dim=8)
        return 1e9 * cost.seconds(run) / run_flops(run, GREY)

    for seed, (batch_size, nanoseconds) in enumerate([(40, 3), (40, 4), (40, 100), (20, 7), (20, 9)]):
        run = make_run("wae-mmd", architecture="dcgan_small", batch_size=batch_size, seed=seed)
        cost.learn(took(run, nanoseconds))
    cost.learn(took(make_run("wae-mmd", architecture="dcgan"), 30))
    assert cost.measured_runs == 6
    assert factor("dcgan_small", 40) == pytest.approx(4)  # the median of the same kind: one slow run does not count
    assert factor("dcgan_small", 20) == pytest.approx(8)
    assert factor("dcgan_small", 30) == pytest.approx(7)  # of the architecture: 3, 4, 7, 9, 100
    assert factor("dcgan", 20) == pytest.approx(30)
    assert factor("resnet11v2", 40) == pytest.approx(8)  # of all: 3, 4, 7, 9, 30, 100


def test_runs_that_did_not_complete_or_ran_elsewhere_teach_nothing(
    cost: CostModel, make_run: Callable[..., Run], took: Callable[..., Any]
) -> None:
    run = make_run("vae")
    for status in ("diverged", "failed"):
        cost.learn(took(run, 5, status))
    cost.learn(took(run, 5, device="cuda: NVIDIA H100"))
    assert cost.measured_runs == 0
    cost.learn(took(run, 5, device="cpu: x86_64, 1 thread × 2"))
    assert cost.measured_runs == 0
    cost.learn(took(run, 5, device="cpu: x86_64, 1 thread"))
    assert cost.measured_runs == 1


def test_a_run_of_several_devices_is_learnt_from_such_runs(
    study: Study, make_run: Callable[..., Run], took: Callable[..., Any]
) -> None:
    run = make_run("vae")
    cost = CostModel(study, GREY, replace(CORE, accelerators_per_run=2))
    assert cost.seconds(run) == pytest.approx(run_flops(run, GREY) / 0.02e12 / 2)
    for factor, device in ((5, "cpu: x86_64, 1 thread"), (4, "cpu: x86_64, 1 thread × 2")):
        cost.learn(took(run, factor, device=device))
    assert cost.seconds(run) == pytest.approx(4e-9 * run_flops(run, GREY))


@pytest.mark.slow
@pytest.mark.parametrize(("study", "shape", "limit"), [("digits", GREY, 1.0), ("bigwae", (3, 64, 64), 10.0)])
def test_a_plan_of_thousands_is_costed_at_once_and_algorithms_cost_nearly_the_same(
    study: str, shape: tuple[int, int, int], limit: float
) -> None:
    for counted in (flops._pair, flops._discriminator, flops._features):
        counted.cache_clear()
    settings = load_settings([f"study={study}"])
    plans = [plan_runs(settings.study, algorithm, 1000) for algorithm in ("wae-mmd", "wae-gan", "vae")]
    cost = CostModel(settings.study, shape, settings.cluster)
    began = time.process_time()
    totals = [sum(map(cost.seconds, runs)) for runs in plans]
    assert time.process_time() - began < limit
    assert max(totals) < 1.03 * min(totals)
