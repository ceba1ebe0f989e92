"""What a checkpoint is worth: FID, sharpness, reconstruction error and latent mismatch, measured."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wae_core.algorithms import objectives
from wae_core.algorithms.mmd import mmd_squared
from wae_core.data.images import ImageData, reference_count, reference_name, to_float, to_uint8
from wae_core.device import eager_device, end_step
from wae_core.evaluation.features import FeatureNetwork, feature_network
from wae_core.evaluation.frechet import FrechetReference, too_few_images
from wae_core.evaluation.gaussian import GaussianStatistics
from wae_core.evaluation.selection import Evaluation
from wae_core.evaluation.sharpness import sharpness
from wae_core.names import REFERENCES
from wae_core.networks import AutoEncoder
from wae_core.protocol import Protocol
from wae_core.randomness import Streams
from wae_core.run import Run
from wae_core.snapshot import Snapshot

BATCH = 500  # images per forward pass; changes speed and memory, not the result beyond rounding
SHARPNESS_SAMPLES = 1000  # paper, Section 4
MMD_SAMPLES = 1000  # codes and prior draws of the latent mismatch


@dataclass(frozen=True)
class Confirmation:
    """The kept checkpoint on fresh samples: the lowest of several FIDs is biased low, these are not.

    fid_infinity: estimate at infinitely many samples. FID_N − FID_∞ is proportional to 1/N (Chong & Forsyth 2020,
        arXiv 1911.07023), so 2·FID_N minus the mean FID of the two halves leaves FID_∞.
    """

    fid: float
    fid_infinity: float


@dataclass(frozen=True)
class RealImages:
    """Real against real: the FID of `count` images of another split to the reference; held-out images' sharpness."""

    count: int
    fid: float
    sharpness: float
    split: str
    warning: str | None  # as `too_few_images` says it


def reference_of(protocol: Protocol, folder: Path) -> tuple[str, str | None]:
    """Return what a study's FIDs are measured against, as the column `fid_reference` says it, and `too_few_images`.

    Cheap: neither images nor weights are read.

    Args:
        folder: of packed data sets.

    Raises:
        ValueError: there is no such data set or feature network, or fewer images than are wanted.
    """
    split = protocol.fid_reference
    count = reference_count(protocol.dataset, folder, split, protocol.fid_reference_images)
    warning = too_few_images(feature_network(protocol.fid_features).dim, protocol.fid_samples, count)
    return reference_name(protocol.dataset, split, count), warning


