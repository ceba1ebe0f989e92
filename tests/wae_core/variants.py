"""What the tests of training run through: every algorithm with every encoder that it may have."""

from __future__ import annotations

import pytest

VARIANTS = [
    ("wae-mmd", "deterministic"),
    ("wae-mmd", "stochastic"),
    ("wae-gan", "deterministic"),
    ("wae-gan", "stochastic"),
    ("vae", None),
]
every_variant = pytest.mark.parametrize(("algorithm", "encoder"), VARIANTS)
