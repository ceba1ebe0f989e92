"""A checkpoint's figures: against known extremes, plain numpy, other batch sizes, and themselves when repeated."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wae_core.data.images import ImageData
from wae_core.evaluation import evaluator as module
from wae_core.evaluation.evaluator import Evaluator
from wae_core.evaluation.features import FeatureNetwork, load_features
from wae_core.evaluation.frechet import frechet_distance
from wae_core.evaluation.selection import Evaluation
from wae_core.evaluation.sharpness import sharpness
from wae_core.networks import AutoEncoder, build_autoencoder
from wae_core.run import Run
from wae_core.snapshot import Snapshot
from wae_core.training.loop import train
from wae_core.training.state import TrainingState

CPU = torch.device("cpu")
MakeRun = Callable[..., Run]


class Pool(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(images.float() / 255, 4).flatten(1)


def pooled(channels: int = 1) -> FeatureNetwork:
    """Features that cost next to nothing and depend on every pixel: 4×4 means of 28×28 images."""
    return FeatureNetwork("pooled", 49 * channels, Pool())


class Shown(nn.Module):
    """A decoder whose sigmoid is the given images in turn, whatever the codes."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self._images = itertools.cycle(images)
        self.codes: list[Tensor] = []

    def forward(self, z: Tensor) -> Tensor:
        self.codes.append(z)
        return torch.logit(torch.stack([next(self._images) for _ in z]).double() / 255).float()


class Encoded(nn.Module):
    """An encoder with the same mean and log variance for all images."""

    def __init__(self, mean: Tensor, log_variance: Tensor | None = None) -> None:
        super().__init__()
        self.mean, self.log_variance = mean, log_variance

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        mean = self.mean.expand(len(x), -1)
        return mean, None if self.log_variance is None else self.log_variance.expand(len(x), -1)


def checkpoint(model: Any, step: int = 2) -> Snapshot:
    return Snapshot(step, model, loss=1.5, penalty=-0.25, diverged_at=None)


def shown(images: Tensor) -> AutoEncoder:
    return AutoEncoder(Encoded(torch.zeros(4)), Shown(images), (0.0, 1.0))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def evaluator(digits: ImageData) -> Evaluator:
    return Evaluator(digits, pooled(), CPU)


@pytest.fixture
def model(make_run: MakeRun, few_digits: ImageData) -> AutoEncoder:
    """A stochastic model after a few steps, so that its batch norms have statistics."""
    run = make_run("vae", width=4, learning_rate=0.01)
    state = TrainingState(run, few_digits, CPU)
    for _ in train(run, few_digits, CPU, state):
        pass
    return state.autoencoder


@pytest.mark.slow
def test_the_fid_of_real_images_is_small_and_of_useless_ones_large(
    make_run: MakeRun, digits: ImageData, evaluator: Evaluator, model: AutoEncoder
) -> None:
    run = make_run("vae", fid_samples=1000)
    real = digits.train[torch.randperm(4000, generator=torch.Generator().manual_seed(0))[:1000]]

    def fid(model: AutoEncoder) -> float:
        return evaluator.evaluate(run, checkpoint(model), 0.0).fid

    perfect = fid(shown(real))
    assert 0 < perfect < 0.1
    assert fid(shown(digits.held_out)) == pytest.approx(0, abs=1e-9)  # the reference itself
    assert fid(shown(real[:1])) > 20 * perfect  # one image again and again
    assert fid(shown(255 - real)) > 100 * perfect
    assert fid(model) > 20 * perfect  # hardly trained


def test_the_study_s_own_features_tell_real_from_untrained(make_run: MakeRun, digits: ImageData) -> None:
    features = load_features("digits", CPU)
    run, evaluator = make_run("vae", fid_samples=500), Evaluator(digits, features, CPU)
    assert evaluator.features_name == features.name
    untrained = TrainingState(run, digits, CPU).autoencoder
    perfect, useless = (evaluator.confirm(run, model, 1).fid for model in (shown(digits.train[:500]), untrained))
    assert useless > 20 * perfect > 0


def distance(images: Tensor, reference: Tensor) -> float:
    """The Fréchet distance of pooled features, their Gaussians fitted by numpy."""
    fitted = []
    for part in (images, reference):
        features = pooled()(part).double().numpy()
        fitted += [features.mean(0), np.cov(features.T)]
    return frechet_distance(*fitted)


