"""The protocol: what a study fixes for every run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


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
    precision: str = "float32"  # of the training step: one of wae_core.names.PRECISIONS

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """Build the protocol that `dataclasses.asdict` took apart, also by way of JSON or YAML, which know no tuples.

        Raises:
            TypeError: a value is missing, or is none of a protocol.
        """
        return cls(**{name: _tuples(value) for name, value in values.items()})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
