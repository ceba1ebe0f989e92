"""study.yaml: what a results folder was made with, and whether a launch may add to it."""

from __future__ import annotations

import json
import platform
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, fields
from importlib.metadata import PackageNotFoundError, version
from itertools import zip_longest
from types import NoneType
from typing import Any

import yaml

from search_spaces import SearchSpace
from search_spaces.distributions import Distribution
from sweep.commit import git_commit
from sweep.errors import ResultsError, SettingsError
from sweep.results.belonging import Rules
from sweep.results.folder import STUDY_FILE_ERRORS, StudyFolder
from sweep.results.plan_file import read_plan
from sweep.results.schema import SCHEMA_VERSION
from sweep.settings.settings import FailurePolicy, Study
from wae_core.evaluation.features import features_name
from wae_core.flops import Shape
from wae_core.protocol import Protocol
from wae_core.run import Hyperparameters
from wae_core.storage.files import write_atomically

PACKAGES = ("bigwae", "torch", "numpy", "ray", "mlflow", "pandas", "pyarrow", "safetensors")

# In a study file that is older than the key.
BEFORE = {"search": "random", "scheduler": "none", "confirms": None, "fid_reference": None, "fid_warning": None}
# Behind what must not change.
PROVENANCE = ("failures", "data_sha256", "fid_reference", "fid_warning", "git_commit", "python", "packages")


def claim(
    folder: StudyFolder,
    study: Study,
    failures: FailurePolicy,
    image_shape: Shape | None = None,
    data_sha256: str | None = None,
    fid_reference: str | None = None,
    fid_warning: str | None = None,
) -> list[str]:
    """Write study.yaml, or check that the one there is of the same study, with the same space or a wider one.

    A space is wider than the stored one if it draws every planned configuration as the plan has it, so that it
    changes only what is still to be drawn; where Optuna proposes, if it allows every planned configuration. Then
    study.yaml records it, and the differences are returned as lines. The failure policy may differ from launch to
    launch; study.yaml records the last one.
    `image_shape`, (C, H, W), is written for the ledger, which counts FLOPs where the data are not at hand;
    `data_sha256`, the identity of the data, so that no other data are mixed with them; `fid_reference`, what the
    protocol's reference is in these data, as rows have it, and `fid_warning`, for who reads the FIDs.

    Raises:
        SettingsError: the folder belongs to another version of the study, or to other data; the sentence names the
            first difference, or all those of the space. Or it has results, and no study file that says of what.
    """
    path, identity = folder.study_file, _identity(study)
    if not path.exists():
        if held := folder.holds():
            raise SettingsError(
                f"{path} is missing beside {held}, so that nobody knows of which study that is: put study.yaml back, "
                "or give another results folder (RESULTS=)"
            )
        document = identity | {
            "failures": asdict(failures),
            "image_shape": list(image_shape) if image_shape else None,
            "data_sha256": data_sha256,
            "fid_reference": fid_reference,
            "fid_warning": fid_warning,
            "git_commit": git_commit(),
            "python": platform.python_version(),
            "packages": {package: _version(package) for package in PACKAGES},
        }
        write_atomically(path, yaml.safe_dump(document, sort_keys=False).encode())
        return []
    lines = widening(folder, study)
    stored = yaml.safe_load(path.read_bytes())
    if data_sha256 is not None and stored["data_sha256"] != data_sha256:
        raise SettingsError(
            f"{path.parent} belongs to other data: the sha256 of data set {study.protocol.dataset} is "
            f"{_show(stored['data_sha256'])} there and {data_sha256!r} in this launch; give another results folder "
            "(RESULTS=), or the old data (data=)"
        )
    document = stored | {"failures": asdict(failures)} | ({"space": identity["space"]} if lines else {})
    if document != stored:
        write_atomically(path, yaml.safe_dump(document, sort_keys=False).encode())
    return lines


def read_rules(folder: StudyFolder) -> tuple[Rules, int]:
    """Read from study.yaml what the study's rows have in common, and its seed.

    Raises:
        FileNotFoundError: there is no study.yaml.
        ResultsError: it is damaged, or of another version.
    """
    try:
        document = yaml.safe_load(folder.study_file.read_bytes())
        protocol = Protocol.from_plain(document["protocol"])
        stops_early = document["scheduler"] != "none"
        first = document["confirms"]["first_seed"] if document.get("confirms") else 0
        rules = Rules(
            document["study"],
            range(first, first + document["seeds"]),
            protocol,
            document["data_sha256"],
            stops_early,
            fid_reference=document.get("fid_reference"),
        )
        return rules, document["seed"]
    except FileNotFoundError:
        raise
    except STUDY_FILE_ERRORS as error:
        raise ResultsError(f"{folder.study_file} cannot be used: it is not a study file of this version") from error


