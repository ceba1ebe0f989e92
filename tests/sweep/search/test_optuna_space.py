"""How Optuna sees any space: what can be drawn can be proposed and comes back, and proposals are inside the space."""

from __future__ import annotations

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import create_trial

import search_spaces
from search_spaces import SearchSpace
from search_spaces.distributions import Distribution
from sweep.search.optuna_space import as_proposal, configure
from tests.search_spaces.test_space_properties import declarations
from wae_core.domains import Value


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(declarations(), st.sampled_from(["wae-mmd", "wae-gan", "vae"]), st.integers(0, 10**6))
def test_any_draw_is_a_possible_proposal_and_comes_back(data: dict[str, object], algorithm: str, index: int) -> None:
    space = SearchSpace.from_dict("any", data)
    values = space.sample(algorithm, index, study_seed=0)
    params, distributions = as_proposal(space, algorithm, values)
    create_trial(params=params, distributions=distributions, value=0.0)  # raises where one is not in the other
    assert configure(space, algorithm, lambda parameter: parameter.value(params[parameter.label])) == values


@pytest.mark.parametrize("algorithm", ["wae-mmd", "wae-gan", "vae"])
@pytest.mark.parametrize("name", ["digits", "bigwae", "paper"])
def test_proposals_are_inside_the_space(name: str, algorithm: str) -> None:
    space = search_spaces.load(name)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        values = configure(space, algorithm, lambda p, trial=trial: p.value(p.suggest(trial)))  # type: ignore[misc]
        assert values.keys() == space.sample(algorithm, 0, 0).keys()

        def check(name: str, drawn: Distribution, values: dict[str, Value] = values) -> Value:
            value = values[name]
            assert value in drawn.support if isinstance(value, str) else drawn.within(value, value) is not None
            return value

        space.configure(algorithm, check)
