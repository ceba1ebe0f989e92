"""The training loop: exact resumption, divergence, batches, noise, pre-training, and no wait inside a step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal
from torch.utils._python_dispatch import TorchDispatchMode

from tests.wae_core.variants import VARIANTS, every_variant
from wae_core.algorithms.algorithm import Batch
from wae_core.algorithms.mmd import mmd_squared
from wae_core.algorithms.objectives import moment_mismatch
from wae_core.data.images import ImageData, to_float
from wae_core.randomness import StepDraws, Streams
from wae_core.run import Run
from wae_core.snapshot import Snapshot
from wae_core.storage.checkpoint import load_checkpoint, save_checkpoint
from wae_core.training.adam import Adam
from wae_core.training.loop import _pretrain, train
from wae_core.training.members import Solo
from wae_core.training.state import TrainingState
from wae_core.training.step import draw_shapes, update

CPU = torch.device("cpu")
MakeRun = Callable[..., Run]
LONG: dict[str, Any] = {  # an epoch has 5 steps
    "steps": 12,
    "evaluation_steps": (3, 8, 12),
    "learning_rate_drops": ((1, 2.0), (2, 5.0)),
}


def figures(checkpoint: Snapshot) -> tuple[int, float, float, int | None]:
    return checkpoint.step, checkpoint.loss, checkpoint.penalty, checkpoint.diverged_at


def train_through(run: Run, data: ImageData, state: TrainingState | None = None) -> tuple[list[Any], TrainingState]:
    """The figures of all checkpoints, and the state at the end."""
    state = state or TrainingState(run, data, CPU)
    return [figures(checkpoint) for checkpoint in train(run, data, CPU, state)], state


def assert_identical(a: TrainingState, b: TrainingState) -> None:
    """Bit for bit: weights, batch-norm statistics, Adam moments and counters."""
    ours, theirs = a.tensors(), b.tensors()
    assert a.step == b.step and ours.keys() == theirs.keys()
    assert [name for name in ours if not ours[name].equal(theirs[name])] == []


def batch_of(run: Run, data: ImageData, x: Tensor, step: int) -> Batch:
    """What the loop hands to a step on the images x [n, C, H, W]: these and the step's random draws."""
    draws = StepDraws([Streams(run, CPU)], draw_shapes(run, data), torch.float32)
    draws.prepare(step)
    return {"x": x[None], **draws.at(torch.tensor([step - 1]))}


def encoder_inputs(state: TrainingState) -> list[Tensor]:
    """Filled, as training goes on, with a copy of what the encoder is given."""
    seen: list[Tensor] = []
    state.autoencoder.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().clone()))
    return seen


# --- the loop ---


@pytest.mark.slow
@every_variant
def test_every_variant_trains(make_run: MakeRun, few_digits: ImageData, algorithm: str, encoder: str | None) -> None:
    run = make_run(algorithm, encoder=encoder, steps=25, evaluation_steps=(5, 20, 25), learning_rate=3e-3)
    history, state = train_through(run, few_digits)
    assert [step for step, *_ in history] == [5, 20, 25]
    assert all(math.isfinite(loss) and math.isfinite(penalty) and bad is None for _, loss, penalty, bad in history)
    assert history[-1][1] < history[0][1]
    assert state.step == 25 and state.autoencoder.encoder.stochastic == run.is_stochastic


@pytest.mark.slow
@every_variant
@pytest.mark.parametrize("interruption", [0, 1])
def test_an_interrupted_run_ends_bit_for_bit_where_the_undisturbed_one_does(
    make_run: MakeRun,
    few_digits: ImageData,
    tmp_path: Path,
    algorithm: str,
    encoder: str | None,
    interruption: int,
) -> None:
    run = make_run(algorithm, encoder=encoder, **LONG)
    undisturbed, end = train_through(run, few_digits)

    path, killed = tmp_path / "step.safetensors", TrainingState(run, few_digits, CPU)
    for number, checkpoint in enumerate(train(run, few_digits, CPU, killed)):
        if number == interruption:
            content: dict[str, Any] = {"step": killed.step, "train_seconds": killed.train_seconds}
            save_checkpoint(path, killed.tensors(), content)
            assert checkpoint.step == killed.step
            break

    tensors, content = load_checkpoint(path)
    resumed = TrainingState(run, few_digits, CPU)
    resumed.load(tensors, **content)
    resumed.autoencoder.eval()  # as whoever evaluated it left it
    history, resumed = train_through(run, few_digits, resumed)
    assert history == undisturbed[interruption + 1 :]
    assert_identical(resumed, end)
    assert resumed.train_seconds > content["train_seconds"] > 0


