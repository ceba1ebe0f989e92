"""The `key=value` words of a launch: which there are, and a sentence for each that there is not."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from search_spaces.plain_yaml import read_yaml
from search_spaces.sentences import closest
from sweep.errors import SettingsError

CONF = Path(__file__).parents[1] / "conf"
DRY_RUN = "dry_run"  # in a study's file: the words that a dry run takes unless it is told others
PATHS = ("results", "space", "data", "data_source", "inception", "tracking", "optuna.storage")


def studies() -> list[str]:
    """The names of the study files."""
    return sorted(path.stem for path in (CONF / "study").glob("*.yaml"))


def check_keys(words: Sequence[str]) -> None:
    """Refuse what Hydra would answer with a page: words without '=', unknown keys, unknown files of a group."""
    groups = {"study": studies(), "cluster": sorted(path.stem for path in (CONF / "cluster").glob("*.yaml"))}
    known = set(groups)
    for name, value in OmegaConf.load(CONF / "config.yaml").items():
        known |= {f"{name!s}.{key!s}" for key in value} if isinstance(value, DictConfig) else {str(name)}
    known.discard("defaults")
    for group, names in groups.items():
        known |= {f"{group}.{key!s}" for key in OmegaConf.load(CONF / group / f"{names[0]}.yaml")}
    known.discard(f"study.{DRY_RUN}")
    for word in words:
        override = _parse(word)
        key = override.get_key_element()
        if override.type is None or not override.type.name == "CHANGE" or key not in known:
            raise SettingsError(f"unknown key {word.split('=')[0]!r}: {_allowed(key, known)}")
        if override.is_sweep_override():
            raise SettingsError(f"{word!r} lists several values, but {key} takes one")
        if key == "study.space":
            raise SettingsError(f"{word!r} would make another study of this one: give it as space={override.value()}")
        if key in groups and str(override.value()) not in groups[key]:
            raise SettingsError(f"unknown {key} {override.value()!r}: {_allowed(str(override.value()), groups[key])}")
        if key in groups:
            _check_file(CONF / key / f"{override.value()}.yaml")


def shown_by_dry_run(words: Sequence[str]) -> list[str]:
    """Return the words that a dry run takes from its study's file, since that is not meant for this machine."""
    given = {override.get_key_element(): override.value() for override in map(_parse, words)}
    if given.get("dry_run") is not True or "study" not in given:
        return []
    study = read_yaml(CONF / "study" / f"{given['study']}.yaml")
    own = study.get(DRY_RUN, {}) if isinstance(study, dict) else {}
    return [f"{key}={value}" for key, value in own.items() if key not in given]


def _check_file(path: Path) -> None:
    """Refuse a file whose numbers Hydra does not read as they look: 0300 is 192 to it, and 1:30 is 90."""
    written = read_yaml(path)
    assert isinstance(written, dict), "it has keys, as was found above"
    for key, read in OmegaConf.load(path).items():
        there = written[key]
        if OmegaConf.is_config(read):
            read = OmegaConf.to_container(read)
        if read != there:
            raise SettingsError(f"{path}: {key!s} is {there!r}, which YAML takes for {read!r}: write decimal numbers")
    for name in written.get("defaults", []):
        if name != "_self_":
            _check_file(path.with_name(f"{name}.yaml"))


def _parse(word: str) -> Override:
    if "=" not in word:
        raise SettingsError(f"{word!r} is not of the form key=value, e.g. budget=12")
    if "${" in word:
        raise SettingsError(f"{word!r} refers to another value, but values are written out")
    try:
        return OverridesParser.create().parse_override(word)
    except (HydraException, RecursionError, ValueError) as error:  # ValueError: a number of 5,000 digits
        raise SettingsError(
            f"{word!r} cannot be read: put a value with special characters in quotes, and close brackets and quotes"
        ) from error


def split_paths(words: Sequence[str]) -> tuple[dict[str, str | None], list[str]]:
    """Return the values of PATHS, in which a shell may have left ~ for the home folder, and the other words."""
    paths: dict[str, str | None] = {}
    others = []
    for word in words:
        key, equals, value = word.partition("=")
        if key in PATHS and equals:
            paths[key] = None if value == "null" else os.path.expanduser(value)  # noqa: PTH111 (Path has no words)
        else:
            others.append(word)
    return paths, others


def _allowed(wrong: str, known: Iterable[str]) -> str:
    meant = closest(wrong, known)
    return f"did you mean {meant!r}?" if meant else f"it is one of {', '.join(sorted(known))}"