def test_the_fid_is_that_of_the_samples_and_the_held_out_images(
    make_run: MakeRun, digits: ImageData, evaluator: Evaluator
) -> None:
    run, samples = make_run("vae", fid_samples=300), digits.train[:300]
    expected = distance(samples, digits.held_out)
    assert evaluator.evaluate(run, checkpoint(shown(samples)), 0.0).fid == pytest.approx(expected, rel=1e-6)
    assert evaluator.confirm(run, shown(samples), 2).fid == pytest.approx(expected, rel=1e-6)
    assert evaluator.reference_name == "digits/held_out/1000" and evaluator.features_name == "pooled"


def test_confirmation_draws_fresh_samples(make_run: MakeRun, evaluator: Evaluator, model: AutoEncoder) -> None:
    run = make_run("vae", fid_samples=500)
    evaluated = evaluator.evaluate(run, checkpoint(model), 0.0).fid
    confirmed = evaluator.confirm(run, model, 2)
    assert confirmed.fid != evaluated and confirmed.fid == pytest.approx(evaluated, rel=0.2)
    assert evaluator.confirm(run, model, 2) == confirmed


def test_fid_infinity_extrapolates_from_the_two_halves(
    make_run: MakeRun, digits: ImageData, evaluator: Evaluator
) -> None:
    run, samples = make_run("vae", fid_samples=400), digits.train[:400]
    whole, first, second = (distance(part, digits.held_out) for part in (samples, samples[:200], samples[200:]))
    confirmation = evaluator.confirm(run, shown(samples), 2)
    # If FID_n = FID_∞ + b/n, then FID_∞ = 2 FID_n − FID_{n/2}.
    assert confirmation.fid_infinity == pytest.approx(2 * whole - (first + second) / 2, rel=1e-5)


def test_the_figures_of_real_images(digits: ImageData, evaluator: Evaluator) -> None:
    real = evaluator.real_images(4000)
    assert real.count == 4000 and evaluator.real_images(9999).count == 4000
    assert real.fid == pytest.approx(distance(digits.train, digits.held_out), rel=1e-9)
    assert real.sharpness == pytest.approx(sharpness(digits.held_out.float() / 255), rel=1e-6)


def test_the_reference_is_of_the_split_and_the_count_that_are_asked_for(make_run: MakeRun, digits: ImageData) -> None:
    evaluator, run = Evaluator(digits, pooled(), CPU, "train", 600), make_run("vae", fid_samples=300)
    assert evaluator.reference_name == "digits/train/600"
    expected = distance(digits.held_out[:300], digits.train[:600])
    assert evaluator.confirm(run, shown(digits.held_out[:300]), 2).fid == pytest.approx(expected, rel=1e-6)
    real = evaluator.real_images(300)
    assert real.fid == pytest.approx(expected, rel=1e-6), "never the reference against itself"
    assert (real.split, real.count) == ("held_out", 300)


@pytest.mark.slow
def test_real_against_real_shrinks_with_the_references_and_below_the_dimension_there_is_a_warning(
    digits: ImageData,
) -> None:
    features, counts = load_features("digits", CPU), (6, 30, 63, 64, 300, 1000)
    evaluators = [Evaluator(digits, features, CPU, "held_out", count) for count in counts]
    fids = [evaluator.real_images(1000).fid for evaluator in evaluators]
    assert fids == sorted(fids, reverse=True)
    assert fids[0] > 20 * fids[-1] and fids[1] > 5 * fids[-1]
    warnings = [evaluator.warning(1000) for evaluator in evaluators]
    assert [warning is None for warning in warnings] == [False, False, False, True, True, True]
    assert warnings[1] is not None and warnings[1].startswith("30 reference images for 64 feature dimensions")
    assert "20 samples and 63 reference images" in (evaluators[2].warning(20) or "")
    assert evaluators[-1].warning(63) is not None and evaluators[-1].warning(64) is None


def test_a_thousand_real_images_are_nearly_as_near_as_four_thousand(evaluator: Evaluator) -> None:
    assert evaluator.real_images(1000).fid < 3 * evaluator.real_images(4000).fid


