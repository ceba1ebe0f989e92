"""What a launch is told, as typed objects that check themselves when they are made, whoever makes them."""

from __future__ import annotations

import math
from pathlib import Path

from pydantic import InstanceOf
from pydantic.dataclasses import dataclass

from search_spaces import SearchSpace
from search_spaces.distributions import Choice, Distribution, Fixed
from sweep.settings.kinds import (
    Algorithm,
    Budget,
    Count,
    DeviceName,
    ExecutorName,
    Name,
    Natural,
    Positive,
    Quantile,
    Reduction,
    Seed,
    Share,
    Switch,
    Text,
    TrackingUri,
    strict,
)
from wae_core.protocol import Protocol
from wae_core.storage.objects import ObjectPath

LARGEST_BUDGET = 1_000_000
RESOURCES = ("cpus_per_worker", "gpus_per_worker", "tpus_per_worker")


@dataclass(frozen=True, config=strict("optuna"))
class Optuna:
    """How Optuna proposes."""

    sampler: Text  # tpe, qmc, or the path of a class
    quantile: Quantile | None  # of a configuration's best FIDs that it is told; None: their mean


@dataclass(frozen=True, config=strict("asha"))
class Asha:
    """How ASHA stops configurations early."""

    reduction: Reduction  # η


@dataclass(frozen=True, config=strict("confirms"))
class Confirms:
    """Of what a study is the confirmation."""

    study: Name  # whose best configurations are trained again
    first_seed: Natural  # the first that did not pick them


@dataclass(frozen=True, config=strict("study"))
class Study:
    """What is studied: everything that must not change while a results folder grows."""

    name: Name  # the results folder's: <study>[-<space>][-optuna][-asha][-confirm]
    seed: Seed
    seeds: Count
    space: InstanceOf[SearchSpace]
    protocol: InstanceOf[Protocol]
    optuna: Optuna | None = None  # None: configurations are drawn at random
    asha: Reduction | None = None  # its reduction factor η; None: every run gets all its steps
    confirms: Confirms | None = None  # None: it is a study of its own configurations

    @property
    def is_planned_ahead(self) -> bool:
        """Whether it is known before the first run which ones are trained, whatever comes out."""
        return self.confirms is not None or (self.optuna is None and self.asha is None)

    @property
    def seed_numbers(self) -> range:
        """The seeds of each configuration."""
        first = self.confirms.first_seed if self.confirms else 0
        return range(first, first + self.seeds)


@dataclass(frozen=True, config=strict("cluster"))
class Cluster:
    """Where it runs; may change from launch to launch."""

    executor: ExecutorName  # ray, or inprocess: this very process
    device: DeviceName
    workers: Count | None
    cpus_per_worker: Natural
    gpus_per_worker: Share
    tpus_per_worker: Natural
    pack_size: Count | None  # models that a worker trains together; None: by a short measurement
    teraflops: Positive  # of one device, sustained; assumed until runs have ended
    accelerators_per_run: Count = 1  # workers that share each batch of a model
    send_code: Switch = False  # whether a cluster's workers use the driver's sources, and not those of their nodes

    def __post_init__(self) -> None:
        self._check_sharing()
        if not any(getattr(self, name) for name in RESOURCES):
            keys = ", ".join(f"cluster.{name}" for name in RESOURCES)
            raise ValueError(f"{keys} are all 0, but a worker needs something")

    def _check_sharing(self) -> None:
        if self.accelerators_per_run == 1:
            return
        asked = f"cluster.accelerators_per_run is {self.accelerators_per_run}"
        if self.executor == "inprocess":
            raise ValueError(f"{asked}, but with cluster.executor=inprocess it is 1: one process has one accelerator")
        if self.device == "xla":
            raise ValueError(f"{asked}, but with cluster.device=xla it is 1: it is for cpu and cuda")
        if self.pack_size not in (None, 1):
            raise ValueError(
                f"{asked} and cluster.pack_size is {self.pack_size}, but models that share accelerators are trained "
                "one by one: give cluster.pack_size=1 or cluster.accelerators_per_run=1"
            )


