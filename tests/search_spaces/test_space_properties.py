"""What holds for any valid search space: draws inside, shared, independent; YAML loses nothing."""

from __future__ import annotations

import sys
from typing import Any

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from search_spaces import SearchSpace

OWNERS = {
    "latent_dim": {"wae-mmd", "wae-gan", "vae"},
    "batch_size": {"wae-mmd", "wae-gan", "vae"},
    "learning_rate": {"wae-mmd", "wae-gan", "vae"},
    "adversary_learning_rate": {"wae-gan"},
    "kernel_scale": {"wae-mmd"},
    "wae_lambda": {"wae-mmd", "wae-gan"},
    "decoder_variance": {"vae"},
    "architecture": {"wae-mmd", "wae-gan", "vae"},
    "encoder": {"wae-mmd", "wae-gan"},
}
INTEGERS, TEXTS = ("latent_dim", "batch_size"), ("architecture", "encoder")
TYPES = {key: int if key in INTEGERS else str if key in TEXTS else float for key in OWNERS}

positive = st.floats(min_value=5e-324, max_value=sys.float_info.max) | st.integers(1, 10**6)


@st.composite
def real_lines(draw: st.DrawFn) -> dict[str, Any]:
    distribution = draw(st.sampled_from(["choice", "uniform", "log_uniform", "fixed"]))
    if distribution == "fixed":
        return {"distribution": distribution, "value": draw(positive)}
    if distribution == "choice":
        return {"distribution": distribution, "values": draw(st.lists(positive, min_size=1, unique=True))}
    low, high = sorted(draw(st.lists(positive, min_size=2, max_size=2, unique=True)))
    return {"distribution": distribution, "low": low, "high": high}


def chosen_lines(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    lists = st.lists(values, min_size=1, max_size=9, unique=True)
    return lists.map(lambda v: {"distribution": "choice", "values": v}) | values.map(
        lambda v: {"distribution": "fixed", "value": v}
    )


STRATEGIES = dict.fromkeys(OWNERS, real_lines()) | {
    "latent_dim": chosen_lines(st.integers(min_value=1)),
    "batch_size": chosen_lines(st.integers(min_value=2)),
    "architecture": chosen_lines(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]))),
    "encoder": chosen_lines(st.sampled_from(["deterministic", "stochastic"])),
}


@st.composite
def declarations(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """The data of a valid space, its hyperparameters in any order."""
    lines = {}
    for key in draw(st.permutations(list(OWNERS))):
        algorithms = draw(st.permutations(sorted(OWNERS[key])))
        shown = draw(st.sampled_from(["all", algorithms])) if len(algorithms) == 3 else algorithms
        lines[key] = {"algorithms": shown, **draw(STRATEGIES[key]), "source": draw(st.sampled_from("PSO"))}
    return lines


indices = st.integers(0, 2**63)
seeds = st.integers(-(2**63), 2**63)


def is_inside(value: Any, line: dict[str, Any]) -> bool:
    if line["distribution"] == "fixed":
        return bool(value == line["value"])
    if line["distribution"] == "choice":
        return value in line["values"]
    return bool(line["low"] <= value <= line["high"])


# Neither a deadline nor the speed of generating: other work may share the cores.
steady = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@steady
@given(data=declarations(), index=indices, seed=seeds)
def test_an_algorithm_draws_its_hyperparameters_typed_inside_and_equal_to_the_others(
    data: dict[str, Any], index: int, seed: int
) -> None:
    space = SearchSpace.from_dict("any", data)
    shared: dict[str, Any] = {}
    for algorithm in ("wae-mmd", "wae-gan", "vae"):
        drawn = space.sample(algorithm, index, seed)
        assert set(drawn) == {key for key, owners in OWNERS.items() if algorithm in owners}
        for key, value in drawn.items():
            assert type(value) is TYPES[key]
            assert is_inside(value, data[key])
            assert value == shared.setdefault(key, value)


@steady
@given(data=declarations(), u=st.sampled_from([0.0, 2**-53, 0.5, 1 - 2**-53]))
def test_the_ends_of_a_stream_are_inside(data: dict[str, Any], u: float) -> None:
    for hyperparameter in SearchSpace.from_dict("any", data).hyperparameters:
        assert is_inside(hyperparameter.distribution.draw(u), data[hyperparameter.name])


@steady
@given(data=declarations(), others=declarations(), key=st.sampled_from(list(OWNERS)), index=indices)
def test_a_draw_does_not_depend_on_the_other_lines(
    data: dict[str, Any], others: dict[str, Any], key: str, index: int
) -> None:
    algorithm = min(OWNERS[key])
    mixed = SearchSpace.from_dict("any", {**others, key: data[key]})
    assert (
        SearchSpace.from_dict("any", data).sample(algorithm, index, 0)[key] == mixed.sample(algorithm, index, 0)[key]
    )


@steady
@given(data=declarations(), sort_keys=st.booleans())
def test_as_dict_survives_yaml(data: dict[str, Any], sort_keys: bool) -> None:
    space = SearchSpace.from_dict("any", data)
    written = yaml.safe_dump(space.as_dict(), sort_keys=sort_keys, allow_unicode=True)
    assert SearchSpace.from_dict("any", yaml.safe_load(written)) == space
    assert SearchSpace.from_dict("other", yaml.safe_load(written)) != space
