"""The random streams: one for each key, the same at every call, whatever was drawn before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from wae_core.randomness import Streams
from wae_core.run import Run

CPU = torch.device("cpu")
MakeRun = Callable[..., Run]


@pytest.mark.parametrize(
    "change", [{"study_seed": 1}, {"config_index": 1}, {"seed": 1}, {"algorithm": "wae-gan"}], ids=str
)
def test_streams_differ_by_every_component_of_the_run(make_run: MakeRun, change: dict[str, Any]) -> None:
    key = ((64,), "train", 3, "prior")
    run = make_run("wae-mmd")
    one, other = (Streams(r, CPU).normal(*key) for r in (run, replace(run, **change)))
    assert not torch.isclose(one, other).any()


@pytest.mark.parametrize("other", [("evaluation", 3, "prior"), ("train", 4, "prior"), ("train", 3, "encoder")])
def test_streams_differ_by_phase_step_and_purpose(make_run: MakeRun, other: tuple[str, int, str]) -> None:
    streams = Streams(make_run("vae"), CPU)
    assert not torch.isclose(streams.normal((64,), "train", 3, "prior"), streams.normal((64,), *other)).any()


def test_seed_1_of_configuration_0_is_not_seed_0_of_configuration_1(make_run: MakeRun) -> None:
    one, other = (make_run("vae", config_index=index, seed=seed) for index, seed in [(0, 1), (1, 0)])
    drawn = [Streams(run, CPU).normal((64,), "train", 1, "prior") for run in (one, other)]
    assert not torch.isclose(drawn[0], drawn[1]).any()


@pytest.mark.parametrize("kind", ["normal", "truncated_normal", "permutation"])
def test_a_stream_repeats_whatever_was_drawn_in_between(make_run: MakeRun, kind: str) -> None:
    streams, fresh = Streams(make_run("vae"), CPU), Streams(make_run("vae"), CPU)
    size = 50 if kind == "permutation" else (5, 10)
    first = getattr(streams, kind)(size, "train", 7, "a")
    streams.normal((3,), "train", 8, "b")
    streams.permutation(10, "train", 7, "c")
    torch.manual_seed(0)
    torch.randn(5)
    assert torch.equal(getattr(streams, kind)(size, "train", 7, "a"), first)
    assert torch.equal(getattr(fresh, kind)(size, "train", 7, "a"), first)
    assert not torch.equal(getattr(streams, kind)(size, "train", 8, "a"), first)


def test_streams_leave_the_global_generator_alone(make_run: MakeRun) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    streams = Streams(make_run("vae"), CPU)
    streams.normal((3,), "train", 1, "a")
    streams.truncated_normal((3,), "train", 1, "a")
    streams.permutation(3, "train", 1, "a")
    assert torch.equal(torch.rand(3), expected)


def test_normal_is_standard_normal(make_run: MakeRun) -> None:
    draws = Streams(make_run("vae"), CPU).normal((100, 1000), "train", 1, "a")
    assert draws.dtype == torch.float32 and draws.shape == (100, 1000)
    assert abs(float(draws.mean())) < 0.02 and abs(float(draws.std()) - 1) < 0.02
    assert float((draws.abs() > 2).float().mean()) == pytest.approx(0.0455, abs=0.005)


def test_truncated_normal_is_a_normal_without_its_tails(make_run: MakeRun) -> None:
    draws = Streams(make_run("vae"), CPU).truncated_normal((100, 1000), "train", 1, "a")
    assert draws.dtype == torch.float32 and draws.shape == (100, 1000)
    assert 1.99 < float(draws.abs().max()) <= 2
    assert abs(float(draws.mean())) < 0.02
    assert float(draws.std()) == pytest.approx(0.8796, abs=0.01)  # of N(0, 1) given |x| <= 2; clamped: 0.96
    assert float((draws.abs() < 1).float().mean()) == pytest.approx(0.6827 / 0.9545, abs=0.01)


def test_permutation_holds_every_item_once(make_run: MakeRun) -> None:
    order = Streams(make_run("vae"), CPU).permutation(1000, "train", 1, "a")
    assert order.dtype == torch.int64
    assert torch.equal(order.sort().values, torch.arange(1000)) and not torch.equal(order, torch.arange(1000))


def test_neighbouring_keys_have_different_seeds(make_run: MakeRun) -> None:
    """As ("p", 12, "q") and ("p1", 2, "q") would not have without a separator."""
    streams = Streams(make_run("vae"), CPU)
    keys = [(phase, step, purpose) for phase in ("p", "p1") for step in range(2000) for purpose in ("q", "1q")]
    assert len({streams.generator(*key).initial_seed() for key in keys}) == len(keys)
