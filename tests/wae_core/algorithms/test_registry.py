"""What is declared of algorithms and hyperparameters fits together."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from wae_core.algorithms.registry import ALGORITHMS, FILES, owners
from wae_core.hyperparameters import DECLARED, IN_DRAWS, IN_TABLES, SHARED, Hyperparameters, deciding
from wae_core.run import Run

THREE = ("wae-mmd", "wae-gan", "vae")


def test_every_file_declares_an_algorithm_of_its_own_name_and_look() -> None:
    assert len(ALGORITHMS) == len(FILES)
    assert len({algorithm.look for algorithm in ALGORITHMS.values()}) == len(FILES)
    assert tuple(ALGORITHMS)[:3] == THREE


@pytest.mark.parametrize("name", ALGORITHMS)
def test_an_algorithm_has_declared_hyperparameters_that_fit_it(name: str) -> None:
    algorithm = ALGORITHMS[name]
    assert set(algorithm.hyperparameters) <= set(DECLARED) - set(SHARED)
    assert algorithm.has("encoder") == (algorithm.is_stochastic is None)
    assert algorithm.has("adversary_learning_rate") == algorithm.has_adversary


def test_every_hyperparameter_has_an_algorithm_and_what_costs_is_shared() -> None:
    assert all(owners(name) for name in DECLARED)
    assert all(owners(name) == tuple(ALGORITHMS) for name in SHARED)
    assert set(deciding("cost")) <= set(SHARED)


def test_the_orders_are_the_frozen_ones() -> None:
    """Of the columns of plan and runs, and of the draws: Optuna's random numbers depend on the last one."""
    known = [name for name in DECLARED if set(owners(name)) & set(THREE)]
    assert " ".join(known) == (
        "latent_dim batch_size learning_rate architecture encoder adversary_learning_rate kernel_scale wae_lambda "
        "decoder_variance"
    )
    assert " ".join(name for name in IN_TABLES if name in known) == (
        "latent_dim batch_size learning_rate adversary_learning_rate kernel_scale wae_lambda decoder_variance "
        "architecture encoder"
    )
    assert " ".join(name for name in IN_DRAWS if name in known) == (
        "latent_dim batch_size architecture learning_rate encoder adversary_learning_rate kernel_scale wae_lambda "
        "decoder_variance"
    )


def test_a_run_comes_back_from_plain_data(make_run: object) -> None:
    assert callable(make_run)
    run: Run = make_run("wae-gan", learning_rate_drops=((2, 2.0),), without_batch_norm=("vae",))
    plain = asdict(run)
    plain["protocol"] |= {
        "evaluation_steps": [2, 4],
        "learning_rate_drops": [[2, 2.0]],
        "without_batch_norm": ["vae"],
    }
    assert Run.from_plain(plain) == run
    assert Hyperparameters.pick(plain["hyperparameters"] | {"other": 1}) == run.hyperparameters
    with pytest.raises(TypeError):
        Run.from_plain(plain | {"protocol": {}})
