"""A study beside another one: pairs of equal draws, a planted gain, and FIDs of different kinds that are refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.report.comparison import Comparison, load_other
from analysis.report.contents import Contents
from sweep.command import main
from sweep.results.folder import StudyFolder
from sweep.results.tables import Tables
from sweep.settings.compose import load_settings
from sweep.settings.settings import Optuna, Study
from tests.analysis import planted

pytestmark = pytest.mark.slow
BOTH = ["wae-gan", "vae"]
Gain = Callable[[float], None]


@pytest.fixture(scope="module")
def study() -> Study:
    return load_settings(["alg=all", "budget=3"]).study


@pytest.fixture
def gain(monkeypatch: pytest.MonkeyPatch) -> Gain:
    """gain(share): what is written next has this share of the FIDs."""

    def set_gain(share: float) -> None:
        bases = {name: base + math.log(share) for name, base in planted.BASES.items()}
        monkeypatch.setattr(planted, "BASES", bases)

    return set_gain


def compared(results: Path, other: str) -> Comparison:
    return Comparison(Contents.load(results, "digits"), load_other(str(results), "digits", other))


def test_a_planted_gain_is_found_in_pairs(study: Study, tmp_path: Path, gain: Gain) -> None:
    """The seeds scatter by 8 % and the gain is 10 %: without pairs, 30 configurations would not tell."""
    planted.write(tmp_path, study, BOTH, 90)
    gain(0.9)
    planted.write(tmp_path, replace(study, name="digits-better"), BOTH, 90)
    found = compared(tmp_path, "digits-better")
    for row in found.rows:
        assert row.is_paired and row.counts == (30, 30) and row.winner == 1
        assert row.ratio.low <= 1 / 0.9 <= row.ratio.high
    assert "vae is better in digits-better" in found.verdict()
    assert found.table()["better"].tolist() == ["digits-better"] * 2
    back = Comparison(Contents.load(tmp_path, "digits-better"), Contents.load(tmp_path, "digits"))
    assert [row.winner for row in back.rows] == [0, 0]


def test_two_folders_of_one_name_are_told_apart(study: Study, tmp_path: Path, gain: Gain) -> None:
    planted.write(tmp_path / "one", study, ["vae"], 30)
    gain(0.5)
    planted.write(tmp_path / "two", study, ["vae", "wae-gan"], 30)
    for word in (tmp_path / "two", tmp_path / "two" / "digits"):
        found = compared(tmp_path / "one", str(word))
        assert f"vae is better in digits in {tmp_path / 'two'}" in found.verdict()
        assert "only one of the two has results of wae-gan" in found.verdict()


def test_where_draws_differ_nothing_is_paired(study: Study, tmp_path: Path) -> None:
    planted.write(tmp_path, study, ["vae"], 30)
    planted.write(tmp_path, replace(study, name="digits-seed", seed=study.seed + 1), ["vae"], 36)
    proposed = replace(study, name="digits-optuna", optuna=Optuna(sampler="tpe", quantile=None))
    planted.write(tmp_path, proposed, ["vae"], 30)
    (row,) = compared(tmp_path, "digits-seed").rows
    assert not row.is_paired and row.counts == (10, 12) and row.winner is None
    (row,) = compared(tmp_path, "digits-optuna").rows
    assert not row.is_paired, "draws that agree by chance are no pairs"


def test_nothing_is_claimed_of_alike_studies_or_of_few_pairs(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted.write(tmp_path, study, BOTH, 30)
    planted.write(tmp_path, replace(study, name="digits-twin"), BOTH, 30)
    found = compared(tmp_path, "digits-twin")
    assert [row.winner for row in found.rows] == [None, None]
    assert "vae cannot be told at this budget" in found.verdict()
    planted.write(tmp_path, replace(study, name="digits-small"), ["vae"], 6)
    found = compared(tmp_path, "digits-small")
    assert "vae cannot be told, since that needs at least 6 pairs of configurations" in found.verdict()


def test_fids_of_different_kinds_are_refused_in_a_sentence(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted.write(tmp_path, study, ["vae"], 3)
    protocol = replace(study.protocol, fid_samples=1000)
    planted.write(tmp_path, replace(study, name="digits-more", protocol=protocol), ["vae"], 3)
    assert main(["report", "--results", str(tmp_path), "--with", "digits-more"]) == 2
    error = capsys.readouterr().err
    assert "digits and digits-more cannot be compared" in error and "samples 500 and 1000" in error
    assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "report").exists()


def test_what_is_not_there_and_the_study_itself_are_refused(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted.write(tmp_path, study, ["vae"], 3)
    for other, said in (("nosuch", "with is 'nosuch', but it is another study"), ("digits", "with itself")):
        assert main(["report", "--results", str(tmp_path), "--with", other]) == 2
        assert said in capsys.readouterr().err


def test_the_page_has_the_comparison_also_with_a_study_that_has_nothing(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted.write(tmp_path, study, ["vae"], 18)
    planted.write(tmp_path, replace(study, name="digits-twin"), ["vae"], 18)
    folder = StudyFolder(tmp_path, "digits-empty")
    folder.records.mkdir(parents=True)
    Tables(folder)
    for other, said in (("digits-twin", "6 pairs of equal draws"), ("digits-empty", "only one of the two has")):
        assert main(["report", "--results", str(tmp_path), "--with", other]) == 0
        page = (tmp_path / "report" / "digits" / "index.html").read_text()
        assert f"digits against {other}" in page and said in page
    assert "digits against digits-empty" in capsys.readouterr().out