@pytest.mark.slow
@every_variant
def test_what_is_done_between_steps_does_not_change_training(
    make_run: MakeRun, few_digits: ImageData, algorithm: str, encoder: str | None
) -> None:
    run = make_run(algorithm, encoder=encoder, **LONG)
    undisturbed, end = train_through(run, few_digits)
    state, history = TrainingState(run, few_digits, CPU), []
    for checkpoint in train(run, few_digits, CPU, state):
        history.append(figures(checkpoint))
        model = checkpoint.autoencoder.eval()
        with torch.no_grad():
            model.images(model.encoder(to_float(few_digits.held_out, (0.0, 1.0)))[0])
        torch.manual_seed(checkpoint.step)
        torch.rand(7)
        Streams(run, CPU).normal((3,), "evaluation", checkpoint.step, "samples")
    assert history == undisturbed
    assert_identical(state, end)


def test_evaluating_more_often_does_not_change_training(make_run: MakeRun, few_digits: ImageData) -> None:
    _, often = train_through(make_run("wae-gan", steps=6, evaluation_steps=(1, 2, 3, 4, 5, 6)), few_digits)
    _, once = train_through(make_run("wae-gan", steps=6, evaluation_steps=(6,)), few_digits)
    assert_identical(often, once)


def test_loss_and_penalty_are_means_over_the_steps_since_the_checkpoint_before(
    make_run: MakeRun, few_digits: ImageData
) -> None:
    single, _ = train_through(make_run("vae", steps=7, evaluation_steps=tuple(range(1, 8))), few_digits)
    means, _ = train_through(make_run("vae", steps=7, evaluation_steps=(2, 7)), few_digits)
    for (begin, end), (_, loss, penalty, _) in zip(pairwise((0, 2, 7)), means, strict=True):
        part = single[begin:end]
        assert loss == pytest.approx(sum(figure[1] for figure in part) / len(part), rel=1e-6)
        assert penalty == pytest.approx(sum(figure[2] for figure in part) / len(part), rel=1e-6)


def test_seeds_and_configurations_train_differently(make_run: MakeRun, few_digits: ImageData) -> None:
    changes: list[dict[str, int]] = [{}, {"seed": 1}, {"config_index": 1}, {"study_seed": 1}]
    losses = [train_through(make_run("wae-mmd", **change), few_digits)[0][-1][1] for change in changes]
    assert len(set(losses)) == len(losses)


def test_train_seconds_leave_out_what_is_done_between_steps(make_run: MakeRun, few_digits: ImageData) -> None:
    run, began = make_run("vae"), time.perf_counter()
    state = TrainingState(run, few_digits, CPU)
    for _ in train(run, few_digits, CPU, state):
        time.sleep(0.3)
    assert 0 < state.train_seconds < time.perf_counter() - began - 0.6


def test_a_finished_run_yields_nothing_more(make_run: MakeRun, few_digits: ImageData) -> None:
    _, state = train_through(make_run("wae-mmd"), few_digits)
    before = state.tensors()
    assert train_through(make_run("wae-mmd"), few_digits, state)[0] == []
    assert all(before[name].equal(tensor) for name, tensor in state.tensors().items())


