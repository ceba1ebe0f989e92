"""A checkpoint's figures, and which checkpoint of a run is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Evaluation:
    """One checkpoint's measured figures: one row of the table `evaluations`.

    fid: Fréchet distance of `fid_samples` generated images to the reference.
    sharpness: of up to 1,000 of these images, pixels in [0, 1].
    reconstruction_error, train_reconstruction_error: mean squared error per pixel, in [0, 1], of held-out and of
        training images through the mean code.
    latent_mmd: MMD² of encoded held-out images to the prior; the sum of inverse multiquadratics with
        C = 2·d_z·σ_z² whatever the algorithm's own penalty is.
    """

    step: int
    fid: float
    sharpness: float
    reconstruction_error: float
    train_reconstruction_error: float
    latent_mmd: float
    loss: float
    penalty: float
    train_seconds: float


def select_checkpoint(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """The evaluation with the lowest finite FID, the earliest step on ties; None if no FID is finite."""
    finite = [evaluation for evaluation in evaluations if math.isfinite(evaluation.fid)]
    return min(finite, key=lambda evaluation: (evaluation.fid, evaluation.step), default=None)
