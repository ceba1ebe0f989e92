"""The models of a pack behind one face: one model as it is, several as one computation over stacked tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wae_core.algorithms.algorithm import Batch, Networks
from wae_core.device import autocast
from wae_core.hyperparameters import deciding
from wae_core.networks.pack import member_of
from wae_core.run import Run
from wae_core.training.adam import Adam
from wae_core.training.sharding import ALONE
from wae_core.training.state import TrainingState

Encoder = Callable[[Tensor], tuple[Tensor, Tensor | None]]


class Solo:
    """A pack of one: the state's own networks and optimisers. Its batches have the members, that is one, in front."""

    def __init__(self, run: Run, state: TrainingState) -> None:
        self.optimisers, self.group = state.optimisers, state.group
        model = state.autoencoder
        scalars = {name: value[0] for name, value in _scalars([run], state.first_bad_step.device).items()}
        self._networks = Networks(
            encoder=_codes_in(run, model.encoder),
            decoder=_in(run, model.decoder),
            output=model.output,
            discriminator=_in(run, state.discriminator or _no_discriminator),
            scalars=scalars,
        )

    def each(self, function: Callable[[Networks, Batch], Any], batch: Batch) -> Any:
        """`function` of the member; its tensors get an axis of length one in front."""
        result = function(self._networks, {name: tensor[0] for name, tensor in batch.items()})
        return {name: t[None] for name, t in result.items()} if isinstance(result, dict) else result[None]

    def write_back(self) -> None:
        """Nothing to do: the state's own tensors were trained."""


class Fused:
    """K models of equal shapes as one computation on their stacked tensors (arXiv 2102.02344).

    A step launches hardly more kernels for K models than for one: the networks' convolutions become grouped ones,
    matrix products batched ones, and `torch.vmap` does as much for the losses. The members' results do not touch each
    other, whatever numbers one of them meets.
    """

    def __init__(self, runs: Sequence[Run], states: Sequence[TrainingState]) -> None:
        self._run, self._states, self._template, self.group = runs[0], states, states[0], ALONE
        members = [state.named() for state in states]
        self._stacked = {
            name: torch.stack([member[name].detach() for member in members]).requires_grad_(tensor.requires_grad)
            for name, tensor in members[0].items()
        }
        device = states[0].first_bad_step.device
        self._numbers, self._scalars = torch.arange(len(runs), device=device), _scalars(runs, device)
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

        def member(number: Tensor, scalars: dict[str, Tensor], batch: Batch) -> Any:
            return function(self._bind(number, scalars), batch)

        return torch.vmap(member)(self._numbers, self._scalars, batch)

    def write_back(self) -> None:
        """Copy the stacked tensors into the members' states."""
        with torch.no_grad():
            for number, state in enumerate(self._states):
                for name, tensor in state.named().items():
                    tensor.copy_(self._stacked[name][number])

    def _bind(self, number: Tensor, scalars: dict[str, Tensor]) -> Networks:
        model, discriminator = self._template.autoencoder, self._template.discriminator

        def with_weights(network: nn.Module | None, name: str) -> Callable[[Tensor], Any]:
            return member_of(network, self._weights[name], number)  # type: ignore[arg-type]

        return Networks(
            encoder=_codes_in(self._run, with_weights(model.encoder, "autoencoder.encoder")),
            decoder=_in(self._run, with_weights(model.decoder, "autoencoder.decoder")),
            output=model.output,
            discriminator=_in(self._run, with_weights(discriminator, "discriminator")),
            scalars=scalars,
        )

    def _optimiser(self, network: str, optimisers: Sequence[Adam]) -> Adam:
        names = [name for name, _ in self._template.networks()[network].named_parameters()]
        rates = torch.cat([optimiser.learning_rate for optimiser in optimisers])
        adam = Adam([self._stacked[f"{network}.{name}"] for name in names], rates)
        adam.steps.copy_(optimisers[0].steps)
        for moment in ("first_moments", "second_moments"):
            for name, view in zip(names, getattr(adam, moment), strict=True):
                full_name = f"adam.{network}.{name}.{moment}"
                self._stacked[full_name] = view.copy_(self._stacked[full_name])
        return adam


def _scalars(runs: Sequence[Run], device: torch.device) -> dict[str, Tensor]:
    """The hyperparameters in the losses, [K] each; those that the runs do not have are left out."""
    values = {name: [getattr(run.hyperparameters, name) for run in runs] for name in deciding("loss")}
    return {name: torch.tensor(column, device=device) for name, column in values.items() if None not in column}


def _in(run: Run, network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The network in the run's precision; what it gives has the type of what it is given."""

    def call(x: Tensor) -> Tensor:
        with autocast(x.device, run.protocol.precision):
            output = network(x)
        return output.to(x.dtype)

    return call


def _codes_in(run: Run, encoder: Encoder) -> Encoder:
    """`_in` for an encoder, which gives a mean and, if stochastic, a log variance."""

    def call(x: Tensor) -> tuple[Tensor, Tensor | None]:
        with autocast(x.device, run.protocol.precision):
            mean, log_variance = encoder(x)
        return mean.to(x.dtype), None if log_variance is None else log_variance.to(x.dtype)

    return call


def _no_discriminator(_: Tensor) -> Tensor:
    raise AssertionError("the algorithm has no adversary")
