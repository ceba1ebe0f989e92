"""What holds for any valid search space: draws inside, shared, independent; YAML loses nothing; garbage is refused.

`plain` spaces have free lines alone; in `declarations` some depend on others, through when, at_least and at_most.
"""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from search_spaces import SearchSpace, SpaceError, load
from search_spaces.lint import remarks
from wae_core.domains import LARGEST_NUMBER, LARGEST_SIZE, SMALLEST_NUMBER

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
SHARED = ("latent_dim", "batch_size", "architecture", "learning_rate")

positive = st.floats(SMALLEST_NUMBER, LARGEST_NUMBER) | st.integers(1, 10**6)


@st.composite
def stepped_lines(draw: st.DrawFn, smallest: int, exponents: st.SearchStrategy[int]) -> dict[str, Any]:
    """Whole numbers, or such numbers times 10 to a negative power."""
    low, step = draw(st.integers(smallest, 10**4)), draw(st.integers(1, 55))
    ends = {"low": low, "high": low + step * draw(st.integers(1, 999)), "step": step}
    exponent = draw(exponents)
    line = {key: float(f"{number}e{exponent}") if exponent else number for key, number in ends.items()}
    return {"distribution": draw(st.sampled_from(["uniform", "log_uniform"])), **line}


@st.composite
def real_lines(draw: st.DrawFn) -> dict[str, Any]:
    distribution = draw(st.sampled_from(["choice", "uniform", "log_uniform", "fixed", "steps"]))
    if distribution == "steps":
        return draw(stepped_lines(1, st.integers(-9, -1)))
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


def whole_lines(minimum: int) -> st.SearchStrategy[dict[str, Any]]:
    return chosen_lines(st.integers(minimum, LARGEST_SIZE)) | stepped_lines(minimum, st.just(0))


STRATEGIES = dict.fromkeys(OWNERS, real_lines()) | {
    "latent_dim": whole_lines(1),
    "batch_size": whole_lines(2),
    "architecture": chosen_lines(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]))),
    "encoder": chosen_lines(st.sampled_from(["deterministic", "stochastic"])),
}
# What a line may depend on, by the rule of equal computation and what its algorithms have.
BOUNDS = {
    "batch_size": ("latent_dim",),
    "learning_rate": ("latent_dim", "batch_size"),
    "adversary_learning_rate": ("learning_rate", "latent_dim"),
    "kernel_scale": ("latent_dim", "learning_rate", "batch_size"),
    "wae_lambda": ("latent_dim", "learning_rate"),
    "decoder_variance": ("batch_size", "learning_rate"),
}
CONDITIONS = {
    "learning_rate": ("architecture", "latent_dim"),
    "kernel_scale": ("encoder", "latent_dim"),
    "wae_lambda": ("encoder", "architecture"),
}
Data = dict[str, Any]


def lines_of(data: Data, key: str) -> list[dict[str, Any]]:
    return data[key] if isinstance(data[key], list) else [data[key]]


def values_of(line: dict[str, Any]) -> list[Any]:
    """All values of a choice, a fixed one or a grid, in decimal arithmetic; the two ends of an interval."""
    if "step" in line:
        low, high, step = (Decimal(str(line[key])) for key in ("low", "high", "step"))
        return [type(line["low"])(low + n * step) for n in range(int((high - low) / step) + 1)]
    return line.get("values") or [line[key] for key in ("value", "low", "high") if key in line]


def leaves_some(data: Data, line: dict[str, Any], bounds: dict[str, str]) -> bool:
    """Whether the line has a value within the bounds, whatever the hyperparameters that they name are."""
    named = {side: [v for other in lines_of(data, name) for v in values_of(other)] for side, name in bounds.items()}
    lowest, highest = max(named.get("at_least", [0])), min(named.get("at_most", [float("inf")]))
    if "low" in line and "step" not in line:
        return bool(max(line["low"], lowest) <= min(line["high"], highest))
    return any(lowest <= value <= highest for value in values_of(line))


@st.composite
def plain(draw: st.DrawFn) -> Data:
    """The data of a valid space, its hyperparameters in any order."""
    data: Data = {}
    for key in draw(st.permutations(list(OWNERS))):
        algorithms = draw(st.permutations(sorted(OWNERS[key])))
        shown = draw(st.sampled_from(["all", algorithms])) if len(algorithms) == 3 else algorithms
        data[key] = {"algorithms": shown, **draw(STRATEGIES[key]), "source": draw(st.sampled_from("PSO"))}
    return data


@st.composite
def declarations(draw: st.DrawFn) -> Data:
    """The data of a valid space, some of whose hyperparameters depend on others."""
    data = draw(plain())
    for key, names in CONDITIONS.items():
        on = draw(st.sampled_from([None, *names]))
        if on and "low" not in data[on]:
            values = values_of(data[on])
            cut = draw(st.integers(0, len(values) - 1))
            common = {"algorithms": data[key]["algorithms"], "source": "O"}
            parts = [{on: part} for part in (values[:cut], values[cut:]) if part]
            data[key] = [common | draw(STRATEGIES[key]) | {"when": part} for part in parts]
    for key, others in BOUNDS.items():
        at_least, at_most = draw(st.permutations([None, None, *others]))[:2]
        bounds = {side: name for side, name in (("at_least", at_least), ("at_most", at_most)) if name}
        for line in lines_of(data, key):
            if leaves_some(data, line, bounds):
                line.update(bounds)
    return data


indices = st.integers(0, 2**63)
seeds = st.integers(-(2**63), 2**63)


def holds(line: dict[str, Any], drawn: Data) -> bool:
    return all(drawn[name] in values for name, values in line.get("when", {}).items())


