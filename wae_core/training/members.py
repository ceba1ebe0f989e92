"""The models of a pack behind one face: one model as it is, several as one computation over stacked tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call

from wae_core.run import Run
from wae_core.training.adam import Adam
from wae_core.training.state import TrainingState

Batch = dict[str, Tensor]  # what a step is given, by name; each tensor [K, ...] with the members in front
SCALARS = ("kernel_scale", "wae_lambda", "decoder_variance")  # hyperparameters in which members may differ


@dataclass(frozen=True)
class Networks:
    """One member's networks as functions, and its scalar hyperparameters (0-d)."""

    encoder: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    decoder: Callable[[Tensor], Tensor]
    output: Callable[[Tensor], Tensor]  # of the decoder's logits: images
    discriminator: Callable[[Tensor], Tensor]
    scalars: dict[str, Tensor]


class Solo:
    """A pack of one: the state's own networks and optimisers."""

    def __init__(self, run: Run, state: TrainingState) -> None:
        self.optimisers = state.optimisers
        model = state.autoencoder
        scalars = {name: value[0] for name, value in _scalars([run], state.first_bad_step.device).items()}
        self._networks = Networks(
            model.encoder, model.decoder, model.output, state.discriminator or _no_discriminator, scalars
        )

    def each(self, function: Callable[[Networks, Batch], Any], batch: Batch) -> Any:
        """`function` of the member; its tensors get an axis of length one in front."""
        result = function(self._networks, {name: tensor[0] for name, tensor in batch.items()})
        return {name: t[None] for name, t in result.items()} if isinstance(result, dict) else result[None]

    def write_back(self) -> None:
        """Nothing to do: the state's own tensors were trained."""


class Fused:
    """K models of equal shapes as one computation, by `torch.vmap` over their stacked tensors (arXiv 2102.02344).

    A step launches as many kernels for K models as for one: convolutions become grouped ones, matrix products
    batched ones. The members' results do not touch each other, whatever numbers one of them meets.
    """

    def __init__(self, runs: Sequence[Run], states: Sequence[TrainingState]) -> None:
        self._states, self._template = states, states[0]
        members = [state.named() for state in states]
        self._stacked = {
            name: torch.stack([member[name].detach() for member in members]).requires_grad_(tensor.requires_grad)
            for name, tensor in members[0].items()
        }
        self._scalars = _scalars(runs, states[0].first_bad_step.device)
        self.optimisers = [
            self._optimiser(prefix, [state.optimisers[number] for state in states])
            for number, prefix in enumerate(self._template.networks())
        ]
        self._weights = {
            network: {
                name.removeprefix(f"{network}."): tensor
                for name, tensor in self._stacked.items()
                if name.startswith(f"{network}.")
            }
            for network in ("autoencoder.encoder", "autoencoder.decoder", "discriminator")
        }

    def each(self, function: Callable[[Networks, Batch], Any], batch: Batch) -> Any:
        """`function` of every member at once; what it returns gets the members in front."""

        def member(weights: dict[str, dict[str, Tensor]], scalars: dict[str, Tensor], batch: Batch) -> Any:
            return function(self._bind(weights, scalars), batch)

        return torch.vmap(member)(self._weights, self._scalars, batch)

    def write_back(self) -> None:
        """Copy the stacked tensors into the members' states."""
        with torch.no_grad():
            for number, state in enumerate(self._states):
                for name, tensor in state.named().items():
                    tensor.copy_(self._stacked[name][number])

    def _bind(self, weights: dict[str, dict[str, Tensor]], scalars: dict[str, Tensor]) -> Networks:
        model, discriminator = self._template.autoencoder, self._template.discriminator

        return Networks(
            encoder=lambda x: functional_call(model.encoder, weights["autoencoder.encoder"], (x,)),
            decoder=lambda z: functional_call(model.decoder, weights["autoencoder.decoder"], (z,)),
            output=model.output,
            discriminator=lambda z: functional_call(discriminator, weights["discriminator"], (z,)),  # type: ignore[arg-type]
            scalars=scalars,
        )

    def _optimiser(self, network: str, optimisers: Sequence[Adam]) -> Adam:
        names = [name for name, _ in self._template.networks()[network].named_parameters()]
        rates = torch.cat([optimiser.learning_rate for optimiser in optimisers])
        adam = Adam([self._stacked[f"{network}.{name}"] for name in names], rates)
        adam.steps = optimisers[0].steps
        adam.first_moments = [self._stacked[f"adam.{network}.{name}.first_moments"] for name in names]
        adam.second_moments = [self._stacked[f"adam.{network}.{name}.second_moments"] for name in names]
        return adam


def _scalars(runs: Sequence[Run], device: torch.device) -> dict[str, Tensor]:
    values = {name: [getattr(run.hyperparameters, name) for run in runs] for name in SCALARS}
    return {name: torch.tensor(column, device=device) for name, column in values.items() if None not in column}


def _no_discriminator(_: Tensor) -> Tensor:
    raise AssertionError("only WAE-GAN has a discriminator")
