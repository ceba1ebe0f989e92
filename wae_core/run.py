"""What one model is: its hyperparameters, the protocol that its study fixes, and the run that names it."""

from __future__ import annotations

import re
from dataclasses import dataclass

ALGORITHMS = ("wae-mmd", "wae-gan", "vae")
RUN_ID = re.compile(rf"({'|'.join(ALGORITHMS)})-[0-9]{{5,}}-s[0-9]+")  # whole: it becomes part of paths


@dataclass(frozen=True)
class Hyperparameters:
    """One configuration, as drawn from a search space; None where a hyperparameter does not apply."""

    latent_dim: int
    batch_size: int
    learning_rate: float
    architecture: str
    encoder: str | None = None  # deterministic | stochastic; the VAE's is always stochastic
    adversary_learning_rate: float | None = None  # WAE-GAN
    kernel_scale: float | None = None  # C of the WAE-MMD's kernel
    wae_lambda: float | None = None  # λ of WAE-GAN and WAE-MMD
    decoder_variance: float | None = None  # σ_G² of the VAE


@dataclass(frozen=True)
class Protocol:
    """What a study fixes for every run, so that algorithms and configurations can be compared."""

    dataset: str
    width: int  # channels of the first convolution; every other layer scales with it
    steps: int  # mini-batch steps
    evaluation_steps: tuple[int, ...]  # ascending; the last one is `steps`
    fid_features: str  # feature network of the Fréchet distance
    fid_samples: int  # generated images per FID
    evaluation_images: int  # held-out (and as many training) images per reconstruction error
    prior_variance: float  # σ_z² of the WAEs
    cost_scale: float  # c(x, y) = cost_scale · ||x − y||²
    input_noise: float  # standard deviation of the pixel noise in front of a deterministic encoder
    pretraining_steps: int  # at most so many, on a deterministic encoder
    pretraining_images: int  # batch size of the pre-training
    vae_likelihood: str = "gaussian"  # of the VAE's decoder: gaussian | bernoulli
    without_batch_norm: tuple[str, ...] = ()  # algorithms
    log_prior: bool = False  # add log p_Z(z) to the logit of WAE-GAN's discriminator
    learning_rate_drops: tuple[tuple[int, float], ...] = ()  # (after which epoch, divisor), for all optimisers
    precision: str = "float32"  # of the training step: a key of wae_core.device.PRECISIONS


@dataclass(frozen=True)
class Run:
    """One (configuration, seed) of a study: one model to train, one row of results."""

    study: str
    study_seed: int
    algorithm: str
    config_index: int
    seed: int
    hyperparameters: Hyperparameters
    protocol: Protocol

    @property
    def config_id(self) -> str:
        return f"{self.algorithm}-{self.config_index:05d}"

    @property
    def run_id(self) -> str:
        return f"{self.config_id}-s{self.seed}"

    @property
    def prior_variance(self) -> float:
        """σ_z²; the VAE's prior is the standard Gaussian on every data set (paper, Appendix C)."""
        return 1.0 if self.algorithm == "vae" else self.protocol.prior_variance

    @property
    def is_stochastic(self) -> bool:
        """Whether Q(z|x) is a Gaussian: always for the VAE, by `encoder` for the WAEs."""
        return self.algorithm == "vae" or self.hyperparameters.encoder != "deterministic"
