"""VAE: the evidence lower bound, with a Gaussian or a Bernoulli decoder (Kingma & Welling, arXiv 1312.6114)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wae_core.algorithms.algorithm import Algorithm, Batch, Look, Networks
from wae_core.protocol import Protocol

if TYPE_CHECKING:
    from torch import Tensor

PRIOR_VARIANCE = 1.0  # the standard Gaussian on every data set (WAE paper, Appendix C)


def losses(protocol: Protocol, networks: Networks, batch: Batch) -> tuple[Tensor, Tensor]:
    """KL(Q(z|x) || P_Z) − log p(x|z̃) without its constant, and the KL divergence."""
    from wae_core.algorithms.objectives import (
        bernoulli_negative_log_likelihood,
        gaussian_kl,
        gaussian_negative_log_likelihood,
    )

    x, logits = batch["x"], batch["logits"]
    penalty = gaussian_kl(batch["mean"], batch["log_variance"], PRIOR_VARIANCE)
    if protocol.vae_likelihood == "bernoulli":
        return penalty + bernoulli_negative_log_likelihood(x, logits), penalty
    variance = networks.scalars["decoder_variance"]
    return penalty + gaussian_negative_log_likelihood(x, networks.output(logits), variance), penalty


ALGORITHM = Algorithm(
    name="vae",
    hyperparameters=("decoder_variance",),
    look=Look("#222222", "s", (0, (1, 0.8))),
    losses=losses,
    draws=lambda hyperparameters: {},  # the divergence is known in closed form
    is_stochastic=True,
    prior_variance=PRIOR_VARIANCE,
)