def is_inside(value: Any, line: dict[str, Any]) -> bool:
    if "low" in line and "step" not in line:
        return bool(line["low"] <= value <= line["high"])
    return value in values_of(line)


# Neither a deadline nor the speed of generating: other work may share the cores.
steady = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@steady
@given(data=declarations(), index=indices, seed=seeds)
def test_an_algorithm_draws_its_hyperparameters_typed_inside_and_equal_to_the_others(
    data: Data, index: int, seed: int
) -> None:
    space = SearchSpace.from_dict("any", data)
    shared: Data = {}
    for algorithm in ("wae-mmd", "wae-gan", "vae"):
        drawn = space.sample(algorithm, index, seed)
        assert set(drawn) == {key for key, owners in OWNERS.items() if algorithm in owners}
        for key, value in drawn.items():
            [line] = (line for line in lines_of(data, key) if holds(line, drawn))
            assert type(value) is TYPES[key]
            assert is_inside(value, line)
            bounds: dict[str, Any] = drawn
            assert bounds[line.get("at_least", key)] <= value <= bounds[line.get("at_most", key)]
            assert value == shared.setdefault(key, value)


@steady
@given(data=declarations(), u=st.sampled_from([0.0, 2**-53, 0.5, 1 - 2**-53]))
def test_the_ends_of_a_stream_are_inside(data: Data, u: float) -> None:
    space = SearchSpace.from_dict("any", data)
    for algorithm in ("wae-mmd", "wae-gan", "vae"):
        drawn = space.configure(algorithm, lambda _, distribution: distribution.draw(u))
        for key, value in drawn.items():
            assert any(holds(line, drawn) and is_inside(value, line) for line in lines_of(data, key))


def named_by(data: Data, key: str) -> set[str]:
    """What the lines of a hyperparameter depend on, and what those depend on."""
    lines = lines_of(data, key)
    names = {name for line in lines for name in [*line.get("when", {}), line.get("at_least"), line.get("at_most")]}
    return {key}.union(*(named_by(data, name) for name in names if name))


@steady
@given(data=declarations(), others=plain(), key=st.sampled_from(list(OWNERS)), index=indices)
def test_a_draw_does_not_depend_on_the_lines_that_it_does_not_name(
    data: Data, others: Data, key: str, index: int
) -> None:
    algorithm = min(OWNERS[key])
    mixed = SearchSpace.from_dict("any", others | {name: data[name] for name in named_by(data, key)})
    drawn = SearchSpace.from_dict("any", data).sample(algorithm, index, 0)
    assert mixed.sample(algorithm, index, 0)[key] == drawn[key]


@steady
@given(data=declarations(), numbers=st.lists(st.integers(0, 10**6), min_size=1, unique=True))
def test_a_configuration_does_not_depend_on_the_others_drawn(data: Data, numbers: list[int]) -> None:
    space = SearchSpace.from_dict("any", data)
    drawn = {(a, index): space.sample(a, index, 7) for index in numbers for a in ("vae", "wae-gan", "wae-mmd")}
    asked = random.Random(0).sample(list(drawn), len(drawn))
    again = SearchSpace.from_dict("any", data)
    assert all(again.sample(*coordinates, 7) == drawn[coordinates] for coordinates in asked)


@pytest.mark.slow
@steady
@given(data=declarations(), sort_keys=st.booleans())
def test_as_dict_survives_yaml(data: Data, sort_keys: bool) -> None:
    space = SearchSpace.from_dict("any", data)
    written = yaml.safe_dump(space.as_dict(), sort_keys=sort_keys, allow_unicode=True)
    assert SearchSpace.from_dict("any", yaml.safe_load(written)) == space
    assert SearchSpace.from_dict("other", yaml.safe_load(written)) != space


@steady
@given(data=declarations(), images=st.none() | st.integers())
def test_a_remark_is_a_sentence(data: Data, images: int | None) -> None:
    assert all(remark and "\n" not in remark for remark in remarks(SearchSpace.from_dict("any", data), images))


words = st.sampled_from(
    [*OWNERS, *TEXTS, "all", "wae-gan", "choice", "uniform", "log_uniform", "low", "step", "when"]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | words
garbage = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(scalars, inner, max_size=4), max_leaves=10
)


def accepts(read: Any) -> bool:
    """Whether it is a space, of which every configuration can be drawn; what is none is refused in sentences."""
    sentences: tuple[str, ...] = ()
    try:
        space = read()
    except SpaceError as error:
        sentences = error.sentences
    assert all(sentence and "\n" not in sentence for sentence in sentences)
    if sentences:
        return False
    for algorithm in ("wae-mmd", "wae-gan", "vae"):
        space.sample(algorithm, 0, 0)
    return True


@steady
@given(data=declarations(), key=st.sampled_from(list(OWNERS)), replaced=st.data())
def test_a_line_with_garbage_in_it_is_refused_or_can_be_drawn(data: Data, key: str, replaced: st.DataObject) -> None:
    line = replaced.draw(st.sampled_from(lines_of(data, key)))
    entry = replaced.draw(st.sampled_from([*line, "step", "when", "at_least", "at_most"]))
    line[entry] = replaced.draw(garbage)
    accepts(lambda: SearchSpace.from_dict("any", data))


@steady
@given(data=garbage | st.dictionaries(st.sampled_from(list(OWNERS)), garbage))
def test_garbage_is_no_space(data: Any) -> None:
    assert not accepts(lambda: SearchSpace.from_dict("any", data))


@steady
@given(content=st.binary() | st.text().map(str.encode) | garbage.map(lambda data: yaml.dump(data).encode()))
@example(content=b"latent_dim: &a [*a]")
def test_a_file_of_garbage_is_refused(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("space") / "mine.yaml"
    path.write_bytes(content)
    assert not accepts(lambda: load(path))