@pytest.mark.slow
def test_samples_come_from_the_prior_and_differ_by_phase_step_and_seed(
    make_run: MakeRun, digits: ImageData, evaluator: Evaluator
) -> None:
    run = make_run("wae-mmd", fid_samples=1000, prior_variance=2.0)

    def codes(draw: Callable[[AutoEncoder], Any]) -> Tensor:
        model = shown(digits.train[:100])
        draw(model)
        assert isinstance(model.decoder, Shown)
        return torch.cat(model.decoder.codes)[:1000]  # reconstructions come after the samples

    drawn = [
        codes(lambda model: evaluator.evaluate(run, checkpoint(model), 0.0)),
        codes(lambda model: evaluator.evaluate(run, checkpoint(model, step=3), 0.0)),
        codes(lambda model: evaluator.evaluate(replace(run, seed=1), checkpoint(model), 0.0)),
        codes(lambda model: evaluator.confirm(run, model, 2)),
    ]
    for z in drawn:
        assert z.shape == (1000, 4)
        assert float(z.var()) == pytest.approx(2.0, rel=0.1) and abs(float(z.mean())) < 0.1
    assert not any(torch.isclose(a, b).all(dim=1).any() for a, b in itertools.combinations(drawn, 2))


def test_figures_repeat_exactly(make_run: MakeRun, evaluator: Evaluator, model: AutoEncoder) -> None:
    run = make_run("vae")
    first = evaluator.evaluate(run, checkpoint(model), 0.0)
    torch.manual_seed(5)
    model.train()
    assert evaluator.evaluate(run, checkpoint(model), 0.0) == first
    assert all(math.isfinite(value) for value in asdict(first).values())


@pytest.mark.slow
@pytest.mark.parametrize("batch", [7, 64])
@pytest.mark.parametrize("network", ["pooled", "digits"])
def test_figures_do_not_depend_on_the_batch_size(
    make_run: MakeRun,
    digits: ImageData,
    model: AutoEncoder,
    monkeypatch: pytest.MonkeyPatch,
    network: str,
    batch: int,
) -> None:
    features = pooled() if network == "pooled" else load_features(network, CPU)

    def figures() -> dict[str, float]:
        evaluator, run = Evaluator(digits, features, CPU), make_run("vae")
        parts = (
            evaluator.evaluate(run, checkpoint(model), 0.0),
            evaluator.confirm(run, model, 2),
            evaluator.real_images(300),
        )
        return {f"{type(part).__name__}.{name}": value for part in parts for name, value in asdict(part).items()}

    whole = figures()
    monkeypatch.setattr(module, "BATCH", batch)
    assert figures() == pytest.approx(whole, rel=1e-4, abs=1e-6)


def test_evaluating_leaves_the_model_as_it_was_and_in_evaluation_mode(
    make_run: MakeRun, evaluator: Evaluator, model: AutoEncoder
) -> None:
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for evaluate in (
        lambda: evaluator.evaluate(make_run("vae"), checkpoint(model.train()), 0.0),
        lambda: evaluator.confirm(make_run("vae"), model.train(), 2),
    ):
        evaluate()
        assert not any(module.training for module in model.modules())
        assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["wae-mmd", "wae-gan", "vae"])
def test_evaluating_between_steps_does_not_change_training(
    make_run: MakeRun, few_digits: ImageData, evaluator: Evaluator, algorithm: str
) -> None:
    run, ends = make_run(algorithm), []
    for evaluates in (False, True):
        state = TrainingState(run, few_digits, CPU)
        for reached in train(run, few_digits, CPU, state):
            if evaluates:
                evaluator.evaluate(run, reached, state.train_seconds)
                evaluator.confirm(run, reached.autoencoder, reached.step)
        ends.append(state.tensors())
    assert all(ends[0][name].equal(ends[1][name]) for name in ends[0])


def test_figures_of_the_checkpoint_are_handed_on(make_run: MakeRun, evaluator: Evaluator, model: AutoEncoder) -> None:
    figures = evaluator.evaluate(make_run("vae"), checkpoint(model, step=4), 12.5)
    assert isinstance(figures, Evaluation)
    assert (figures.step, figures.loss, figures.penalty, figures.train_seconds) == (4, 1.5, -0.25, 12.5)


# --- what is not finite ---


