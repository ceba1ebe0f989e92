"""From key=value words to the settings of one launch: Hydra composes; every mistake is one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

import search_spaces
from search_spaces import SpaceError
from sweep.errors import SettingsError
from sweep.places import check_path, data_source, results_location
from sweep.settings.kinds import sentence
from sweep.settings.settings import Asha, Cluster, FailurePolicy, Optuna, Settings, Study
from sweep.settings.words import CONF, DRY_RUN, check_keys, shown_by_dry_run, split_paths
from wae_core import checks
from wae_core.names import PRECISIONS
from wae_core.protocol import Protocol
from wae_core.run import ALGORITHMS

# What words choose among, and the settings know no more: key -> choices.
CHOICES = {
    "alg": (*ALGORITHMS, "all"),
    "search": ("random", "optuna"),
    "scheduler": ("none", "asha"),
    "retry": ("none", "failed"),
}
# The keys of these groups say how something works that another word asks for: group -> that word's key.
ASKED_FOR_BY = {"optuna": "search", "asha": "scheduler"}


def load_settings(words: Sequence[str]) -> Settings:
    """Compose and check the settings of a launch from its `key=value` words.

    Raises:
        SettingsError: a key or value is not usable.
        SpaceError: the search space is not.
    """
    # Paths may hold any character of Hydra's grammar, so they go round it.
    paths, others = split_paths(words)
    check_keys(others)
    others += shown_by_dry_run(others)
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            composed = OmegaConf.to_container(compose("config", overrides=others), resolve=True)
    except (HydraException, OmegaConfBaseException, RecursionError) as error:
        raise SettingsError(f"the words {others} cannot be combined with {CONF}") from error
    config = cast("dict[str, Any]", composed) | paths
    try:
        return _settings(config, words)
    except ValidationError as error:
        raise SettingsError(sentence(error)) from error
    except SpaceError:
        raise
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _settings(config: Mapping[str, Any], words: Sequence[str]) -> Settings:
    for key, choices in CHOICES.items():
        checks.one_of(key, config[key], choices)
    for group, key in ASKED_FOR_BY.items():
        given, chosen = [word for word in words if word.startswith(f"{group}.")], config[key]
        if given and chosen != group:
            raise SettingsError(f"{given[0]!r} is for {group}, but {key} is {chosen!r}: give {key}={group} as well")
    for word in words:
        if word.startswith("confirm_seeds=") and config["confirm"] is None:
            raise SettingsError(f"{word!r} is for confirm, but confirm is null: give e.g. confirm=10 as well")
    study = _study(config)
    checks.one_of("alg", config["alg"], (*study.space.algorithms, "all"))  # of which the space may offer fewer
    return Settings(
        study=study,
        algorithms=study.space.algorithms if config["alg"] == "all" else (config["alg"],),
        budget=config["budget"],
        results=results_location(config["results"]),
        tracking=config["tracking"],
        data=Path(check_path("data", config["data"])),
        inception=_path_or_none("inception", config["inception"]),
        search=config["search"],
        retry_failed=config["retry"] == "failed",
        failures=FailurePolicy(**config["failures"]),
        checkpoint_steps=config["checkpoint_steps"],
        keep_best=config["keep_best"],
        cluster=Cluster(**config["cluster"]),
        dry_run=config["dry_run"],
        optuna_storage=_path_or_none("optuna.storage", config.get("optuna.storage")),
        confirm=config["confirm"],
        confirm_seeds=config["confirm_seeds"],
        data_source=None if config["data_source"] is None else data_source(config["data_source"]),
    )


def _study(config: Mapping[str, Any]) -> Study:
    """The study, named after all by which it differs from the one in its file."""
    values = {key: value for key, value in config["study"].items() if key != DRY_RUN}
    name, seed, seeds, own_space = (values.pop(key) for key in ("name", "seed", "seeds", "space"))
    own = search_spaces.load(own_space)
    space = own if config["space"] is None else search_spaces.load(check_path("space", config["space"]))
    sampler, quantile = config["optuna"]["sampler"], config["optuna"]["quantile"]
    optuna, asha = config["search"] == "optuna", config["scheduler"] == "asha"
    suffixes = ((space.name, space != own), ("optuna", optuna), ("asha", asha))
    checks.one_of("study.precision", values["precision"], PRECISIONS)
    for algorithm in checks.items("study.without_batch_norm", _tuple(values["without_batch_norm"]), "[vae]"):
        checks.one_of("study.without_batch_norm", algorithm, ALGORITHMS)
    return Study(
        name="-".join([checks.name("study.name", name), *[word for word, holds in suffixes if holds]]),
        seed=seed,
        seeds=seeds,
        space=space,
        protocol=Protocol.from_plain(values),
        optuna=Optuna(sampler=sampler, quantile=quantile) if optuna else None,
        asha=Asha(**config["asha"]).reduction if asha else None,
    )


def _path_or_none(key: str, value: str | None) -> Path | None:
    return None if value is None else Path(check_path(key, value))


def _tuple(value: object) -> object:
    """YAML has lists where a protocol has tuples."""
    return tuple(value) if isinstance(value, list) else value