def widening(folder: StudyFolder, study: Study) -> list[str]:
    """Return the lines in which the study's space is wider than the one in study.yaml; nothing is written.

    Raises:
        SettingsError: as `claim` does.
    """
    path, identity = folder.study_file, _identity(study)
    try:
        document = BEFORE | yaml.safe_load(path.read_bytes())
        stored = {key: document[key] for key in (*identity, *PROVENANCE)}  # else it was cut off
    except STUDY_FILE_ERRORS as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise SettingsError(f"{path} is not a study file of this version ({reason})") from error
    lines = []
    for key, there, here in _differences("", {key: stored[key] for key in identity}, identity):
        if key.endswith(".source"):  # words about an interval, not the interval
            continue
        if not key.startswith("space."):
            raise SettingsError(
                f"{path.parent} belongs to another version of study {study.name}: {key} is {_show(there)} there and "
                f"{_show(here)} in this launch; give another results folder (RESULTS=), or the old value"
            )
        lines.append(f"{key}: {_show(there)} → {_show(here)}".replace("'", ""))
    moved = _moved_configuration(folder, study) if lines else ""
    if moved:
        raise SettingsError(
            f"{path.parent} was planned from another search space, in which {moved}; give another results folder "
            "(RESULTS=), or the old values:\n  " + "\n  ".join(lines)
        )
    return lines


def _moved_configuration(folder: StudyFolder, study: Study) -> str:
    """The first planned configuration that the study's space draws otherwise, in words; empty if there is none.

    Optuna's proposals depend on no index: of them, the first that the space does not allow.
    """
    if not folder.plan_file.exists():
        return ""
    plan = read_plan(folder).to_pylist()
    for row in {row["config_id"]: row for row in plan}.values():
        if study.optuna is not None:
            forbidden = _forbidden(study.space, row)
            if forbidden:
                return f"{row['config_id']} has {forbidden} {row[forbidden]}"
            continue
        drawn = study.space.sample(row["algorithm"], row["config_index"], study.seed)
        for hyperparameter in fields(Hyperparameters):
            name = hyperparameter.name
            if row[name] != drawn.get(name):
                return f"{row['config_id']} has {name} {row[name]} and not {drawn.get(name)}"
    return ""


def _forbidden(space: SearchSpace, planned: Mapping[str, Any]) -> str:
    """The first hyperparameter of a planned configuration whose value the space does not allow; empty if none is."""

    def choose(name: str, distribution: Distribution) -> Any:
        value = planned[name]
        if isinstance(value, str | NoneType):
            is_allowed = value in distribution.support
        else:
            is_allowed = distribution.within(value, value) is not None
        if not is_allowed:
            raise LookupError(name)
        return value

    try:
        space.configure(planned["algorithm"], choose)
    except LookupError as error:
        return str(error.args[0])
    return ""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # our own, in a source tree that is not installed
        return "unknown"


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
        "search": {"optuna": asdict(study.optuna)} if study.optuna else "random",
        "scheduler": {"asha": {"reduction": study.asha}} if study.asha else "none",
        "confirms": asdict(study.confirms) if study.confirms else None,
    }
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain


def _differences(key: str, there: Any, here: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(there, dict) and isinstance(here, dict):
        pairs = {name: (there.get(name), here.get(name)) for name in dict.fromkeys([*there, *here])}
    elif isinstance(there, list) and isinstance(here, list) and _are_lines(there) and _are_lines(here):
        pairs = dict(enumerate(zip_longest(there, here), start=1))
    else:
        return [] if there == here else [(key, there, here)]
    return [d for name, pair in pairs.items() for d in _differences(f"{key}.{name}".strip("."), *pair)]


def _show(value: Any) -> str:
    """The value as text; bounded, since YAML aliases can nest a small file into a huge value."""
    short = reprlib.Repr()
    short.maxlevel, short.maxlist, short.maxstring = 2, 20, 80
    return short.repr(value)


def _are_lines(values: list[Any]) -> bool:
    """Whether they are the lines of one hyperparameter, and not its values."""
    return all(isinstance(value, dict) for value in values)