def test_weights_that_are_nan_give_a_nan_fid(make_run: MakeRun, evaluator: Evaluator, model: AutoEncoder) -> None:
    for parameter in model.parameters():
        nn.init.constant_(parameter, math.nan)
    figures = evaluator.evaluate(make_run("vae"), checkpoint(model), 0.0)
    assert math.isnan(figures.fid) and math.isnan(evaluator.confirm(make_run("vae"), model, 2).fid)
    assert math.isnan(figures.reconstruction_error) and math.isnan(figures.latent_mmd)


@pytest.mark.parametrize("index", [0, 199])  # in the first batch, in the last
def test_a_single_nan_pixel_gives_a_nan_fid(
    make_run: MakeRun, digits: ImageData, evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch, index: int
) -> None:
    monkeypatch.setattr(module, "BATCH", 50)
    images = digits.train[:200].float()
    assert math.isfinite(evaluator.confirm(make_run("vae"), shown(images), 2).fid)
    images[index, 0, 5, 5] = math.nan
    confirmation = evaluator.confirm(make_run("vae"), shown(images), 2)
    assert math.isnan(confirmation.fid) and math.isnan(confirmation.fid_infinity)
    assert math.isnan(evaluator.evaluate(make_run("vae"), checkpoint(shown(images)), 0.0).fid)


# --- sharpness ---


def test_sharpness_is_that_of_the_first_thousand_samples(
    make_run: MakeRun, digits: ImageData, evaluator: Evaluator
) -> None:
    run = make_run("vae", fid_samples=1200)
    blank = torch.full((200, 1, 28, 28), 128, dtype=torch.uint8)
    images = torch.cat([digits.train[:1000], blank])
    expected = sharpness(digits.train[:1000].float() / 255)
    assert evaluator.evaluate(run, checkpoint(shown(images)), 0.0).sharpness == pytest.approx(expected, rel=1e-6)
    assert evaluator.evaluate(run, checkpoint(shown(blank)), 0.0).sharpness == 0


# --- reconstruction ---


def reconstruction_error(model: AutoEncoder, images: Tensor, low: float, high: float) -> float:
    """Mean squared error per pixel and channel in [0, 1], in plain numpy from the networks' outputs on."""
    model.eval()
    x = images.double().numpy() / 255
    with torch.no_grad():
        logits = model.decoder(model.encoder(torch.from_numpy(x * (high - low) + low).float())[0])
    y = 1 / (1 + np.exp(-logits.double().numpy() * (1 if low == 0 else 2)))  # tanh(u) = 2 sigmoid(2u) − 1
    return float(np.mean((x - y) ** 2))


@pytest.mark.parametrize("channels", [1, 3])
def test_reconstruction_errors_against_numpy(make_run: MakeRun, few_digits: ImageData, channels: int) -> None:
    """The mean code is decoded, though the encoder is stochastic; grey and colour images alike are in [0, 1]."""
    train, held_out = (part[:100].repeat(1, channels, 1, 1) for part in (few_digits.train, few_digits.held_out))
    data = ImageData("few", train, held_out)
    torch.manual_seed(0)
    model = build_autoencoder(
        "dcgan_small", data.image_shape, data.pixel_range, latent_dim=4, width=4, stochastic=True
    )
    for parameter in model.parameters():
        parameter.data.mul_(2)  # untrained, but with codes and pixels away from the middle
    evaluator = Evaluator(data, pooled(channels), CPU)
    figures = evaluator.evaluate(make_run("vae", evaluation_images=100), checkpoint(model), 0.0)
    expected = [reconstruction_error(model, part, *data.pixel_range) for part in (held_out, train)]
    assert [figures.reconstruction_error, figures.train_reconstruction_error] == pytest.approx(expected, rel=1e-5)
    assert expected[0] != pytest.approx(expected[1], rel=1e-4)