@dataclass(frozen=True, config=strict("failures"))
class FailurePolicy:
    """What a run may meet before it is `failed`."""

    tries: Count  # that end in an exception, each from the newest checkpoint
    worker_deaths: Count  # without a new checkpoint in between


@dataclass(frozen=True, config=strict())
class Settings:
    """One launch."""

    study: Study
    algorithms: tuple[Algorithm, ...]
    budget: Budget
    results: Path | InstanceOf[ObjectPath]
    tracking: TrackingUri | None  # MLflow's URI; None is mlflow.db in the results folder
    data: Path
    inception: Path | None
    search: str
    retry_failed: Switch  # train runs again that have failed
    failures: FailurePolicy
    checkpoint_steps: Count  # training steps between two checkpoints, where evaluations are further apart
    keep_best: Count | None  # models of each algorithm whose weights are kept; None: all
    cluster: Cluster
    dry_run: Switch
    optuna_storage: Path | None = None  # None: in the study's results folder
    confirm: Count | None = None  # configurations of each algorithm, the best, that are trained again; None: none
    confirm_seeds: Count = 5  # fresh ones, with each of them
    data_source: Path | InstanceOf[ObjectPath] | None = None  # where a node fetches data and weights that it lacks

    def __post_init__(self) -> None:
        seeds = self.study.seeds
        if self.budget < seeds:
            raise ValueError(
                f"budget is {self.budget}, but it is a whole number of at least {seeds} "
                f"(models per algorithm, {seeds} a configuration)"
            )
        if self.budget > LARGEST_BUDGET:
            raise ValueError(f"budget is {self.budget}, but it is at most {LARGEST_BUDGET} models per algorithm")
        self._check_confirm()
        self._check_shares()
        if not isinstance(self.results, ObjectPath):
            return
        if self.study.optuna is not None and self.optuna_storage is None:
            raise ValueError(
                f"results is {str(self.results)!r}, where Optuna's journal cannot be: "
                "give optuna.storage=a local path"
            )
        if self.tracking is None:
            raise ValueError(
                f"results is {str(self.results)!r}, where MLflow's database cannot be: say where it is, "
                "e.g. tracking=sqlite:////home/me/mlflow.db or tracking=http://host:5000"
            )

    def _check_shares(self) -> None:
        """Batches are cut into equal parts."""
        count, space, protocol = self.cluster.accelerators_per_run, self.study.space, self.study.protocol
        lines = [line for line in space.hyperparameters if line.name == "batch_size"]
        cut = {f"batch_size of space {space.name}": math.gcd(*(_divisor(line.distribution) for line in lines))}
        if protocol.pretraining_steps:
            cut[f"study.pretraining_images={protocol.pretraining_images}"] = protocol.pretraining_images
        largest = math.gcd(*cut.values())
        if largest % count:
            allowed = ", ".join(str(n) for n in range(1, largest + 1) if largest % n == 0)
            raise ValueError(
                f"cluster.accelerators_per_run is {count}, but it divides each {' and '.join(cut)}: "
                f"it is one of {allowed}"
            )

    def _check_confirm(self) -> None:
        if self.confirm is None:
            return
        configurations = self.budget // self.study.seeds
        if self.confirm > configurations:
            raise ValueError(
                f"confirm is {self.confirm}, but it is at most {configurations}: a budget of {self.budget} models "
                "has no more configurations of each algorithm"
            )
        if self.confirm * self.confirm_seeds > LARGEST_BUDGET:
            raise ValueError(
                f"confirm_seeds is {self.confirm_seeds}, but with confirm={self.confirm} it is at most "
                f"{LARGEST_BUDGET // self.confirm}, for {LARGEST_BUDGET} models per algorithm"
            )


def _divisor(sizes: Distribution) -> int:
    """The largest number that divides every whole number that may be drawn."""
    if isinstance(sizes, Choice | Fixed):
        return math.gcd(*(int(size) for size in sizes.support))
    return math.gcd(int(sizes.low), int(sizes.step or 1))
