"""`dry_run=true`: what a budget takes, without data, and by what was measured where a study has ended runs."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

import search_spaces
from sweep.errors import SettingsError
from sweep.launch import launch
from sweep.results import study_file
from sweep.results.folder import StudyFolder
from sweep.results.tables import Tables
from sweep.search.plan import plan_runs
from sweep.settings.compose import load_settings
from sweep.settings.settings import FailurePolicy
from wae_core.flops import run_flops


def dry_run(*words: str) -> str:
    output = io.StringIO()
    launch(load_settings([*words, "dry_run=true"]), Console(file=output, width=300))
    return output.getvalue()


def cells(output: str) -> dict[str, list[str]]:
    """The table's rows by algorithm."""
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in output.splitlines() if "│" in line]
    return {name: rest for name, *rest in rows}


@pytest.mark.slow
def test_the_large_study_is_costed_without_its_data(tmp_path: Path) -> None:
    output = dry_run(
        "study=bigwae", "budget=1000", "cluster=local", f"results={tmp_path / 'results'}", f"data={tmp_path / 'none'}"
    )
    table = cells(output)
    assert list(table) == ["wae-mmd", "wae-gan", "vae", "together"]
    for algorithm in ("wae-mmd", "wae-gan", "vae"):
        models, steps, _, flops, _, share = table[algorithm]
        assert (models, steps) == ("999", "99,900,000")
        assert flops.endswith(" ZFLOP") and float(flops.split()[0]) == pytest.approx(1.385, abs=0.005)
        assert share == "33.3%"
    assert table["together"][0] == "2,997" and table["together"][-1] == "100.0%"
    assert "wae-gan-00332" in output
    assert "assumed 0.02 TFLOP/s per device (cpu)" in output and "cluster=gpu" in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_large_study_is_shown_with_the_paper_s_budget_on_accelerators(tmp_path: Path) -> None:
    words = ("study=bigwae", f"results={tmp_path / 'results'}")
    output = dry_run(*words, "alg=vae")
    assert cells(output)["vae"][0] == "1,002" and "per device (cuda)" in output
    assert cells(dry_run(*words, "alg=vae", "budget=6"))["vae"][0] == "6"
    assert load_settings(words).budget == 3, "what is trained is never more than was asked for"


@pytest.mark.slow
def test_hours_are_flops_over_the_cluster_s_rate() -> None:
    words = ("study=bigwae", "alg=vae", "budget=6", "cluster=gpu", "cluster.teraflops=200")
    output = dry_run(*words)
    (row,) = cells(output).values()  # one algorithm needs no sum
    flops = sum(run_flops(run, (3, 64, 64)) for run in plan_runs(load_settings(words).study, "vae", 6))
    assert row[3:] == [f"{flops / 1e18:.3f} EFLOP", f"{flops / 200e12 / 3600:.2f}", "100.0%"]
    assert "assumed 200 TFLOP/s per device (cuda)" in output


def test_hours_are_those_of_the_study_s_ended_runs_if_there_are_any(
    tmp_path: Path, make_result: Callable[..., Any]
) -> None:
    words = ("alg=vae", "budget=3", f"results={tmp_path}")
    study = load_settings(words).study
    run = plan_runs(study, "vae", 3)[1]
    folder = StudyFolder(tmp_path, study.name)
    folder.records.mkdir(parents=True)
    study_file.claim(folder, study, FailurePolicy(tries=3, worker_deaths=5))
    folder.publish(*make_result(run, steps_done=study.protocol.steps, train_seconds=3500.0, eval_seconds=100.0))
    Tables(folder)
    output = dry_run(*words)
    assert cells(output)["vae"][4] == "3.000"
    assert "by what runs of this study took on cpu: 1 completed" in output
    assert "assumed 50 TFLOP/s per device (cuda)" in dry_run(*words, "cluster=gpu")
    other = dry_run(*words, "study.steps=600", "study.evaluation_steps=[600]")
    assert "assumed 0.02" in other, "the folder is of another version of the study"


def test_a_confirmation_is_costed_apart() -> None:
    output = dry_run("alg=all", "budget=9", "confirm=2", "confirm_seeds=4")
    study, confirmation = output.split("study digits-confirm: ")
    assert cells(study)["vae"][0] == "9" and "digits-confirm" not in study
    assert {name: row[0] for name, row in cells(confirmation).items()} == {
        **dict.fromkeys(("wae-mmd", "wae-gan", "vae"), "8"),
        "together": "24",
    }
    assert "vae-00002" in study and "2 these are is decided when the study is done" in confirmation


def test_what_cannot_be_costed_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "typo.yaml"
    space = search_spaces.load("digits").as_dict()
    space["architecture"] = {"algorithms": "all", "distribution": "fixed", "value": "dcgam", "source": "a test"}
    path.write_text(yaml.safe_dump(space))
    with pytest.raises(SettingsError, match="unknown architecture 'dcgam'"):
        dry_run(f"space={path}")
    with pytest.raises(SettingsError, match="unknown data set 'cifar'"):
        dry_run("study.dataset=cifar")
    with pytest.raises(SettingsError, match="resnet50v2 cannot be built at width 1"):
        dry_run("space=bigwae", "study.width=1", "budget=30")