def test_a_perfect_reconstruction_has_no_error(make_run: MakeRun, few_digits: ImageData) -> None:
    class Identity(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return x.flatten(1), None

    class Logit(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return torch.logit(z.clamp(0, 1)).reshape(-1, 1, 28, 28)

    identity: Any = Identity()
    run = make_run("wae-mmd", latent_dim=784, evaluation_images=100)
    figures = Evaluator(few_digits, pooled(), CPU).evaluate(
        run, checkpoint(AutoEncoder(identity, Logit(), (0.0, 1.0))), 0.0
    )
    assert figures.reconstruction_error == pytest.approx(0, abs=1e-12)
    assert figures.train_reconstruction_error == pytest.approx(0, abs=1e-12)


def test_reconstruction_errors_are_over_every_class(
    make_run: MakeRun, digits: ImageData, digit_classes: dict[bytes, int], evaluator: Evaluator
) -> None:
    """The file is ordered by class: its first 250 images are not a sample of it."""
    model, seen = shown(digits.train[:1]), []
    model.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    evaluator.evaluate(make_run("vae", evaluation_images=250), checkpoint(model), 0.0)
    assert [len(x) for x in seen[:2]] == [250, 250]  # held-out images, then training images
    for x in seen[:2]:
        images = (x * 255).round().to(torch.uint8)
        counts = np.bincount([digit_classes[image.numpy().tobytes()] for image in images], minlength=10)
        assert counts.min() >= 10


# --- latent mismatch ---


def latent_mmd(evaluator: Evaluator, run: Run, images: Tensor, mean: float, log_variance: float | None) -> float:
    spread = None if log_variance is None else torch.full((4,), log_variance)
    encoder: Any = Encoded(torch.full((4,), mean), spread)
    return evaluator.evaluate(run, checkpoint(AutoEncoder(encoder, Shown(images), (0.0, 1.0))), 0.0).latent_mmd


def test_latent_mmd_is_zero_for_the_prior_alone(make_run: MakeRun, digits: ImageData, evaluator: Evaluator) -> None:
    run = make_run("wae-mmd", prior_variance=2.0)
    images = digits.train[:1]
    assert abs(latent_mmd(evaluator, run, images, 0.0, math.log(2.0))) < 0.01
    assert latent_mmd(evaluator, run, images, 0.0, 0.0) > 0.02  # too narrow
    assert latent_mmd(evaluator, run, images, 1.0, math.log(2.0)) > 0.1  # off the centre
    assert latent_mmd(evaluator, run, images, 0.0, None) > 0.3  # all in one point


def test_latent_mmd_is_unbiased(make_run: MakeRun, digits: ImageData, evaluator: Evaluator) -> None:
    """Encoder noise that were the prior's own draws would be paired with them, and always give about −0.006."""
    model = AutoEncoder(Encoded(torch.zeros(4), torch.zeros(4)), Shown(digits.train[:1]), (0.0, 1.0))  # type: ignore[arg-type]
    figures = [evaluator.evaluate(make_run("vae"), checkpoint(model, step), 0.0) for step in range(1, 9)]
    assert min(figure.latent_mmd for figure in figures) < 0 < max(figure.latent_mmd for figure in figures)


def test_latent_mmd_has_one_kernel_whatever_the_penalty(
    make_run: MakeRun, digits: ImageData, evaluator: Evaluator
) -> None:
    narrow, wide = (
        latent_mmd(evaluator, make_run("wae-mmd", kernel_scale=scale), digits.train[:1], 0.5, 0.0)
        for scale in (0.1, 16.0)
    )
    assert narrow == wide


def test_latent_mmd_of_a_single_point_against_its_exact_value(
    make_run: MakeRun, digits: ImageData, evaluator: Evaluator
) -> None:
    """Codes all at 0: 7 + E k(z, z') − 2 E k(z, 0), by quadrature over ||z||² ~ σ²·χ²(4), C = 2·d·σ²."""
    variance, d = 2.0, 4
    scale = 2 * d * variance
    u = np.linspace(0, 80, 400_001)[1:]
    density = u / 4 * np.exp(-u / 2)  # χ²(4)

    def mean_kernel(spread: float) -> float:
        terms = [s * scale / (s * scale + spread * u) for s in (0.1, 0.2, 0.5, 1, 2, 5, 10)]
        return float(np.sum(sum(terms) * density) * (u[1] - u[0]))

    expected = 7 + mean_kernel(2 * variance) - 2 * mean_kernel(variance)
    run = make_run("wae-mmd", prior_variance=variance)
    assert latent_mmd(evaluator, run, digits.train[:1], 0.0, None) == pytest.approx(expected, rel=0.05)
