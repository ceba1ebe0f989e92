"""The command's answers that start nothing: one sentence and exit code 2 for bad input, the plan of a dry run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.__main__ import main
from sweep.results import study_file
from sweep.results.folder import StudyFolder
from sweep.settings.settings import FailurePolicy, load_settings
from tests.sweep.front_door import finish, start

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def refused(capsys: Capture) -> Callable[..., str]:
    """refused(*words): what the command says of words that it refuses."""

    def launch(*words: str) -> str:
        assert main(words) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert len(said.splitlines()) == 1
        return said

    return launch


@pytest.mark.parametrize(
    "word",
    ["alg=wea-mmd", "budget=2", "study=nosuch", "space=nosuch", "hidden=3", "search=grid"],
)
def test_bad_input_is_one_sentence_and_writes_nothing(tmp_path: Path, refused: Callable[..., str], word: str) -> None:
    said = refused(f"results={tmp_path / 'results'}", word)
    key, _, value = word.partition("=")
    assert value in said or key in said
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_the_process_ends_with_the_sentence_and_the_exit_code(tmp_path: Path) -> None:
    said = finish(start(f"results={tmp_path / 'results'}", "alg=wea-mmd"), exit_code=2)
    assert said.startswith("error: ")
    assert len(said.splitlines()) == 1


def test_an_unknown_sampler_is_refused_and_writes_nothing(tmp_path: Path, refused: Callable[..., str]) -> None:
    said = refused(f"results={tmp_path / 'results'}", "alg=vae", "search=optuna", "optuna.sampler=nosuch")
    assert "optuna.sampler is 'nosuch', but it is tpe, qmc or the path of a sampler's class" in said
    assert not (tmp_path / "results").exists()


def test_another_version_of_the_study_is_refused(tmp_path: Path, refused: Callable[..., str]) -> None:
    study = load_settings(["study.fid_samples=200"]).study
    folder = StudyFolder(tmp_path, study.name)
    (tmp_path / study.name).mkdir()
    study_file.claim(folder, study, FailurePolicy(tries=3, worker_deaths=5))
    before = (tmp_path / study.name / "study.yaml").read_bytes()
    said = refused(f"results={tmp_path}", "study.fid_samples=201")
    assert "fid_samples is 200 there and 201 in this launch" in said
    assert (tmp_path / study.name / "study.yaml").read_bytes() == before


def test_results_that_cannot_be_written_are_refused(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert refused(f"results={tmp_path / 'file'}").startswith("error: results folder")


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path, capsys: Capture) -> None:
    assert main([f"results={tmp_path / 'results'}", "alg=wae-mmd", "budget=10", "dry_run=true"]) == 0
    said = capsys.readouterr().out
    assert "3 configurations × 3 seeds = 9 models" in said
    assert "BUDGET=12 would complete one more" in said
    assert not (tmp_path / "results").exists()
