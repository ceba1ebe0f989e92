"""The hyperparameters that there are, each declared on one line, from which all else that knows them follows.

The columns of plan and runs, MLflow's parameters, the figures' axes and the search spaces' checks are derived from
this declaration. Which algorithms have one that not all share, their files in `algorithms/` say. It needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, Literal, Self, get_type_hints

from wae_core.domains import Domain, PositiveNumber, Text, WholeNumber

# What a value decides. "cost": tensor shapes, and with them what a run costs, which is equal for all algorithms;
# "shapes": tensor shapes; "rate": how fast an optimiser learns; "loss": a number in the losses. The members of a pack
# may differ in the last two alone.
Decides = Literal["cost", "shapes", "rate", "loss"]


@dataclass(frozen=True)
class Declared:
    """What is known of one hyperparameter, beside its name and its type.

    domain: the values that it may have.
    label: its axis in figures; `log_axis`: whether that axis is logarithmic.
    """

    domain: Domain
    decides: Decides
    label: str
    log_axis: bool = False


@dataclass(frozen=True)
class Hyperparameters:
    """One configuration, as drawn from a search space; None where a hyperparameter does not apply.

    All algorithms have those without a default. A new one comes last.
    """

    latent_dim: Annotated[int, Declared(WholeNumber(1), "cost", "latent dimension $d_z$")]
    batch_size: Annotated[int, Declared(WholeNumber(2), "cost", "batch size (images)")]  # MMD² divides by n − 1
    learning_rate: Annotated[float, Declared(PositiveNumber(), "rate", "learning rate", log_axis=True)]
    architecture: Annotated[str, Declared(Text(), "cost", "architecture")]
    encoder: Annotated[str | None, Declared(Text(("deterministic", "stochastic")), "shapes", "encoder")] = None
    adversary_learning_rate: Annotated[
        float | None, Declared(PositiveNumber(), "rate", "adversary's learning rate", log_axis=True)
    ] = None
    kernel_scale: Annotated[float | None, Declared(PositiveNumber(), "loss", "kernel scale $C$")] = None
    wae_lambda: Annotated[float | None, Declared(PositiveNumber(), "loss", "penalty weight $λ$")] = None
    decoder_variance: Annotated[float | None, Declared(PositiveNumber(), "loss", "decoder variance $σ_G^2$")] = None

    @classmethod
    def pick(cls, values: Mapping[str, Any]) -> Self:
        """Take the hyperparameters out of a row's values, or any other mapping that has them among its keys."""
        return cls(**{name: values[name] for name in DECLARED})


DECLARED: dict[str, Declared] = {
    name: hint.__metadata__[0] for name, hint in get_type_hints(Hyperparameters, include_extras=True).items()
}
SHARED = tuple(field.name for field in fields(Hyperparameters) if field.default is MISSING)
# The order of the table `runs` and of search spaces: numbers, then texts.
IN_TABLES = tuple(sorted(DECLARED, key=lambda name: isinstance(DECLARED[name].domain, Text)))
# A line of a search space may depend on those before it alone. What all algorithms share comes first, so that it
# never depends on what only some of them have: configurations of one index stay comparable on equal computation.
IN_DRAWS = tuple(sorted(DECLARED, key=lambda name: (name not in SHARED, DECLARED[name].decides != "cost")))


def deciding(*what: Decides) -> tuple[str, ...]:
    """The names of the hyperparameters that decide one of these, in the order of their declaration."""
    return tuple(name for name, declared in DECLARED.items() if declared.decides in what)
