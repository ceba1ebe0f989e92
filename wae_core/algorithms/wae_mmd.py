"""WAE-MMD: the penalty is the maximum mean discrepancy of the prior's and the encoder's codes (Algorithm 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wae_core.algorithms.algorithm import Algorithm, Batch, Look, Networks
from wae_core.protocol import Protocol

if TYPE_CHECKING:
    from torch import Tensor


def losses(protocol: Protocol, networks: Networks, batch: Batch) -> tuple[Tensor, Tensor]:
    """c(x, G(z̃)) + λ · MMD², and MMD²."""
    from wae_core.algorithms.mmd import mmd_squared
    from wae_core.algorithms.objectives import reconstruction_cost

    scalars = networks.scalars
    penalty = mmd_squared(batch["z_prior"], batch["z_encoded"], kernel="imq_sum", scale=scalars["kernel_scale"])
    cost = reconstruction_cost(batch["x"], networks.output(batch["logits"]), protocol.cost_scale)
    return cost + scalars["wae_lambda"] * penalty, penalty


def penalty_flops(n: int, d: int) -> int:
    """Of MMD² and its gradient with respect to the encoder's codes."""
    from wae_core.algorithms.mmd import mmd_flops

    # Backward (mmd.py), the gradient of each of the two sums that hold the encoder's codes is a matrix product.
    return mmd_flops(n, d) + 2 * 2 * n**2 * d


ALGORITHM = Algorithm(
    name="wae-mmd",
    hyperparameters=("encoder", "kernel_scale", "wae_lambda"),
    look=Look("#0072B2", "o", "-"),
    losses=losses,
    penalty_flops=penalty_flops,
)
