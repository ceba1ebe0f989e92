"""From settings to the runs of a budget, and from the missing ones to packs in the order in which they start."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from sweep.errors import SettingsError
from sweep.settings.settings import Settings, Study
from wae_core.data.images import load_dataset
from wae_core.device import select_device
from wae_core.evaluation.features import load_features
from wae_core.networks import ARCHITECTURES
from wae_core.run import Hyperparameters, Run


@dataclass(frozen=True)
class Pack:
    """Runs of equal tensor shapes that one worker trains together.

    until: the step at which they pause; None for their last.
    stopped_because: why they do not pause there but end, short of their last step.
    """

    runs: tuple[Run, ...]
    until: int | None = None
    stopped_because: str | None = None

    @property
    def last_step(self) -> int:
        """Of this pack's training."""
        return self.until or self.runs[0].protocol.steps

    @property
    def pauses(self) -> bool:
        """Whether the runs are left unfinished, for the scheduler's decision."""
        return self.last_step < self.runs[0].protocol.steps and self.stopped_because is None


def plan_runs(study: Study, algorithm: str, budget: int) -> list[Run]:
    """All runs of `algorithm` within `budget` models: whole configurations, in order, with all their seeds.

    A pure function: a larger budget gives the same runs and then more.
    """
    return [run for index in range(budget // study.seeds) for run in draw_configuration(study, algorithm, index)]


def draw_configuration(study: Study, algorithm: str, index: int) -> list[Run]:
    """The runs of one configuration that is drawn at random."""
    values = study.space.sample(algorithm, index, study.seed)
    return seeded_runs(study, algorithm, index, Hyperparameters(**values))  # type: ignore[arg-type]


def seeded_runs(study: Study, algorithm: str, index: int, hyperparameters: Hyperparameters) -> list[Run]:
    """One run of the configuration for each of the study's seeds."""
    return [
        Run(study.name, study.seed, algorithm, index, seed, hyperparameters, study.protocol)
        for seed in range(study.seeds)
    ]


def pack_runs(runs: Sequence[Run], seconds: Callable[[Run], float], sizes: Mapping[str, int]) -> list[Pack]:
    """The runs in packs of equal shapes, the longest first, so that no worker is left alone with one at the end.

    Args:
        seconds: what a run is predicted to take.
        sizes: how many runs a pack holds at most, by architecture.
    """
    by_shape: defaultdict[tuple[str | int | bool, ...], list[Run]] = defaultdict(list)
    for run in runs:
        h = run.hyperparameters
        by_shape[run.algorithm, h.architecture, h.latent_dim, h.batch_size, run.is_stochastic].append(run)
    packs = []
    for alike in by_shape.values():
        size = sizes[alike[0].hyperparameters.architecture]
        packs += [Pack(tuple(alike[i : i + size])) for i in range(0, len(alike), size)]
    return sorted(packs, key=lambda pack: sum(map(seconds, pack.runs)), reverse=True)


def check_trainable(settings: Settings) -> None:
    """Refuse, before anything is written, a study whose runs could not start.

    Raises:
        SettingsError: data, feature weights, device or an architecture that is not there, or more images asked for
            than the data set has.
    """
    study = settings.study
    try:
        data = load_dataset(study.protocol.dataset, settings.data)
        if "RAY_ADDRESS" not in os.environ:  # a cluster's devices are not those of this machine
            select_device(settings.cluster.device)
        features = load_features(study.protocol.fid_features, torch.device("cpu"), settings.inception)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    if study.protocol.vae_likelihood == "bernoulli" and data.pixel_range[0] < 0:
        raise SettingsError(
            f"study.vae_likelihood is 'bernoulli', but {data.name} is in colour, with pixels in [−1, 1]"
        )
    try:
        features(data.held_out[:1])
    except ValueError as error:
        raise SettingsError(f"study.fid_features is {study.protocol.fid_features!r}, but {error}") from error
    support = {h.name: h.distribution.support for h in study.space.hyperparameters}
    for architecture in support["architecture"]:
        if architecture not in ARCHITECTURES:
            raise SettingsError(
                f"space {study.space.name}: architecture {architecture!r} is none of {', '.join(ARCHITECTURES)}"
            )
    largest_batch = max(int(size) for size in support["batch_size"])
    if largest_batch > len(data.train):
        raise SettingsError(
            f"space {study.space.name}: batch_size goes up to {largest_batch}, "
            f"but {data.name} has {len(data.train)} training images"
        )
    for key, limit in (("evaluation_images", len(data.held_out)), ("pretraining_images", len(data.train))):
        if getattr(study.protocol, key) > limit:
            raise SettingsError(
                f"study.{key} is {getattr(study.protocol, key)}, but {data.name} has {limit} such images"
            )
