"""A run's best checkpoint as a file of its own: an auto-encoder that can be loaded without its data set."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import Tensor

from wae_core.data.images import ImageData
from wae_core.data.manifest import checked_shape
from wae_core.networks import AutoEncoder, build_autoencoder
from wae_core.run import Run
from wae_core.storage.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from wae_core.storage.files import Location

PREFIX = "autoencoder."


def save_model(path: Location, run: Run, data: ImageData, step: int, tensors: dict[str, Tensor]) -> None:
    """Write the auto-encoder among the tensors of a training checkpoint, and what it takes to build it again."""
    weights = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
    content = {"run": asdict(run), "step": step, "image_shape": data.image_shape, "pixel_range": data.pixel_range}
    save_checkpoint(path, weights, content)


def load_model(path: Location) -> tuple[AutoEncoder, Run, int]:
    """The auto-encoder in `path`, on the CPU and in evaluation mode, with its run and its step.

    Raises:
        CheckpointError: the file is missing or damaged, or holds something else than a model.
    """
    weights, content = load_checkpoint(path)
    try:
        return _model(weights, content)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise CheckpointError(f"{path} is not the file of a model: {reason}") from error


def _model(weights: dict[str, Tensor], content: dict[str, Any]) -> tuple[AutoEncoder, Run, int]:
    run = Run.from_plain(content["run"])
    shape = checked_shape(content["image_shape"])
    low, high = content["pixel_range"]
    model = build_autoencoder(
        run.hyperparameters.architecture,
        shape,
        (low, high),
        latent_dim=run.hyperparameters.latent_dim,
        width=run.protocol.width,
        stochastic=run.is_stochastic,
        batch_norm=run.algorithm not in run.protocol.without_batch_norm,
    )
    model.load_state_dict(weights)
    return model.eval(), run, content["step"]
