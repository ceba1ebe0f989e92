"""From key=value words to one typed object: Hydra composes, this module checks; every mistake is one sentence."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

import search_spaces
from search_spaces import SearchSpace
from wae_core.run import ALGORITHMS, Protocol

CONF = Path(__file__).parent / "conf"
SEARCHES = ("random",)
DEVICES = ("cpu", "cuda", "xla")
RESOURCES = ("cpus_per_worker", "gpus_per_worker", "tpus_per_worker")


class SettingsError(ValueError):
    """The user asked for something that cannot be done; the message is one sentence for them."""


@dataclass(frozen=True)
class Study:
    """What is studied: everything that must not change while a results folder grows."""

    name: str  # the results folder's: "<study>" or "<study>-<space>"
    seed: int
    seeds: int
    space: SearchSpace
    protocol: Protocol


@dataclass(frozen=True)
class Cluster:
    """Where it runs; may change from launch to launch."""

    device: str
    workers: int | None
    cpus_per_worker: int
    gpus_per_worker: int
    tpus_per_worker: int


@dataclass(frozen=True)
class Settings:
    """One launch."""

    study: Study
    algorithms: tuple[str, ...]
    budget: int
    results: Path
    search: str
    cluster: Cluster
    dry_run: bool


def load_settings(words: Sequence[str]) -> Settings:
    """Compose and check the settings of a launch from its `key=value` words.

    Raises:
        SettingsError: a key or value is not usable.
    """
    _check_keys(words)
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            composed = compose("config", overrides=[_quoted(word) for word in words])
        config = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise SettingsError(_first_sentence(error)) from error
    assert isinstance(config, dict)

    algorithm = _one_of("alg", config["alg"], (*ALGORITHMS, "all"))
    seeds = _integer("study.seeds", config["study"]["seeds"], minimum=1)
    budget = _integer(
        "budget", config["budget"], minimum=seeds, unit=f"models per algorithm, {seeds} a configuration"
    )
    return Settings(
        study=_study(config["study"], config["space"], seeds),
        algorithms=ALGORITHMS if algorithm == "all" else (algorithm,),
        budget=budget,
        results=Path(_string("results", config["results"])),
        search=_one_of("search", config["search"], SEARCHES),
        cluster=_cluster(config["cluster"]),
        dry_run=_boolean("dry_run", config["dry_run"]),
    )


def studies() -> list[str]:
    """The names of the study files."""
    return sorted(path.stem for path in (CONF / "study").glob("*.yaml"))


def _check_keys(words: Sequence[str]) -> None:
    """Refuse what Hydra would answer with a page: words without '=', unknown keys, unknown files of a group."""
    groups = {"study": studies(), "cluster": sorted(path.stem for path in (CONF / "cluster").glob("*.yaml"))}
    known = {"alg", "budget", "results", "space", "search", "dry_run", *groups}
    for group, names in groups.items():
        known |= {f"{group}.{key!s}" for key in OmegaConf.load(CONF / group / f"{names[0]}.yaml")}
    for word in words:
        override = _parse(word)
        key = override.key_or_group
        if override.type is None or not override.type.name == "CHANGE" or key not in known:
            raise SettingsError(f"unknown key {word.split('=')[0]!r}: {_allowed(key, known)}")
        if override.is_sweep_override():
            raise SettingsError(f"{word!r} lists several values, but {key} takes one")
        if key in groups and str(override.value()) not in groups[key]:
            raise SettingsError(f"unknown {key} {override.value()!r}: {_allowed(str(override.value()), groups[key])}")


def _parse(word: str) -> Override:
    if "=" not in word:
        raise SettingsError(f"{word!r} is not of the form key=value, e.g. budget=12")
    try:
        return OverridesParser.create().parse_override(_quoted(word))
    except HydraException as error:
        raise SettingsError(f"{word!r} cannot be read: {_first_sentence(error)}") from error


def _quoted(word: str) -> str:
    """Quote the values of `results` and `space`, which are paths and may hold any character of Hydra's grammar."""
    key, _, value = word.partition("=")
    if key not in ("results", "space") or not value or value[0] in "'\"" or value == "null":
        return word
    return f"{key}='" + value.replace("\\'", "'").replace("'", "\\'") + "'"


def _allowed(wrong: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(wrong, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else f"it is one of {', '.join(sorted(known))}"


def _first_sentence(error: Exception) -> str:
    return " ".join(str(error).strip().split("\n\n")[0].split())


def _study(values: Mapping[str, Any], space: object, seeds: int) -> Study:
    name = _string("study.name", values["name"])
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise SettingsError(f"study.name is {name!r}, but it names a folder: lower-case letters, digits, '-' and '_'")
    chosen = values["space"] if space is None else _string("space", space)
    loaded = search_spaces.load(chosen)
    return Study(
        name=name if loaded.name == values["space"] else f"{name}-{loaded.name}",
        seed=_integer("study.seed", values["seed"], minimum=0),
        seeds=seeds,
        space=loaded,
        protocol=_protocol(values),
    )


def _protocol(values: Mapping[str, Any]) -> Protocol:
    checked: dict[str, Any] = {}
    for field in dataclasses.fields(Protocol):
        key, value = f"study.{field.name}", values[field.name]
        if field.name == "evaluation_steps":
            if not isinstance(value, list) or not value:
                raise SettingsError(f"{key} is {value!r}, but it is a list of steps, e.g. [50, 100]")
            checked[field.name] = tuple(_integer(key, step, minimum=1) for step in value)
        elif field.type == "int":
            minimum = 0 if field.name == "pretraining_steps" else 2 if field.name == "fid_samples" else 1
            checked[field.name] = _integer(key, value, minimum=minimum)
        elif field.type == "float":
            checked[field.name] = _number(key, value, positive=field.name != "input_noise")
        else:
            checked[field.name] = _string(key, value)
    steps = checked["evaluation_steps"]
    if list(steps) != sorted(set(steps)) or steps[-1] != checked["steps"]:
        raise SettingsError(
            f"study.evaluation_steps is {list(steps)}, but they ascend and end with study.steps ({checked['steps']})"
        )
    return Protocol(**checked)


def _cluster(values: Mapping[str, Any]) -> Cluster:
    workers = values["workers"]
    return Cluster(
        device=_one_of("cluster.device", values["device"], DEVICES),
        workers=None if workers is None else _integer("cluster.workers", workers, minimum=1),
        **{key: _integer(f"cluster.{key}", values[key], minimum=0) for key in RESOURCES},
    )


def _one_of(key: str, value: object, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise SettingsError(f"{key} is {value!r}, but it is one of {', '.join(allowed)}")
    return str(value)


def _integer(key: str, value: object, minimum: int, unit: str = "") -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        wanted = f"a whole number of at least {minimum}" + (f" ({unit})" if unit else "")
        raise SettingsError(f"{key} is {value!r}, but it is {wanted}")
    return value


def _number(key: str, value: object, positive: bool) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not (0 < value < float("inf") or (value == 0 and not positive)):  # type: ignore[operator]
        raise SettingsError(f"{key} is {value!r}, but it is a number {'above' if positive else 'of at least'} 0")
    return float(value)  # type: ignore[arg-type]


def _string(key: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise SettingsError(f"{key} is {value!r}, but it is a text")
    return value


def _boolean(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise SettingsError(f"{key} is {value!r}, but it is true or false")
    return value
