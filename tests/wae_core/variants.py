"""What the tests of training run through: every algorithm with every encoder that it may have."""

from __future__ import annotations

import pytest

from wae_core.algorithms.registry import ALGORITHMS
from wae_core.domains import Text
from wae_core.hyperparameters import DECLARED

ENCODERS = DECLARED["encoder"].domain
assert isinstance(ENCODERS, Text)
VARIANTS = [
    (name, encoder)
    for name, algorithm in ALGORITHMS.items()
    for encoder in (ENCODERS.options if algorithm.has("encoder") else (None,))
]
every_variant = pytest.mark.parametrize(("algorithm", "encoder"), VARIANTS)
