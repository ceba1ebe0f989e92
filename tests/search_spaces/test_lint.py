"""Remarks: one sentence for what is allowed and most likely not meant; the recipes' spaces earn some."""

from __future__ import annotations

from typing import Any

import pytest

from search_spaces import SearchSpace, load
from search_spaces.lint import remarks


@pytest.mark.parametrize("name", ["digits", "bigwae"])
def test_the_swept_spaces_earn_no_remark(name: str) -> None:
    assert remarks(load(name), images=100_000) == []


def remark(images: int | None = None, **lines: dict[str, Any]) -> str:
    """The only remark on the space digits with these changes to its lines."""
    data = load("digits").as_dict()
    for name, changes in lines.items():
        data[name] = {"algorithms": data[name]["algorithms"], "source": "O"} | changes
    [sentence] = remarks(SearchSpace.from_dict("mine", data), images)
    assert "\n" not in sentence
    return sentence


UNIFORM: dict[str, Any] = {"distribution": "uniform", "low": 1, "high": 20}
RATES: dict[str, Any] = {"distribution": "log_uniform", "low": 2e-2, "high": 1e-1}


@pytest.mark.parametrize("source", ["a guess", "Pure guess", "o", "the paper: P"])
def test_a_source_without_its_mark(source: str) -> None:
    sentence = remark(wae_lambda=UNIFORM | {"source": source})
    assert sentence.startswith(f"wae_lambda (wae-mmd, wae-gan): the source {source!r} begins with none of P")


@pytest.mark.parametrize("source", ["P", "S: recalled", "O; distribution P"])
def test_a_source_with_its_mark(source: str) -> None:
    data = load("digits").as_dict()
    data["wae_lambda"]["source"] = source
    assert remarks(SearchSpace.from_dict("mine", data)) == []


def test_a_choice_of_one() -> None:
    sentence = remark(latent_dim={"distribution": "choice", "values": [8]})
    assert sentence.startswith("latent_dim") and "distribution: fixed, value: 8" in sentence


def test_a_uniform_over_powers_of_ten() -> None:
    sentence = remark(wae_lambda=UNIFORM | {"high": 1000})
    assert "uniform from 1 to 1000 draws nine values in ten above 100.9; log_uniform" in sentence


@pytest.mark.parametrize(
    ("bound", "name", "low", "high"),
    [("at_least", "learning_rate", 3e-2, 1e-1), ("at_most", "latent_dim", 1e-4, 2.0)],
)
def test_a_bound_that_never_binds(bound: str, name: str, low: float, high: float) -> None:
    line = {"distribution": "log_uniform", "low": low, "high": high, bound: name}
    assert f"{bound} {name} never binds" in remark(adversary_learning_rate=line)


def test_a_bound_that_binds_earns_none() -> None:
    data = load("digits").as_dict()
    data["adversary_learning_rate"] |= RATES | {"low": 1.9e-2, "at_least": "learning_rate"}
    assert remarks(SearchSpace.from_dict("mine", data)) == []


def test_a_batch_larger_than_the_data() -> None:
    sentence = remark(images=31)
    assert "up to 32, but the data set has 31 training images" in sentence
    assert remarks(load("digits"), images=32) == []


def test_the_recipes_say_what_they_are() -> None:
    [alike] = remarks(load("paper"))
    assert alike.startswith("every value is fixed")
    rates, alike = remarks(load("paper_celeba"))
    assert rates.startswith("learning_rate: its lines differ between the algorithms")
