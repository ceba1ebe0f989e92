"""A model in the middle of its training, as the loop hands it out to be scored or saved."""

from __future__ import annotations

from dataclasses import dataclass

from wae_core.networks import AutoEncoder


@dataclass(frozen=True)
class Snapshot:
    """A model at one of its evaluation steps, or at a step between them at which its state is to be saved.

    `loss` and `penalty` (MMD², −log D or KL, without λ) are means over the steps since the last evaluation.
    `diverged_at` is the first step whose loss was not finite; such an evaluation is the run's last.
    """

    step: int
    autoencoder: AutoEncoder
    loss: float
    penalty: float
    diverged_at: int | None
    is_evaluation: bool = True