def test_a_batch_larger_than_the_data_set_is_refused(make_run: MakeRun, few_digits: ImageData) -> None:
    run = make_run("vae", batch_size=201)
    with pytest.raises(ValueError, match="batch_size 201 exceeds the 200 images of digits"):
        next(train(run, few_digits, CPU, TrainingState(run, few_digits, CPU)))
    whole = make_run("vae", batch_size=200)
    next(train(whole, few_digits, CPU, TrainingState(whole, few_digits, CPU)))


def test_learning_rates_of_all_optimisers_drop_after_their_epochs(
    make_run: MakeRun, few_digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(
        "wae-gan", **LONG, learning_rate=0.004, adversary_learning_rate=0.02, pretraining_steps=0
    )  # ÷2 after 1, ÷5 more after 2
    rates: list[float] = []
    descend = Adam.descend

    def recorded(optimiser: Adam, loss: Tensor) -> None:
        rates.extend(optimiser.learning_rate.tolist())
        descend(optimiser, loss)

    monkeypatch.setattr(Adam, "descend", recorded)
    train_through(run, few_digits)
    assert rates[1::2] == pytest.approx([0.004] * 5 + [0.002] * 5 + [0.0004] * 2)
    assert rates[0::2] == pytest.approx([0.02] * 5 + [0.01] * 5 + [0.002] * 2)


# --- divergence ---


@every_variant
def test_a_diverged_run_ends_and_names_the_first_bad_step(
    make_run: MakeRun, few_digits: ImageData, algorithm: str, encoder: str | None
) -> None:
    overrides = {"encoder": encoder, "learning_rate": 1e30, "steps": 9, "pretraining_steps": 0}
    single, _ = train_through(make_run(algorithm, evaluation_steps=tuple(range(1, 10)), **overrides), few_digits)
    assert all(math.isfinite(loss) and bad is None for _, loss, _, bad in single[:-1])
    step, loss, _, first_bad = single[-1]
    assert not math.isfinite(loss) and first_bad == step < 9

    history, state = train_through(make_run(algorithm, evaluation_steps=(7, 9), **overrides), few_digits)
    assert len(history) == 1 and state.step == 7  # the step 9 is not reached
    assert history[0][0] == 7 and history[0][3] == first_bad and not math.isfinite(history[0][1])


def test_a_run_that_diverges_later_was_finite_before(make_run: MakeRun, few_digits: ImageData) -> None:
    run = make_run("vae", steps=9, evaluation_steps=(3, 8, 9))
    state, history = TrainingState(run, few_digits, CPU), []
    for checkpoint in train(run, few_digits, CPU, state):
        history.append(figures(checkpoint))
        state.optimisers[0].learning_rate.fill_(1e30)  # spoils the weights in step 4, so the loss of step 5
    assert [(step, bad) for step, _, _, bad in history] == [(3, None), (8, 5)]


# --- one step ---


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that on an accelerator would wait for a result."""

    NAMES = ("_local_scalar_dense", "item", "nonzero", "is_nonzero", "masked_select", "equal", "_unique2")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.overloadpacket.__name__ in self.NAMES:
            self.seen.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


@every_variant
def test_no_step_waits_for_the_device(
    make_run: MakeRun, few_digits: ImageData, algorithm: str, encoder: str | None
) -> None:
    run = make_run(algorithm, encoder=encoder)
    state = TrainingState(run, few_digits, CPU)
    batch = batch_of(run, few_digits, to_float(few_digits.train[:40], (0.0, 1.0)), 1)
    with Waits() as waits:
        losses = update(run, Solo(run, state), batch)
    assert losses.shape == (1, 2) and not losses.requires_grad
    assert waits.seen == []


def test_the_loop_waits_at_evaluations_alone(make_run: MakeRun, few_digits: ImageData) -> None:
    counts = []
    for steps in (1, 11):  # 11 steps: three epochs
        run = make_run("vae", steps=steps, evaluation_steps=(steps,))
        state = TrainingState(run, few_digits, CPU)
        with Waits() as waits:
            train_through(run, few_digits, state)
        counts.append(len(waits.seen))
    assert counts[0] == counts[1]


def clean_batch(x: Tensor) -> Tensor:
    """The images under the input noise, which is less than half a level of 255."""
    return (x * 255).round() / 255


WRITTEN_OUT = ("wae-mmd", "wae-gan", "vae")


def written_out_losses(run: Run, state: TrainingState, x: Tensor, z: Tensor, noise: Tensor) -> dict[str, Tensor]:
    """The losses of study.md's section 1 with the networks of `state`, x as the encoder sees it."""
    hyperparameters: Any = run.hyperparameters
    protocol = run.protocol
    mean, log_variance = state.autoencoder.encoder(x)
    codes = mean if log_variance is None else mean + noise * torch.sqrt(torch.exp(log_variance))
    images = torch.sigmoid(state.autoencoder.decoder(codes))
    errors = (clean_batch(x) - images).square().flatten(1).sum(1)
    cost = (protocol.cost_scale * errors).mean()
    if run.algorithm == "wae-mmd":
        penalty = mmd_squared(z, codes, kernel="imq_sum", scale=hyperparameters.kernel_scale)
        return {"autoencoder": cost + hyperparameters.wae_lambda * penalty, "penalty": penalty}
    if run.algorithm == "wae-gan":
        assert state.discriminator is not None
        prior: Any = Normal(0.0, math.sqrt(protocol.prior_variance))
        heuristic = float(protocol.log_prior)
        d_prior, d_encoded = (
            torch.sigmoid(state.discriminator(at) + heuristic * prior.log_prob(at).sum(1)) for at in (z, codes)
        )
        penalty = -torch.log(d_encoded).mean()
        return {
            "autoencoder": cost + hyperparameters.wae_lambda * penalty,
            "discriminator": -hyperparameters.wae_lambda * (torch.log(d_prior) + torch.log(1 - d_encoded)).mean(),
            "penalty": penalty,
        }
    variance = 1.0  # the VAE's prior is the standard Gaussian whatever the study's is
    kl = 0.5 * ((mean**2 + log_variance.exp()) / variance - 1 - log_variance + math.log(variance)).sum(1)
    likelihood = errors / (2 * hyperparameters.decoder_variance)
    if protocol.vae_likelihood == "bernoulli":
        likelihood = F.binary_cross_entropy(images, clean_batch(x), reduction="none").flatten(1).sum(1)
    return {"autoencoder": (likelihood + kl).mean(), "penalty": kl.mean()}


def gradients(loss: Tensor, network: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(network.parameters())))


