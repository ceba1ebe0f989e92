"""The algorithms that there are: a line each, in the order of launches, tables and figures. It needs no torch."""

from __future__ import annotations

from importlib import import_module

from wae_core.algorithms.algorithm import Algorithm

FILES = (  # of this folder
    "wae_mmd.py",
    "wae_gan.py",
    "vae.py",
)


def _declared_in(file: str) -> Algorithm:
    declared: Algorithm = import_module(f"wae_core.algorithms.{file.removesuffix('.py')}").ALGORITHM
    return declared


ALGORITHMS: dict[str, Algorithm] = {algorithm.name: algorithm for algorithm in map(_declared_in, FILES)}


def owners(hyperparameter: str) -> tuple[str, ...]:
    """The names of the algorithms that have the hyperparameter."""
    return tuple(name for name, algorithm in ALGORITHMS.items() if algorithm.has(hyperparameter))
