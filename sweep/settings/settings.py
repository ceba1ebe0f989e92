"""From key=value words to one typed object: Hydra composes, this module checks; every mistake is one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

import search_spaces
from search_spaces import SearchSpace
from sweep.errors import SettingsError
from sweep.settings import checks
from sweep.settings.words import CONF, check_keys, split_paths
from wae_core.names import DEVICES, PRECISIONS
from wae_core.run import ALGORITHMS, Protocol
from wae_core.storage.files import Location, location
from wae_core.storage.objects import ObjectPath

LARGEST_BUDGET = 1_000_000
RETRIES = ("none", "failed")
SEARCHES = ("random", "optuna")
SCHEDULERS = ("none", "asha")
EXECUTORS = ("ray", "inprocess")
FAILURES = ("tries", "worker_deaths")
RESOURCES = ("cpus_per_worker", "gpus_per_worker", "tpus_per_worker")


@dataclass(frozen=True)
class Optuna:
    """How Optuna proposes."""

    sampler: str  # tpe, qmc, or the path of a class
    quantile: float | None  # of a configuration's best FIDs that it is told; None: their mean


@dataclass(frozen=True)
class Study:
    """What is studied: everything that must not change while a results folder grows."""

    name: str  # the results folder's: <study>[-<space>][-optuna][-asha]
    seed: int
    seeds: int
    space: SearchSpace
    protocol: Protocol
    optuna: Optuna | None = None  # None: configurations are drawn at random
    asha: float | None = None  # its reduction factor η; None: every run gets all its steps

    @property
    def is_planned_ahead(self) -> bool:
        """Whether the budget alone says which runs are trained, whatever comes out."""
        return self.optuna is None and self.asha is None


@dataclass(frozen=True)
class Cluster:
    """Where it runs; may change from launch to launch."""

    executor: str  # ray, or inprocess: this very process
    device: str
    workers: int | None
    cpus_per_worker: int
    gpus_per_worker: int
    tpus_per_worker: int
    pack_size: int | None  # models that a worker trains together; None: by a short measurement
    teraflops: float  # of one device, sustained; assumed until runs have ended


@dataclass(frozen=True)
class FailurePolicy:
    """What a run may meet before it is `failed`."""

    tries: int  # that end in an exception, each from the newest checkpoint
    worker_deaths: int  # without a new checkpoint in between


@dataclass(frozen=True)
class Settings:
    """One launch."""

    study: Study
    algorithms: tuple[str, ...]
    budget: int
    results: Location
    tracking: str | None  # MLflow's URI; None is mlflow.db in the results folder
    data: Path
    inception: Path | None
    search: str
    retry_failed: bool  # train runs again that have failed
    failures: FailurePolicy
    checkpoint_steps: int  # training steps between two checkpoints, where evaluations are further apart
    keep_best: int | None  # models of each algorithm whose weights are kept; None: all
    cluster: Cluster
    dry_run: bool
    optuna_storage: Path | None = None  # None: in the study's results folder


def load_settings(words: Sequence[str]) -> Settings:
    """Compose and check the settings of a launch from its `key=value` words.

    Raises:
        SettingsError: a key or value is not usable.
    """
    # Paths may hold any character of Hydra's grammar, so they go round it.
    paths, others = split_paths(words)
    check_keys(others)
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            composed = OmegaConf.to_container(compose("config", overrides=others), resolve=True)
    except (HydraException, OmegaConfBaseException, RecursionError) as error:
        raise SettingsError(f"the words {others} cannot be combined with {CONF}") from error
    config = cast("dict[str, Any]", composed) | paths

    algorithm = checks.one_of("alg", config["alg"], (*ALGORITHMS, "all"))
    seeds = checks.integer("study.seeds", config["study"]["seeds"], minimum=1)
    budget = checks.integer("budget", config["budget"], seeds, f"models per algorithm, {seeds} a configuration")
    if budget > LARGEST_BUDGET:
        raise SettingsError(f"budget is {budget}, but it is at most {LARGEST_BUDGET} models per algorithm")
    results, keep_best = _results(config["results"]), config["keep_best"]
    search = checks.one_of("search", config["search"], SEARCHES)
    scheduler = checks.one_of("scheduler", config["scheduler"], SCHEDULERS)
    for key, chosen, owner in (("search", search, "optuna"), ("scheduler", scheduler, "asha")):
        given = [word for word in words if word.startswith(f"{owner}.")]
        if given and chosen != owner:
            raise SettingsError(f"{given[0]!r} is for {owner}, but {key} is {chosen!r}: give {key}={owner} as well")
    optuna = _optuna(config["optuna"]) if search == "optuna" else None
    storage = config.get("optuna.storage")
    if optuna and storage is None and isinstance(results, ObjectPath):
        raise SettingsError(
            f"results is {str(results)!r}, where Optuna's journal cannot be: give optuna.storage=a local path"
        )
    study = _study(
        config["study"], config["space"], seeds, optuna, _asha(config["asha"]) if scheduler == "asha" else None
    )
    checks.one_of("alg", algorithm, (*study.space.algorithms, "all"))  # of which the space may offer fewer
    return Settings(
        study=study,
        algorithms=study.space.algorithms if algorithm == "all" else (algorithm,),
        budget=budget,
        results=results,
        tracking=_tracking(config["tracking"], results),
        data=Path(checks.text("data", config["data"])),
        inception=None if config["inception"] is None else Path(checks.text("inception", config["inception"])),
        search=search,
        retry_failed=checks.one_of("retry", config["retry"], RETRIES) == "failed",
        failures=FailurePolicy(
            **{key: checks.integer(f"failures.{key}", config["failures"][key], minimum=1) for key in FAILURES}
        ),
        checkpoint_steps=checks.integer("checkpoint_steps", config["checkpoint_steps"], minimum=1),
        keep_best=None if keep_best is None else checks.integer("keep_best", keep_best, minimum=1),
        cluster=_cluster(config["cluster"]),
        dry_run=checks.boolean("dry_run", config["dry_run"]),
        optuna_storage=None if storage is None else Path(checks.text("optuna.storage", storage)),
    )


def _results(value: object) -> Location:
    text = checks.text("results", value)
    results = location(text)
    if "://" in text and not isinstance(results, ObjectPath):
        raise SettingsError(f"results is {text!r}, but it is a local path, s3://bucket/… or gs://bucket/…")
    if isinstance(results, ObjectPath) and "@" in results.root:
        raise SettingsError("results names credentials, but they are taken from the environment (AWS_…, GOOGLE_…)")
    return results


def _tracking(value: object, results: Location) -> str | None:
    if value is None:
        if isinstance(results, ObjectPath):
            raise SettingsError(
                f"results is {str(results)!r}, where MLflow's database cannot be: say where it is, "
                "e.g. tracking=sqlite:////home/me/mlflow.db or tracking=http://host:5000"
            )
        return None
    text = checks.text("tracking", value)
    if not text.startswith(("sqlite:////", "http://", "https://")):
        raise SettingsError(
            f"tracking is {text!r}, but it is sqlite:////absolute/path/mlflow.db, http://… or https://…"
        )
    return text


def _optuna(values: Mapping[str, Any]) -> Optuna:
    quantile = values["quantile"]
    if quantile is not None and checks.non_negative("optuna.quantile", quantile) > 1:
        raise SettingsError(f"optuna.quantile is {quantile!r}, but it is a number in [0, 1], or null for the mean")
    return Optuna(
        sampler=checks.text("optuna.sampler", values["sampler"]),
        quantile=None if quantile is None else float(quantile),
    )


def _asha(values: Mapping[str, Any]) -> float:
    reduction = checks.positive("asha.reduction", values["reduction"])
    if reduction <= 1:
        raise SettingsError(f"asha.reduction is {reduction:g}, but it is a number above 1, e.g. 3")
    return reduction


def _study(values: Mapping[str, Any], space: object, seeds: int, optuna: Optuna | None, asha: float | None) -> Study:
    name = checks.name("study.name", values["name"])
    own = search_spaces.load(checks.text("study.space", values["space"]))
    loaded = own if space is None else search_spaces.load(checks.text("space", space))
    suffixes = ((loaded.name, loaded != own), ("optuna", optuna is not None), ("asha", asha is not None))
    return Study(
        name="-".join([name, *[word for word, holds in suffixes if holds]]),
        seed=checks.integer("study.seed", values["seed"], minimum=0),
        seeds=seeds,
        space=loaded,
        protocol=_protocol(values),
        optuna=optuna,
        asha=asha,
    )


def _protocol(values: Mapping[str, Any]) -> Protocol:
    def integer(key: str, minimum: int = 1) -> int:
        return checks.integer(f"study.{key}", values[key], minimum)

    steps = integer("steps")
    return Protocol(
        dataset=checks.name("study.dataset", values["dataset"]),
        width=integer("width"),
        steps=steps,
        evaluation_steps=_evaluation_steps(values["evaluation_steps"], steps),
        fid_features=checks.name("study.fid_features", values["fid_features"]),
        fid_samples=integer("fid_samples", minimum=4),  # a covariance is taken of each half
        evaluation_images=integer("evaluation_images"),
        prior_variance=checks.positive("study.prior_variance", values["prior_variance"]),
        cost_scale=checks.positive("study.cost_scale", values["cost_scale"]),
        input_noise=checks.non_negative("study.input_noise", values["input_noise"]),
        pretraining_steps=integer("pretraining_steps", minimum=0),
        pretraining_images=integer("pretraining_images", minimum=2),
        precision=checks.one_of("study.precision", values["precision"], PRECISIONS),
        vae_likelihood=checks.one_of("study.vae_likelihood", values["vae_likelihood"], ("gaussian", "bernoulli")),
        without_batch_norm=tuple(
            checks.one_of("study.without_batch_norm", algorithm, ALGORITHMS)
            for algorithm in checks.items("study.without_batch_norm", values["without_batch_norm"], "[vae]")
        ),
        log_prior=checks.boolean("study.log_prior", values["log_prior"]),
        learning_rate_drops=_drops(values["learning_rate_drops"]),
    )


def _evaluation_steps(value: object, steps: int) -> tuple[int, ...]:
    key = "study.evaluation_steps"
    listed = tuple(checks.integer(key, step, minimum=1) for step in checks.items(key, value, "[50, 100]"))
    if not listed or list(listed) != sorted(set(listed)) or listed[-1] != steps:
        raise SettingsError(f"{key} is {list(listed)}, but they ascend and end with study.steps ({steps})")
    return listed


def _drops(value: object) -> tuple[tuple[int, float], ...]:
    key, example = "study.learning_rate_drops", "[[30, 2], [50, 5]]"
    drops = [checks.items(key, drop, example) for drop in checks.items(key, value, example)]
    if any(len(drop) != 2 for drop in drops):
        raise SettingsError(f"{key} is {value!r}, but it is a list of [after which epoch, divisor], e.g. {example}")
    return tuple((checks.integer(key, epoch, minimum=0), checks.positive(key, divisor)) for epoch, divisor in drops)


def _cluster(values: Mapping[str, Any]) -> Cluster:
    workers, pack_size = values["workers"], values["pack_size"]
    resources = {key: checks.integer(f"cluster.{key}", values[key], minimum=0) for key in RESOURCES}
    if not any(resources.values()):
        raise SettingsError(
            f"{', '.join(f'cluster.{key}' for key in RESOURCES)} are all 0, but a worker needs something"
        )
    return Cluster(
        executor=checks.one_of("cluster.executor", values["executor"], EXECUTORS),
        device=checks.one_of("cluster.device", values["device"], DEVICES),
        workers=None if workers is None else checks.integer("cluster.workers", workers, minimum=1),
        **resources,
        pack_size=None if pack_size is None else checks.integer("cluster.pack_size", pack_size, minimum=1),
        teraflops=checks.positive("cluster.teraflops", values["teraflops"]),
    )