@pytest.mark.parametrize(
    ("algorithm", "overrides"),
    [
        *((algorithm, {"encoder": encoder}) for algorithm, encoder in VARIANTS if algorithm in WRITTEN_OUT),
        ("wae-gan", {"log_prior": True}),
        ("vae", {"vae_likelihood": "bernoulli"}),
    ],
)
def test_a_step_descends_the_written_out_loss(
    make_run: MakeRun, few_digits: ImageData, algorithm: str, overrides: dict[str, Any]
) -> None:
    """WAE-GAN: the discriminator first, then encoder and decoder against the updated discriminator, on one batch."""
    run = make_run(algorithm, **overrides, prior_variance=2.0, input_noise=0.0005, adversary_learning_rate=0.05)
    _, state = train_through(run, few_digits)  # four steps away from the symmetric beginning
    before, seen = deepcopy(state), encoder_inputs(state)
    batch = batch_of(run, few_digits, to_float(few_digits.train[40:80], (0.0, 1.0)), 5)
    ((loss, penalty),) = update(run, Solo(run, state), batch)
    assert len(seen) == 1
    torch.testing.assert_close(clean_batch(seen[0]), batch["x"][0], rtol=0, atol=1e-6)

    def gradients_taken(network: int) -> list[Tensor]:
        """What the step's gradients were, by the change of Adam's first moments: m' = m/2 + g/2."""
        pairs = zip(state.optimisers[network].first_moments, before.optimisers[network].first_moments, strict=True)
        return [2 * after - earlier for after, earlier in pairs]

    z = math.sqrt(2.0) * batch["z_prior"][0] if algorithm != "vae" else torch.empty(0)
    noise = batch["encoder"][0] if run.is_stochastic else torch.empty(0)
    if algorithm == "wae-gan":
        assert before.discriminator is not None and state.discriminator is not None
        loss_before = written_out_losses(run, before, seen[0], z, noise)["discriminator"]
        expected = gradients(loss_before, before.discriminator)
        torch.testing.assert_close(gradients_taken(1), expected, rtol=1e-3, atol=1e-6)
        before.discriminator.load_state_dict(state.discriminator.state_dict())
    losses = written_out_losses(run, before, seen[0], z, noise)
    torch.testing.assert_close(loss, losses["autoencoder"].detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(penalty, losses["penalty"].detach(), rtol=1e-4, atol=1e-6)
    expected = gradients(losses["autoencoder"], before.autoencoder)
    torch.testing.assert_close(gradients_taken(0), expected, rtol=1e-3, atol=1e-5)


def test_wae_gan_updates_the_discriminator_once_and_first(
    make_run: MakeRun, few_digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("wae-gan")
    state = TrainingState(run, few_digits, CPU)
    assert state.discriminator is not None
    parameters, order, snapshots = list(state.discriminator.parameters()), [], []
    start, descend = [p.detach().clone() for p in parameters], Adam.descend

    def recorded(optimiser: Adam, loss: Tensor) -> None:
        descend(optimiser, loss)
        order.append(state.optimisers.index(optimiser))
        snapshots.append([p.detach().clone() for p in parameters])

    monkeypatch.setattr(Adam, "descend", recorded)
    x = to_float(few_digits.train[:40], (0.0, 1.0))
    update(run, Solo(run, state), batch_of(run, few_digits, x, 1))
    assert order == [1, 0]
    assert not any(a.equal(b) for a, b in zip(start, snapshots[0], strict=True))
    # The step of encoder and decoder leaves the discriminator as it was.
    assert all(a.equal(b) for a, b in zip(snapshots[0], snapshots[1], strict=True))


def test_the_vae_is_stochastic_without_an_encoder_hyperparameter(make_run: MakeRun, few_digits: ImageData) -> None:
    run = make_run("vae", encoder=None)
    assert run.is_stochastic
    _, state = train_through(run, few_digits)
    _, log_variance = state.autoencoder.encoder(to_float(few_digits.train[:5], (0.0, 1.0)))
    assert log_variance is not None


def test_the_vae_is_stochastic_whatever_the_encoder_hyperparameter(make_run: MakeRun) -> None:
    assert make_run("vae", encoder="deterministic").is_stochastic


# --- batches and input noise ---


@pytest.mark.parametrize(("batch_size", "steps"), [(40, 5), (30, 6), (200, 1)])
def test_the_batches_of_an_epoch_hold_no_image_twice(
    make_run: MakeRun, few_digits: ImageData, batch_size: int, steps: int
) -> None:
    run = make_run("vae", batch_size=batch_size, steps=2 * steps, evaluation_steps=(2 * steps,))
    state = TrainingState(run, few_digits, CPU)
    seen = encoder_inputs(state)
    train_through(run, few_digits, state)
    images = {image.numpy().tobytes() for image in to_float(few_digits.train, (0.0, 1.0))}
    assert len(images) == 200

    assert {len(batch) for batch in seen} == {batch_size} and len(seen) == 2 * steps
    epochs = [[x.contiguous().numpy().tobytes() for x in torch.cat(seen[i : i + steps])] for i in (0, steps)]
    for epoch in epochs:
        assert len(epoch) == len(set(epoch)) == steps * batch_size
        assert set(epoch) <= images
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("algorithm", ["wae-mmd", "wae-gan"])
def test_deterministic_encoders_see_noise_truncated_at_two_sigma(
    make_run: MakeRun, few_digits: ImageData, algorithm: str
) -> None:
    sigma = 0.0005  # so small that the image underneath is the nearest of the 256 levels
    run = make_run(algorithm, input_noise=sigma, pretraining_steps=0)
    state = TrainingState(run, few_digits, CPU)
    seen = encoder_inputs(state)
    train_through(run, few_digits, state)
    noise = torch.stack([x - clean_batch(x) for x in seen])
    assert 1.98 * sigma < float(noise.abs().max()) < 2.001 * sigma
    assert float(noise.std()) == pytest.approx(0.8796 * sigma, rel=0.01)  # of a normal cut off there
    assert abs(float(noise.mean())) < 0.01 * sigma
    assert float((noise[0] - noise[1]).std()) == pytest.approx(math.sqrt(2) * 0.8796 * sigma, rel=0.01)


@pytest.mark.parametrize(
    ("algorithm", "overrides"),
    [
        ("wae-mmd", {"encoder": "stochastic"}),
        ("wae-gan", {"encoder": "stochastic"}),
        ("vae", {}),
        ("wae-mmd", {"encoder": "deterministic", "input_noise": 0.0, "pretraining_steps": 0}),
    ],
)
def test_other_encoders_see_the_images_themselves(
    make_run: MakeRun, few_digits: ImageData, algorithm: str, overrides: dict[str, Any]
) -> None:
    run = make_run(algorithm, **overrides)
    state = TrainingState(run, few_digits, CPU)
    seen = encoder_inputs(state)
    train_through(run, few_digits, state)
    images = {image.numpy().tobytes() for image in to_float(few_digits.train, (0.0, 1.0))}
    assert {image.contiguous().numpy().tobytes() for image in torch.cat(seen)} <= images


# --- pre-training ---


def mismatch(state: TrainingState, data: ImageData, prior_variance: float) -> float:
    with torch.no_grad():
        codes, _ = state.autoencoder.encoder(to_float(data.train, data.pixel_range))
    return float(moment_mismatch(codes, prior_variance))


def test_pretraining_matches_the_prior_s_moments_with_the_encoder_alone(
    make_run: MakeRun, few_digits: ImageData
) -> None:
    run = make_run("wae-mmd", pretraining_steps=40, learning_rate=0.01, prior_variance=2.0)
    state = TrainingState(run, few_digits, CPU)
    mismatch_before = mismatch(state, few_digits, 2.0)
    before = state.tensors()
    _pretrain(run, few_digits, few_digits.train, state, Streams(run, CPU))
    after = state.tensors()
    moved = {name for name in before if not before[name].equal(after[name])}
    assert mismatch(state, few_digits, 2.0) < 0.5 * mismatch_before
    assert {"autoencoder.encoder.head.weight", "autoencoder.encoder.trunk.0.weight"} <= moved
    assert all(name.startswith("autoencoder.encoder.") for name in moved)  # neither decoder nor Adam moments
    assert state.step == 0


def test_pretraining_stops_when_the_mismatch_is_small(
    make_run: MakeRun, few_digits: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {}
    for enough in (0.0, 1e9):
        monkeypatch.setattr("wae_core.training.loop.PRETRAINING_ENOUGH", enough)
        run = make_run("wae-gan", pretraining_steps=25)
        state = TrainingState(run, few_digits, CPU)
        seen = encoder_inputs(state)
        _pretrain(run, few_digits, few_digits.train, state, Streams(run, CPU))
        counts[enough] = len(seen)
        assert {len(x) for x in seen} == {50}
        assert not seen[0].equal(seen[1])
    assert counts == {0.0: 25, 1e9: 10}


@every_variant
def test_pretraining_comes_once_and_before_deterministic_encoders_alone(
    make_run: MakeRun, few_digits: ImageData, algorithm: str, encoder: str | None
) -> None:
    run = make_run(algorithm, encoder=encoder, pretraining_steps=3)
    state = TrainingState(run, few_digits, CPU)
    seen = encoder_inputs(state)
    for _ in train(run, few_digits, CPU, state):
        break
    sizes = [len(x) for x in seen]
    assert sizes == [50] * 3 * (not run.is_stochastic) + [40] * 2
    seen.clear()
    train_through(run, few_digits, state)  # goes on from step 2
    assert [len(x) for x in seen] == [40] * 2
