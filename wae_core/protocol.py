"""The protocol: what a study fixes for every run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from wae_core import checks
from wae_core.domains import LARGEST_COUNT, LARGEST_SAMPLE, LARGEST_SIZE
from wae_core.names import LIKELIHOODS, PRECISIONS, REFERENCES, YARDSTICK


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
    vae_likelihood: str = "gaussian"  # of the VAE's decoder: one of LIKELIHOODS
    without_batch_norm: tuple[str, ...] = ()  # algorithms
    log_prior: bool = False  # add log p_Z(z) to the logit of WAE-GAN's discriminator
    learning_rate_drops: tuple[tuple[int, float], ...] = ()  # (after which epoch, divisor), for all optimisers
    precision: str = "float32"  # of the training step: one of wae_core.names.PRECISIONS
    fid_reference: str = "held_out"  # the split whose images FIDs are measured against: one of REFERENCES
    fid_reference_images: int | None = None  # its first so many; None: all of them
    accept_few_images: bool = False  # an FID of fewer images than feature dimensions stands, with a warning

    def __post_init__(self) -> None:
        """Check every field, whoever made it: the words of a launch, study.yaml or a model file.

        Whole numbers in the place of others become floats.

        Raises:
            ValueError: a field is out of its bounds; the sentence names it as `study.<field>`.
        """
        for name, (minimum, maximum) in _BOUNDS.items():
            checks.integer(f"study.{name}", getattr(self, name), minimum, maximum)
        for name in ("dataset", "fid_features"):
            checks.name(f"study.{name}", getattr(self, name))
        for name, check in (
            ("prior_variance", checks.positive),
            ("cost_scale", checks.positive),
            ("input_noise", checks.non_negative),
        ):
            object.__setattr__(self, name, check(f"study.{name}", getattr(self, name)))
        checks.one_of("study.vae_likelihood", self.vae_likelihood, LIKELIHOODS)
        checks.one_of("study.precision", self.precision, (*PRECISIONS, YARDSTICK))
        checks.one_of("study.fid_reference", self.fid_reference, REFERENCES)
        if self.fid_reference_images is not None:
            checks.integer("study.fid_reference_images", self.fid_reference_images, 2, LARGEST_SAMPLE)
        for name in ("log_prior", "accept_few_images"):
            checks.boolean(f"study.{name}", getattr(self, name))
        for algorithm in checks.items("study.without_batch_norm", self.without_batch_norm, "[vae]"):
            checks.name("study.without_batch_norm", algorithm)
        self._check_evaluation_steps()
        object.__setattr__(self, "learning_rate_drops", _checked_drops(self.learning_rate_drops))

    def _check_evaluation_steps(self) -> None:
        key = "study.evaluation_steps"
        listed = [checks.integer(key, step, 1) for step in checks.items(key, self.evaluation_steps, "[50, 100]")]
        if not listed or listed != sorted(set(listed)) or listed[-1] != self.steps:
            raise ValueError(f"{key} is {listed}, but they ascend and end with study.steps ({self.steps})")

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """Build the protocol that `dataclasses.asdict` took apart, also by way of JSON or YAML, which know no tuples.

        Raises:
            TypeError: a value is missing, or is none of a protocol.
            ValueError: a value is out of its bounds.
        """
        return cls(**{name: _tuples(value) for name, value in values.items()})


# The least and the largest value of each whole number of a protocol.
_BOUNDS = {
    "width": (1, LARGEST_SIZE),
    "steps": (1, LARGEST_COUNT),
    "fid_samples": (4, LARGEST_SAMPLE),  # a covariance is taken of each half
    "evaluation_images": (1, LARGEST_SAMPLE),
    "pretraining_steps": (0, LARGEST_COUNT),
    "pretraining_images": (2, LARGEST_SIZE),  # the covariance of one image is not a number
}


def _checked_drops(value: object) -> tuple[tuple[int, float], ...]:
    key, example = "study.learning_rate_drops", "[[30, 2], [50, 5]]"
    drops = [checks.items(key, drop, example) for drop in checks.items(key, value, example)]
    if any(len(drop) != 2 for drop in drops):
        shown = [list(drop) for drop in drops]
        raise ValueError(f"{key} is {shown}, but it is a list of [after which epoch, divisor], e.g. {example}")
    return tuple((checks.integer(key, epoch, 0), checks.positive(key, divisor)) for epoch, divisor in drops)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