class Evaluator:
    """Scores checkpoints of one data set; the statistics of the reference images are computed once."""

    def __init__(
        self,
        data: ImageData,
        features: FeatureNetwork,
        device: torch.device,
        split: str = "held_out",
        count: int | None = None,
    ) -> None:
        """Compute the statistics of the reference: the first `count` images of a split, or all of it.

        Images on the `eager_device` are used where they are.
        """
        # Where tensors are cut into batches, at once: XLA would make a program of every cut.
        self._data = data.to(eager_device(device))
        self._features, self._device, self._split = features, device, split
        references = self._data.split(split)[:count]
        self._references = len(references)
        self.reference_name = reference_name(data.name, split, len(references))
        statistics = GaussianStatistics(features.dim)
        for batch in _batches(references, device):
            statistics.update(features(batch))
        self._reference = FrechetReference(statistics.mean, statistics.covariance)

    @property
    def features_name(self) -> str:
        return self._features.name

    def warning(self, samples: int) -> str | None:
        """Return what is wrong with an FID of so many samples, as `too_few_images` says it."""
        return too_few_images(self._features.dim, samples, self._references)

    @torch.no_grad()
    def evaluate(self, run: Run, checkpoint: Snapshot, train_seconds: float) -> Evaluation:
        """Score a checkpoint; its networks are left in evaluation mode."""
        model, streams = checkpoint.autoencoder.eval(), self._streams(run)
        samples, finite = self._sample(run, model, streams, "evaluation", checkpoint.step)
        count = run.protocol.evaluation_images
        return Evaluation(
            step=checkpoint.step,
            fid=self._distance(samples) if finite else math.nan,
            sharpness=sharpness(to_float(samples[:SHARPNESS_SAMPLES], (0.0, 1.0))),
            reconstruction_error=self._reconstruction_error(model, self._data.held_out[:count]),
            train_reconstruction_error=self._reconstruction_error(model, self._data.train[:count]),
            latent_mmd=self._latent_mmd(run, model, streams, checkpoint.step),
            loss=checkpoint.loss,
            penalty=checkpoint.penalty,
            train_seconds=train_seconds,
        )

    @torch.no_grad()
    def confirm(self, run: Run, model: AutoEncoder, step: int) -> Confirmation:
        """Score the kept checkpoint once more, on fresh samples."""
        samples, finite = self._sample(run, model.eval(), self._streams(run), "confirm", step)
        if not finite:
            return Confirmation(math.nan, math.nan)
        fid = self._distance(samples)
        halves = [self._distance(half) for half in torch.chunk(samples, 2)]
        return Confirmation(fid, 2 * fid - sum(halves) / 2)

    def real_images(self, count: int) -> RealImages:
        """The figures of real images, beside which a model's can be read; `count` of those that are no reference."""
        (other,) = set(REFERENCES) - {self._split}
        images = self._data.split(other)[:count]
        held_out = self._data.held_out[:SHARPNESS_SAMPLES]
        return RealImages(
            count=len(images),
            fid=self._distance(images),
            sharpness=sharpness(to_float(held_out, (0.0, 1.0))),
            split=other,
            warning=self.warning(len(images)),
        )

    def _streams(self, run: Run) -> Streams:
        return Streams(run, eager_device(self._device))

    def _sample(self, run: Run, model: AutoEncoder, streams: Streams, phase: str, step: int) -> tuple[Tensor, bool]:
        """`fid_samples` images G(z), z ~ P_Z, rounded to 8 bits, and whether all were finite before.

        Returns uint8 [n, C, H, W] on the `eager_device`.
        """
        shape = (run.protocol.fid_samples, run.hyperparameters.latent_dim)
        codes = streams.normal(shape, phase, step, "samples") * run.prior_variance**0.5
        batches, finite = [], []
        for z in _batches(codes, self._device):
            images = model.images(z)
            finite.append(images.isfinite().all())
            batches.append(to_uint8(images, self._data.pixel_range))
        return torch.cat([batch.to(eager_device(self._device)) for batch in batches]), all(map(bool, finite))

    def _distance(self, images: Tensor) -> float:
        statistics = GaussianStatistics(self._features.dim)
        for batch in _batches(images, self._device):
            statistics.update(self._features(batch))
        return self._reference.distance(statistics.mean, statistics.covariance)

    def _reconstruction_error(self, model: AutoEncoder, images: Tensor) -> float:
        low, high = self._data.pixel_range
        sums = []
        for batch in _batches(images, self._device):
            x = to_float(batch, self._data.pixel_range)
            mean, _ = model.encoder(x)
            sums.append((model.images(mean) - x).square().sum(dtype=torch.float64))
        total = sum(each.to(eager_device(self._device)) for each in sums)
        return float(total) / (images.numel() * (high - low) ** 2)

    def _latent_mmd(self, run: Run, model: AutoEncoder, streams: Streams, step: int) -> float:
        images = self._data.held_out[:MMD_SAMPLES]
        shape = (len(images), run.hyperparameters.latent_dim)
        noise = streams.normal(shape, "evaluation", step, "encoder")
        prior = streams.normal(shape, "evaluation", step, "prior") * run.prior_variance**0.5
        codes = []
        pairs = zip(_batches(images, self._device), _batches(noise, self._device), strict=True)
        for x, encoder_noise in pairs:
            mean, log_variance = model.encoder(to_float(x, self._data.pixel_range))
            codes.append(objectives.reparameterise(mean, log_variance, encoder_noise))
        scale = 2.0 * run.hyperparameters.latent_dim * run.prior_variance
        return float(mmd_squared(prior.to(self._device), torch.cat(codes), kernel="imq_sum", scale=scale))


def _batches(tensor: Tensor, device: torch.device) -> Iterator[Tensor]:
    """The parts of BATCH rows, on the device; what is done with each is a step, so that XLA compiles it once."""
    parts = torch.split(tensor, BATCH)
    end_step(device)
    for part in parts:
        yield part.to(device)
        end_step(device)
