"""The plan: whole configurations within the budget, the same for every algorithm."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sweep.search.plan import plan_runs
from sweep.settings.settings import Study
from wae_core.run import Hyperparameters

SHARED = ("latent_dim", "batch_size", "learning_rate", "architecture")


@pytest.mark.parametrize("algorithm", ["wae-mmd", "wae-gan", "vae"])
def test_a_plan_is_whole_configurations_with_all_their_seeds(study: Study, algorithm: str) -> None:
    runs = plan_runs(study, algorithm, 12)
    assert [(run.config_index, run.seed) for run in runs] == [(i, s) for i in range(4) for s in range(3)]
    assert len({run.run_id for run in runs}) == 12
    for run in runs:
        assert (run.study, run.study_seed, run.algorithm, run.protocol) == (
            "test",
            5,
            algorithm,
            study.protocol,
        )
        assert run.hyperparameters == Hyperparameters(**study.space.sample(algorithm, run.config_index, 5))  # type: ignore[arg-type]
        assert run.hyperparameters == runs[3 * run.config_index].hyperparameters
    assert len({run.hyperparameters for run in runs}) == 4
    assert runs[5].run_id == f"{algorithm}-00001-s2"


def test_a_budget_of_1000_is_333_configurations_and_999_runs(study: Study) -> None:
    runs = plan_runs(study, "wae-mmd", 1000)
    assert (len(runs), runs[-1].config_index) == (999, 332)


@pytest.mark.parametrize("seeds", [1, 2, 3, 7])
def test_no_budget_is_exceeded_and_a_larger_one_begins_with_the_smaller(study: Study, seeds: int) -> None:
    study = replace(study, seeds=seeds)
    largest = plan_runs(study, "vae", 40)
    for budget in range(1, 41):
        runs = plan_runs(study, "vae", budget)
        assert budget - seeds < len(runs) <= budget
        assert len(runs) % seeds == 0
        assert runs == largest[: len(runs)]


def test_a_plan_is_a_pure_function_of_the_study(study: Study) -> None:
    runs = plan_runs(study, "vae", 9)
    assert plan_runs(study, "vae", 9) == runs
    assert plan_runs(replace(study, seed=6), "vae", 9)[0].hyperparameters != runs[0].hyperparameters


def test_what_algorithms_share_is_equal_for_all_of_them(study: Study) -> None:
    plans = [plan_runs(study, algorithm, 30) for algorithm in study.space.algorithms]
    for same in zip(*plans, strict=True):
        assert len({tuple(getattr(run.hyperparameters, name) for name in SHARED) for run in same}) == 1
    mmd, gan, vae = (plan[0].hyperparameters for plan in plans)
    assert (mmd.encoder, mmd.wae_lambda) == (gan.encoder, gan.wae_lambda)
    assert (vae.encoder, vae.wae_lambda, vae.kernel_scale, vae.adversary_learning_rate) == (None,) * 4
    assert (mmd.decoder_variance, gan.kernel_scale, mmd.adversary_learning_rate) == (None,) * 3
