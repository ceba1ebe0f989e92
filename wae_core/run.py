"""What one model is: an algorithm's configuration, under the protocol of its study, and the run that names it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from wae_core import checks
from wae_core.algorithms import registry
from wae_core.hyperparameters import Hyperparameters, deciding
from wae_core.protocol import Protocol

__all__ = ["ALGORITHMS", "RUN_ID", "Hyperparameters", "Protocol", "Run", "config_id_of"]

ALGORITHMS = tuple(registry.ALGORITHMS)
RUN_ID = re.compile(rf"({'|'.join(ALGORITHMS)})-[0-9]{{5,}}-s[0-9]+")  # whole: it becomes part of paths
_SHAPES = deciding("cost", "shapes")


@dataclass(frozen=True)
class Run:
    """One (configuration, seed) of a study: one model to train, one row of results."""

    study: str
    study_seed: int
    algorithm: str
    config_index: int
    seed: int
    hyperparameters: Hyperparameters
    protocol: Protocol

    def __post_init__(self) -> None:
        """Check what the protocol cannot, which knows no algorithms.

        Raises:
            ValueError: study.without_batch_norm names none.
        """
        for algorithm in self.protocol.without_batch_norm:
            checks.one_of("study.without_batch_norm", algorithm, ALGORITHMS)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """Build the run that `dataclasses.asdict` took apart, also by way of JSON or YAML, which know no tuples.

        Raises:
            LookupError, TypeError: a value is missing, or is none of a run.
            ValueError: a value is out of its bounds.
        """
        parts = {
            "hyperparameters": Hyperparameters(**values["hyperparameters"]),
            "protocol": Protocol.from_plain(values["protocol"]),
        }
        return cls(**{**values, **parts})

    @property
    def config_id(self) -> str:
        return f"{self.algorithm}-{self.config_index:05d}"

    @property
    def run_id(self) -> str:
        return f"{self.config_id}-s{self.seed}"

    @property
    def sha256(self) -> str:
        """The hash of all that defines the run beside its data, in hexadecimal digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    @property
    def prior_variance(self) -> float:
        """σ_z², which an algorithm may fix whatever the protocol says."""
        own = registry.ALGORITHMS[self.algorithm].prior_variance
        return self.protocol.prior_variance if own is None else own

    @property
    def is_stochastic(self) -> bool:
        """Whether Q(z|x) is a Gaussian: by the algorithm, or else by `encoder`."""
        own = registry.ALGORITHMS[self.algorithm].is_stochastic
        return self.hyperparameters.encoder != "deterministic" if own is None else own

    @property
    def shapes(self) -> tuple[str | int | None, ...]:
        """What runs must have in common to be trained in one pack: the algorithm and what decides tensor shapes."""
        return self.algorithm, *(getattr(self.hyperparameters, name) for name in _SHAPES)


def config_id_of(run_id: str) -> str:
    """Return the configuration that a run is of."""
    return run_id.rpartition("-s")[0]
