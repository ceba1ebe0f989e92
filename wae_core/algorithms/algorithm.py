"""What an algorithm is: the interface that each algorithm's file fills in, readable without torch.

Such a file declares one `ALGORITHM`. It imports torch within its losses alone: who asks for a name, for
hyperparameters or for a colour need not wait for torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from wae_core.hyperparameters import SHARED, Hyperparameters
from wae_core.protocol import Protocol

if TYPE_CHECKING:
    from torch import Tensor

Batch: TypeAlias = "dict[str, Tensor]"  # what a step is given, by name
Shapes = dict[str, tuple[int, ...]]


class Look(NamedTuple):
    """How an algorithm is drawn.

    Colours are of Okabe and Ito's colour-blind safe palette and differ in lightness too; with a marker and a dash
    pattern each, a grey copy can be read.
    """

    color: str
    marker: str = "o"
    dash: str | tuple[float, tuple[float, ...]] = "-"  # as matplotlib has it


@dataclass(frozen=True)
class Networks:
    """One member's networks as functions, in the protocol's precision, and its hyperparameters in the losses (0-d).

    encoder: images [n, C, H, W] -> mean [n, d] and log variance [n, d], which is None if deterministic.
    decoder: codes [n, d] -> logits [n, C, H, W], of which `output` makes images.
    discriminator: codes [n, d] -> logits [n]; there is one where the algorithm has an adversary.
    """

    encoder: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    decoder: Callable[[Tensor], Tensor]
    output: Callable[[Tensor], Tensor]
    discriminator: Callable[[Tensor], Tensor]
    scalars: dict[str, Tensor]


def codes_of_the_prior(hyperparameters: Hyperparameters) -> Shapes:
    """The draws of an algorithm that compares the encoder's codes with as many of the prior's."""
    return {"z_prior": (hyperparameters.batch_size, hyperparameters.latent_dim)}


@dataclass(frozen=True)
class Algorithm:
    """One algorithm.

    Attributes:
        hyperparameters: those that it has beside the SHARED ones.
        losses: loss and penalty (without its weight) of encoder and decoder, both 0-d. The batch holds x
            [n, C, H, W], z_encoded [n, d], of a stochastic encoder also mean and log_variance [n, d], the decoder's
            logits of x's shape, and the algorithm's own draws. They may combine codes in any way, but are means over
            the images: where several processes share a batch, each has all codes, and its own images and logits.
        draws: the shapes of a step's standard normal draws, by the name of the random stream; `z_prior` comes to the
            losses with the prior's variance. The noise of encoder and images is not among them.
        adversary_loss: the loss of the discriminator, which is updated before encoder and decoder; its batch holds
            z_prior and z_encoded. None: it has no adversary.
        is_stochastic: whether Q(z|x) is a Gaussian; None: as its hyperparameter `encoder` says.
        prior_variance: σ_z²; None: the protocol's.
        penalty_flops: FLOPs of the penalty's matrix products, forward and backward, by n and d.
    """

    name: str
    hyperparameters: tuple[str, ...]
    look: Look
    losses: Callable[[Protocol, Networks, Batch], tuple[Tensor, Tensor]]
    draws: Callable[[Hyperparameters], Shapes] = codes_of_the_prior
    adversary_loss: Callable[[Protocol, Networks, Batch], Tensor] | None = None
    is_stochastic: bool | None = None
    prior_variance: float | None = None
    penalty_flops: Callable[[int, int], int] = lambda n, d: 0

    @property
    def has_adversary(self) -> bool:
        """Whether a discriminator is trained beside encoder and decoder."""
        return self.adversary_loss is not None

    def has(self, hyperparameter: str) -> bool:
        """Whether the algorithm has the hyperparameter."""
        return hyperparameter in SHARED or hyperparameter in self.hyperparameters
