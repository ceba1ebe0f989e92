"""FLOPs: the DCGAN pair by hand, and every kind of step and evaluation against torch's counter over the real one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from wae_core import flops
from wae_core.data.images import ImageData
from wae_core.domains import LARGEST_SIZE
from wae_core.evaluation.digit_classifier import DigitFeatures
from wae_core.evaluation.evaluator import Evaluator
from wae_core.evaluation.features import FeatureNetwork
from wae_core.evaluation.inception import InceptionV3
from wae_core.flops import (
    confirmation_flops,
    evaluation_flops,
    pretraining_flops,
    run_flops,
    step_flops,
)
from wae_core.networks import ARCHITECTURES
from wae_core.run import Run
from wae_core.snapshot import Snapshot
from wae_core.training.loop import train
from wae_core.training.state import TrainingState

CPU = torch.device("cpu")
GREY, COLOUR = (1, 28, 28), (3, 64, 64)
MakeRun = Callable[..., Run]


def counted(run: Run, data: ImageData) -> int:
    """What torch counts while the run trains for real."""
    state = TrainingState(run, data, CPU)
    with FlopCounterMode(display=False) as counter:
        for _ in train(run, data, CPU, state):
            pass
    return int(counter.get_total_flops())


@pytest.fixture(scope="module")
def colour() -> ImageData:
    images = torch.randint(256, (30, *COLOUR), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageData("colour", train=images[:20], held_out=images[20:])


def test_the_paper_s_mnist_pair_by_hand(make_run: MakeRun) -> None:
    n, d = 100, 8
    run = make_run("vae", architecture="dcgan", width=128, latent_dim=d, batch_size=n)
    first = 14 * 14 * 4 * 4 * 1 * 128
    convolutions = first + 4 * 4 * (7 * 7 * 128 * 256 + 4 * 4 * 256 * 512 + 2 * 2 * 512 * 1024)
    head = 2 * 2 * 1024 * 2 * d  # a mean and a log variance
    deconvolutions = 4 * 4 * (7 * 7 * 1024 * 512 + 14 * 14 * 512 * 256 + 28 * 28 * 256 * 1)
    multiply_adds = 3 * (convolutions + head + d * 7 * 7 * 1024 + deconvolutions) - first
    assert step_flops(run, GREY) == 2 * n * multiply_adds


def test_the_discriminator_by_hand(make_run: MakeRun) -> None:
    n, d, units = 10, 8, 4 * 16
    first, rest = d * units, 3 * units**2 + units
    learning = 2 * (3 * (first + rest) - first)  # on codes of the prior and of the encoder
    judging = 2 * (first + rest)  # of frozen weights, no gradient is taken
    gan, mmd = (
        make_run(algorithm, width=16, latent_dim=d, batch_size=n, encoder="stochastic")
        for algorithm in ("wae-gan", "wae-mmd")
    )
    vae = make_run("vae", width=16, latent_dim=d, batch_size=n)
    assert step_flops(gan, GREY) - step_flops(vae, GREY) == 2 * n * (learning + judging)
    assert step_flops(mmd, GREY) - step_flops(vae, GREY) == 2 * 5 * n**2 * d


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        ("wae-mmd", {"encoder": "deterministic"}),
        ("wae-mmd", {"encoder": "stochastic"}),
        ("wae-gan", {"encoder": "deterministic", "log_prior": True}),
        ("wae-gan", {"encoder": "stochastic"}),
        ("vae", {"vae_likelihood": "bernoulli"}),
        ("vae", {"without_batch_norm": ("vae",)}),
    ],
)
@pytest.mark.parametrize("architecture", ["dcgan_small", "resnet11v2"])
def test_a_step_is_what_torch_counts(
    make_run: MakeRun, few_digits: ImageData, algorithm: str, options: dict[str, Any], architecture: str
) -> None:
    run = make_run(
        algorithm,
        architecture=architecture,
        width=4,
        latent_dim=5,
        batch_size=7,
        steps=2,
        evaluation_steps=(2,),
        pretraining_steps=0,
        **options,
    )
    assert counted(run, few_digits) == 2 * step_flops(run, GREY)


@pytest.mark.parametrize("architecture", ["dcgan", "resnet50v2"])
def test_a_step_on_colour_images_is_what_torch_counts(
    make_run: MakeRun, colour: ImageData, architecture: str
) -> None:
    run = make_run("vae", architecture=architecture, width=4, batch_size=4, steps=1, evaluation_steps=(1,))
    assert counted(run, colour) == step_flops(run, COLOUR)


@pytest.mark.parametrize("algorithm", ["wae-mmd", "wae-gan"])
def test_pretraining_is_what_torch_counts(make_run: MakeRun, few_digits: ImageData, algorithm: str) -> None:
    run = make_run(algorithm, steps=1, evaluation_steps=(1,))
    assert pretraining_flops(run, GREY) > 0
    assert counted(run, few_digits) == pretraining_flops(run, GREY) + step_flops(run, GREY)
    stochastic = replace(run, hyperparameters=replace(run.hyperparameters, encoder="stochastic"))
    assert pretraining_flops(stochastic, GREY) == 0


def test_evaluation_and_confirmation_are_what_torch_counts(make_run: MakeRun, digits: ImageData) -> None:
    run = make_run("wae-mmd", encoder="stochastic", fid_samples=60, evaluation_images=30)
    evaluator = Evaluator(digits, FeatureNetwork("digits", 64, DigitFeatures().eval()), CPU)
    model = TrainingState(run, digits, CPU).autoencoder
    with FlopCounterMode(display=False) as counter:
        evaluator.evaluate(run, Snapshot(2, model, 0.0, 0.0, None), 0.0)
    assert counter.get_total_flops() == evaluation_flops(run, GREY)
    with FlopCounterMode(display=False) as counter:
        evaluator.confirm(run, model, 2)
    assert counter.get_total_flops() == confirmation_flops(run, GREY)


@pytest.mark.slow
def test_inception_is_what_torch_counts(make_run: MakeRun) -> None:
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        InceptionV3().eval()(torch.empty(1, *COLOUR, dtype=torch.uint8))
    few, some, more = (
        make_run("vae", architecture="dcgan", fid_features="inception", fid_samples=n) for n in (4, 10, 14)
    )
    samples = evaluation_flops(more, COLOUR) - evaluation_flops(few, COLOUR)  # ten generated, and their features
    assert confirmation_flops(some, COLOUR) - samples == 10 * counter.get_total_flops()


def test_a_run_is_the_sum_of_its_parts(make_run: MakeRun) -> None:
    run = make_run("wae-gan")  # 4 steps, 2 evaluations
    parts = (pretraining_flops, step_flops, evaluation_flops, confirmation_flops)
    pretraining, step, evaluation, confirmation = (part(run, GREY) for part in parts)
    assert run_flops(run, GREY) == pretraining + 4 * step + 2 * evaluation + confirmation


def test_counting_leaves_the_global_generator_alone(make_run: MakeRun) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    run_flops(make_run("wae-gan", width=3), GREY)  # a width of no other test: nothing is remembered
    assert torch.rand(1) == expected


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"architecture": "dcgam"}, ["'dcgam'", "dcgan", "resnet50v2"]),
        ({"fid_features": "incepton"}, ["'incepton'", "digits", "inception"]),
        ({"architecture": "resnet50v2", "width": 1}, ["resnet50v2", "width 1", "(1, 28, 28)"]),
    ],
)
def test_what_cannot_be_built_is_refused(make_run: MakeRun, options: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(ValueError, match=r"unknown|cannot be built") as caught:
        run_flops(make_run("vae", **options), GREY)
    for part in named:
        assert part in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_networks_that_are_not_built_count_as_those_that_are(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    run = make_run("wae-gan", architecture=architecture, width=8)
    built = run_flops(run, GREY)
    monkeypatch.setattr(flops, "WIDEST_BUILT", 7)
    for cached in (flops._pair, flops._discriminator):
        cached.cache_clear()
    assert run_flops(run, GREY) == built


@pytest.mark.slow
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_the_widest_networks_with_the_most_codes_are_counted_without_the_memory_that_they_would_take(
    make_run: MakeRun, architecture: str
) -> None:
    run = make_run("wae-gan", architecture=architecture, width=LARGEST_SIZE, latent_dim=LARGEST_SIZE)
    assert step_flops(run, COLOUR) > 10**15
