"""What each algorithm minimises: WAE-MMD, WAE-GAN and VAE losses as functions of tensors.

Equations are those of Tolstikhin et al., Wasserstein Auto-Encoders, arXiv 1711.01558. x and y are images
[n, C, H, W], z a code [n, d]; every loss is a scalar, the mean over the batch.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def reconstruction_cost(x: Tensor, y: Tensor, cost_scale: float | Tensor) -> Tensor:
    """Mean of c(x, y) = cost_scale · ||x − y||², squared error summed over pixels and channels (equation 4)."""
    return cost_scale * F.mse_loss(y, x, reduction="sum") / len(x)


def reparameterise(mean: Tensor, log_variance: Tensor | None, noise: Tensor) -> Tensor:
    """z̃ ~ Q(z|x): mean + noise · σ with standard normal `noise`, or the mean itself for a deterministic encoder."""
    return mean if log_variance is None else mean + noise * torch.exp(0.5 * log_variance)


def discriminator_loss(logits_prior: Tensor, logits_encoded: Tensor, wae_lambda: float | Tensor) -> Tensor:
    """−(λ/n) Σ [log D(z) + log(1 − D(z̃))], which D descends (Algorithm 1); logits [n]."""
    # torch.vmap takes binary_cross_entropy_with_logits apart: 35 launches in a pack, forward and backward, for 10.
    log_real, log_fake = F.logsigmoid(logits_prior), F.logsigmoid(-logits_encoded)
    return -wae_lambda * (log_real.mean() + log_fake.mean())


def adversarial_penalty(logits_encoded: Tensor) -> Tensor:
    """−(1/n) Σ log D(z̃), the non-saturating penalty of the encoder (Algorithm 1); logits [n]."""
    return -F.logsigmoid(logits_encoded).mean()


def gaussian_kl(mean: Tensor, log_variance: Tensor, prior_variance: float) -> Tensor:
    """Mean of KL(N(mean, diag σ²) || N(0, σ_z² I)); mean, log_variance [n, d] (Kingma & Welling 2014, appendix B)."""
    ratio = (mean.square() + log_variance.exp()) / prior_variance
    return 0.5 * (ratio - 1 - log_variance + math.log(prior_variance)).sum() / len(mean)


def gaussian_negative_log_likelihood(x: Tensor, y: Tensor, decoder_variance: float | Tensor) -> Tensor:
    """Mean of ||x − y||² / (2σ_G²), the VAE's reconstruction term without its constant (Section 3)."""
    return reconstruction_cost(x, y, 0.5 / decoder_variance)


def bernoulli_negative_log_likelihood(x: Tensor, logits: Tensor) -> Tensor:
    """Mean of the cross-entropy summed over pixels, of a Bernoulli decoder; x in [0, 1] (Appendix C.1)."""
    return F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)


def log_prior(z: Tensor, prior_variance: float) -> Tensor:
    """log p_Z(z) of N(0, σ_z² I): z [n, d] -> [n]; WAE-GAN may add it to D's logit (Appendix C.2)."""
    normaliser = 0.5 * z.shape[1] * math.log(2 * math.pi * prior_variance)
    return -z.square().sum(dim=1) / (2 * prior_variance) - normaliser


def moment_mismatch(codes: Tensor, prior_variance: float) -> Tensor:
    """Squared distance of the codes' mean and covariance to the prior's, which pre-training descends.

    Mean squared difference of the means plus mean squared difference of the covariances; codes [n, d]. The authors'
    code compares with a sample of the prior, this with the prior itself.
    """
    mean = codes.mean(dim=0)
    target = prior_variance * torch.eye(codes.shape[1], device=codes.device, dtype=codes.dtype)
    return mean.square().mean() + (torch.cov(codes.T).reshape_as(target) - target).square().mean()
