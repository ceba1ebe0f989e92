"""Optuna's samplers by their names, and a rehearsal that finds out before a sweep whether one can do its work."""

from __future__ import annotations

import hashlib
import importlib
import warnings
from collections.abc import Sequence
from inspect import signature

import optuna
from optuna.samplers import BaseSampler, QMCSampler, RandomSampler, TPESampler

from sweep.errors import SettingsError
from sweep.search.optuna_space import configure
from sweep.settings.settings import Study

REHEARSED = 12  # proposals; the samplers that learn draw the first 10 at random

optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def rehearse(study: Study, algorithms: Sequence[str]) -> None:
    """Let the sampler propose configurations that are forgotten, before and after it has begun to learn.

    Raises:
        SettingsError: there is no such sampler, or it cannot draw from the space.
    """
    assert study.optuna is not None
    name = study.optuna.sampler
    for algorithm in algorithms:
        rehearsal = optuna.create_study(direction=optuna.study.StudyDirection.MINIMIZE)
        for index in range(REHEARSED):
            rehearsal.sampler = make_sampler(name, study.seed, algorithm, index)
            try:
                _propose(rehearsal, study, algorithm, float(index))
            except Exception as error:  # a sampler may be anybody's
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                raise SettingsError(
                    f"optuna.sampler is {name!r}, but it cannot draw from space {study.space.name} ({reason})"
                ) from error


def make_sampler(name: str, study_seed: int, algorithm: str, index: int) -> BaseSampler:
    """The sampler of one proposal, which depends on its arguments and on what Optuna was told alone.

    Args:
        name: tpe, qmc, or the path of a class such as optuna.samplers.GPSampler.

    Raises:
        SettingsError: there is no such sampler.
    """
    seed, sequence = _seed(study_seed, algorithm, index), _seed(study_seed, algorithm)
    if name == "tpe":
        return TPESampler(seed=seed, group=True)
    if name == "qmc":  # one sequence, in which the storage keeps the place
        independent = RandomSampler(seed=seed)
        return QMCSampler(
            scramble=True, seed=sequence, independent_sampler=independent, warn_independent_sampling=False
        )
    module, _, attribute = name.rpartition(".")
    try:
        sampler = getattr(importlib.import_module(module), attribute)
        assert issubclass(sampler, BaseSampler)
        made: BaseSampler = sampler(seed=seed) if "seed" in signature(sampler).parameters else sampler()
    except Exception as error:
        raise SettingsError(
            f"optuna.sampler is {name!r}, but it is tpe, qmc or the path of a sampler's class, "
            f"e.g. optuna.samplers.GPSampler ({type(error).__name__}: {error})"
        ) from error
    return made


def _seed(*key: str | int) -> int:
    """32 bits, from what the stream is of."""
    digest = hashlib.sha256("/".join(map(str, ("optuna", *key))).encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _propose(rehearsal: optuna.Study, study: Study, algorithm: str, value: float) -> None:
    trial = rehearsal.ask()
    configure(study.space, algorithm, lambda parameter: parameter.value(parameter.suggest(trial)))
    rehearsal.tell(trial, value)
