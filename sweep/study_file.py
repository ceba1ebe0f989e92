"""study.yaml: what a results folder was made with, and whether a launch may add to it."""

from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from sweep.checks import SettingsError
from sweep.schema import SCHEMA_VERSION
from sweep.settings import Study
from wae_core.checkpoint import write_atomically
from wae_core.features import features_name

PACKAGES = ("torch", "numpy", "ray", "mlflow", "pandas", "pyarrow", "safetensors")


def claim(path: Path, study: Study) -> None:
    """Write study.yaml, or check that the one there is of the same study.

    Raises:
        SettingsError: the folder belongs to another version of the study; the sentence names the first difference.
    """
    identity = _identity(study)
    if not path.exists():
        document = identity | {
            "git_commit": git_commit(),
            "python": platform.python_version(),
            "packages": {package: version(package) for package in PACKAGES},
        }
        write_atomically(path, yaml.safe_dump(document, sort_keys=False).encode())
        return
    try:
        stored = yaml.safe_load(path.read_text())
        stored = {key: stored[key] for key in identity}
    except (OSError, yaml.YAMLError, ValueError, KeyError, TypeError, RecursionError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise SettingsError(f"{path} is not a study file of this version ({reason})") from error
    for key, there, here in _differences("", stored, identity):
        if key.endswith(".source"):  # words about an interval, not the interval
            continue
        raise SettingsError(
            f"{path.parent} belongs to another version of study {study.name}: {key} is {there!r} there and "
            f"{here!r} in this launch; give another results folder (RESULTS=), or the old value"
        )


def git_commit() -> str:
    """The commit of this source tree, "-dirty" behind it if files differ; "unknown" outside a git checkout."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def _identity(study: Study) -> dict[str, Any]:
    """All that decides what a run of the study is, as plain data."""
    identity = {
        "schema_version": SCHEMA_VERSION,
        "study": study.name,
        "seed": study.seed,
        "seeds": study.seeds,
        "protocol": asdict(study.protocol),
        "fid_features": features_name(study.protocol.fid_features),
        "space": study.space.as_dict(),
    }
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain


def _differences(key: str, there: Any, here: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(there, dict) and isinstance(here, dict):
        return [
            difference
            for name in dict.fromkeys([*there, *here])
            for difference in _differences(f"{key}.{name}".strip("."), there.get(name), here.get(name))
        ]
    return [] if there == here else [(key, there, here)]
