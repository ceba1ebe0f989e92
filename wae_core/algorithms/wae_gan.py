"""WAE-GAN: a discriminator tells the prior's codes from the encoder's, which learns to deceive it (Algorithm 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wae_core.algorithms.algorithm import Algorithm, Batch, Look, Networks
from wae_core.protocol import Protocol

if TYPE_CHECKING:
    from torch import Tensor


def losses(protocol: Protocol, networks: Networks, batch: Batch) -> tuple[Tensor, Tensor]:
    """c(x, G(z̃)) − λ log D(z̃), and −log D(z̃)."""
    from wae_core.algorithms.objectives import adversarial_penalty, reconstruction_cost

    penalty = adversarial_penalty(_judge(protocol, networks, batch["z_encoded"]))
    cost = reconstruction_cost(batch["x"], networks.output(batch["logits"]), protocol.cost_scale)
    return cost + networks.scalars["wae_lambda"] * penalty, penalty


def adversary_loss(protocol: Protocol, networks: Networks, batch: Batch) -> Tensor:
    """−λ [log D(z) + log(1 − D(z̃))]."""
    from wae_core.algorithms.objectives import discriminator_loss

    logits_prior, logits_encoded = (_judge(protocol, networks, batch[name]) for name in ("z_prior", "z_encoded"))
    return discriminator_loss(logits_prior, logits_encoded, networks.scalars["wae_lambda"])


def _judge(protocol: Protocol, networks: Networks, z: Tensor) -> Tensor:
    """The logit of D: z [n, d] -> [n]."""
    from wae_core.algorithms.objectives import log_prior

    logits = networks.discriminator(z)
    return logits + log_prior(z, protocol.prior_variance) if protocol.log_prior else logits


ALGORITHM = Algorithm(
    name="wae-gan",
    hyperparameters=("encoder", "adversary_learning_rate", "wae_lambda"),
    look=Look("#E69F00", "^", (0, (5, 1))),
    losses=losses,
    adversary_loss=adversary_loss,
)
