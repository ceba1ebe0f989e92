"""The launch files: each fits its schema, opens with what a person must know, and has a driver's line that works."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from jsonschema import Draft202012Validator, ValidationError

from sweep.results.folder import read_runs
from sweep.settings.compose import load_settings
from tests.chaos.ray_head import ray_head

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "sweep/deploy"
SCHEMAS = Path(__file__).parent / "launch_files"
FILES = sorted(path for path in DEPLOY.iterdir() if path.suffix != ".dockerignore")
RAYJOBS = ("rayjob-gpu.yaml", "rayjob-tpu.yaml")
DRIVERS = (*RAYJOBS, "ray-up.yaml", "skypilot.yaml", "slurm.sbatch")
# Of `man sbatch`, with what each takes; what is not here is to be looked up there and added.
SBATCH = {
    "job-name": r"[\w-]+",
    "output": r"[\w%./-]+",
    "open-mode": "append|truncate",
    "nodes": r"\d+(-\d+)?",
    "ntasks-per-node": r"\d+",
    "cpus-per-task": r"\d+",
    "gpus-per-node": r"([\w.]+:)?\d+",
    "time": r"(\d+-)?\d+(:\d+){0,2}",
    "requeue": "",
    "signal": r"([RB]*:)?\w+(@\d+)?",
}
INSTRUCTIONS = {"ARG", "FROM", "RUN", "ENV", "COPY", "WORKDIR", "USER", "CMD"}
SMALL = {
    **{"study": "digits", "alg": "vae", "budget": "1", "cluster": "local", "cluster.workers": "1"},
    **{"study.seeds": "1", "study.steps": "4", "study.evaluation_steps": "[4]", "study.fid_samples": "200"},
    **{"study.evaluation_images": "50", "study.pretraining_steps": "2", "study.width": "4"},
}


def read(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def ray_s_own_schema() -> Any:
    return json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())


SCHEMA = {
    **dict.fromkeys(RAYJOBS, yaml.safe_load((SCHEMAS / "rayjob.yaml").read_text())),
    "skypilot.yaml": yaml.safe_load((SCHEMAS / "skypilot.yaml").read_text()),
    "ray-up.yaml": ray_s_own_schema(),
}


def driver_words(name: str) -> list[str]:
    """The words of the driver's line, with the defaults of the script's variables."""
    text = (DEPLOY / name).read_text()
    if name in RAYJOBS:
        line = read(name)["spec"]["entrypoint"]
    elif name == "ray-up.yaml":
        (line,) = re.findall(r"ray exec .* '(bigwae sweep .*)'", text)
    else:
        (line,) = re.findall(r"^ *(bigwae sweep (?:.*\\\n)*.*)$", text, re.MULTILINE)
        for variable, value in re.findall(r'^: "\$\{(\w+):=(.*)\}"$', text, re.MULTILINE):
            line = line.replace(f'"${variable}"', value).replace(f"${variable}", value)
        line = re.sub(r"\$\(\(.*\)\)", "64", line).removesuffix(" &")
    command, verb, *words = shlex.split(line.replace("\\\n", " "))
    assert (command, verb) == ("bigwae", "sweep")
    return words


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.name)
def test_each_opens_with_its_command_its_hardware_and_what_is_to_be_filled_in(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if not line.startswith("#!")]
    opening = "\n".join(line for line in lines[: next(i for i, line in enumerate(lines) if line[:1] != "#")])
    for word in ("Command:", "Hardware:", "Fill in:"):
        assert f"# {word}" in opening
    assert re.search(
        rf"\b(docker build|kubectl apply|ray up|sky jobs launch|sbatch)\b.* sweep/deploy/{file.name}\b", opening
    )


def test_there_is_a_schema_or_a_rule_for_each() -> None:
    assert {file.name for file in FILES} == {*SCHEMA, "Dockerfile", "slurm.sbatch"}


@pytest.mark.parametrize("name", SCHEMA)
def test_each_fits_its_schema(name: str) -> None:
    document, validator = read(name), Draft202012Validator(SCHEMA[name])
    validator.validate(document)
    for wrong in misspelt(document, 2):
        with pytest.raises(ValidationError):
            validator.validate(wrong)


def misspelt(document: dict[str, Any], depth: int) -> Iterator[dict[str, Any]]:
    """Copies with one key changed, each of the outer ones in turn; those in which a person chooses the names stay."""
    for key, value in document.items():
        yield {(f"{name}s" if name == key else name): inner for name, inner in document.items()}
        if depth > 1 and key in ("spec", "rayClusterSpec", "resources"):
            for wrong in misspelt(value, depth - 1):
                yield deepcopy(document) | {key: wrong}


@pytest.mark.parametrize("name", DRIVERS)
def test_the_driver_s_words_are_those_of_a_launch(name: str) -> None:
    settings = load_settings(driver_words(name))
    assert settings.study.name == "bigwae"
    assert settings.budget == 1002
    assert settings.cluster.executor == "ray"
    assert settings.cluster.workers is None, "as many as the nodes hold, whenever they come"
    assert settings.cluster.device == ("xla" if name == "rayjob-tpu.yaml" else "cuda")


def test_each_file_brings_64_accelerators() -> None:
    for name in RAYJOBS:
        (group,) = read(name)["spec"]["rayClusterSpec"]["workerGroupSpecs"]
        (container,) = group["template"]["spec"]["containers"]
        chips = {key: int(value) for key, value in container["resources"]["limits"].items() if "/" in key}
        assert group["maxReplicas"] * sum(chips.values()) == 64
        assert read(name)["spec"]["rayClusterSpec"]["rayVersion"] == ray.__version__
    up = read("ray-up.yaml")["available_node_types"]["gpu"]
    assert up["max_workers"] * up["resources"]["GPU"] == 64
    sky = read("skypilot.yaml")
    assert sky["num_nodes"] * int(sky["resources"]["accelerators"].partition(":")[2]) == 64


def test_slurm_s_options_are_those_of_its_manual_and_its_script_is_one_of_bash() -> None:
    path = DEPLOY / "slurm.sbatch"
    subprocess.run(["bash", "-n", path], check=True)
    given = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", path.read_text(), re.MULTILINE))
    assert {"nodes", "requeue", "signal"} <= given.keys()
    for option, value in given.items():
        assert re.fullmatch(SBATCH[option], value), option
    text = path.read_text()
    assert text.index("#SBATCH") > text.index("#!/bin/bash") and text.rindex("#SBATCH") < text.index("set -euo")
    for name in ("setup", "run"):
        subprocess.run(["bash", "-n"], input=read("skypilot.yaml")[name], text=True, check=True)


def test_what_the_image_is_made_of_is_there() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    instructions = [line.split(maxsplit=1) for line in lines if line.strip()]
    assert {name for name, _ in instructions} <= INSTRUCTIONS
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split("\n")
    for source in [words.split()[0] for name, words in instructions if name == "COPY"]:
        assert (ROOT / source).exists() and source not in ignored
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for file in FILES:
        assert set(re.findall(r"\[(cluster)\]", file.read_text())) <= extras.keys()
    assert not {"sweep", "wae_core", "search_spaces", "pyproject.toml", "constraints.txt"} & set(ignored)


@pytest.fixture
def head() -> Iterator[str]:
    """The address of a head that wants a token, which this process's home has."""
    with ray_head() as started:
        yield started.address


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.long
@pytest.mark.timeout(400)
def test_the_driver_s_line_trains_on_a_head_that_wants_a_token(head: str, tmp_path: Path) -> None:
    given = dict(word.split("=", 1) for word in driver_words("rayjob-gpu.yaml"))
    left_out = {"data", "inception", "tracking"}  # of the paper's study, and of another place
    words = {name: value for name, value in given.items() if name not in left_out} | SMALL
    line = [f"{name}={value}" for name, value in (words | {"results": str(tmp_path)}).items()]
    command = [sys.executable, "-m", "sweep.command", "sweep", *line]
    done = subprocess.run(
        command, env=os.environ | {"RAY_ADDRESS": head}, cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "Failed to get cluster ID" not in done.stderr
    assert read_runs(tmp_path, "digits")["status"].tolist() == ["completed"]
    assert (Path.home() / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600
    (Path.home() / ".ray" / "auth_token").unlink()
    refused = subprocess.run(
        [*command, "budget=2"], env=os.environ | {"RAY_ADDRESS": head}, cwd=ROOT, capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: the Ray cluster {head} asks for a token, and there is none here: ")
