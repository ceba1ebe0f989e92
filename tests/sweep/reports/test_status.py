"""The ledger: planned = completed + diverged + failed + missing, whatever the folder holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from sweep.command import main
from sweep.reports.status import status_frame
from sweep.results.folder import StudyFolder
from sweep.results.plan_file import plan_table
from sweep.results.schema import STATUSES
from sweep.results.tables import Tables
from sweep.search.plan import plan_runs
from sweep.settings.settings import Study

NAN = float("nan")


@pytest.fixture(params=["results", "run_id=1"])
def mixed(
    request: pytest.FixtureRequest, tmp_path: Path, study: Study, make_result: Callable[..., Any]
) -> StudyFolder:
    """Nine runs of wae-mmd and three of vae are planned; some ended in every way, two are not yet in the tables."""
    folder = StudyFolder(tmp_path / request.param, "test")
    folder.records.mkdir(parents=True)
    mmd, vae = plan_runs(study, "wae-mmd", 9), plan_runs(study, "vae", 3)
    pq.write_table(plan_table([*mmd, *vae]), folder.plan_file)
    folder.publish(*make_result(mmd[0], fids=(50.0, 40.0)))
    folder.publish(*make_result(mmd[1], fids=(30.0, 35.0)))
    folder.publish(*make_result(mmd[2], "diverged", fids=(20.0, NAN)))
    folder.publish(*make_result(mmd[3], "diverged", fids=()))
    folder.publish(*make_result(vae[0], "failed", fids=()))
    folder.publish(*make_result(vae[1], "failed", fids=()))
    Tables(folder)
    folder.publish(*make_result(mmd[4], fids=(45.0,)))
    folder.publish(*make_result(mmd[5], "failed", fids=()))
    return folder


def test_planned_is_the_sum_of_the_statuses_and_the_missing(mixed: StudyFolder) -> None:
    frame = status_frame(mixed).set_index("algorithm")
    assert list(frame.index) == ["wae-mmd", "vae"]
    assert (frame["planned"] == frame[[*STATUSES, "missing"]].sum(axis=1)).all()
    counts = frame[["planned", *STATUSES, "missing"]]
    assert list(counts.loc["wae-mmd"]) == [9, 3, 2, 1, 3]
    assert list(counts.loc["vae"]) == [3, 0, 0, 2, 1]


def test_the_best_of_an_algorithm_is_its_lowest_fid_and_none_where_there_is_no_fid(
    mixed: StudyFolder,
) -> None:
    frame = status_frame(mixed).set_index("algorithm")
    best = frame.loc["wae-mmd"]
    assert (best["best_fid"], best["confirmed_fid"], best["best_run"]) == (30.0, 30.5, "wae-mmd-00000-s1")
    assert best["median_fid"] == 45.0  # of 30, 40, 45 and two that diverged
    none = frame.loc["vae"]
    assert none[["best_fid", "confirmed_fid", "median_fid", "best_run"]].isna().all()


def test_a_planned_study_without_a_row_is_all_missing(folder: StudyFolder, study: Study) -> None:
    pq.write_table(plan_table(plan_runs(study, "vae", 3)), folder.plan_file)
    for _ in range(2):  # before the tables are there, and after
        (row,) = status_frame(folder).to_dict("records")
        assert [row[name] for name in ("planned", *STATUSES, "missing")] == [3, 0, 0, 0, 3]
        assert pd.isna(row["best_fid"])
        Tables(folder)


def test_a_run_that_nobody_planned_does_not_upset_the_ledger(
    folder: StudyFolder, study: Study, make_result: Callable[..., Any]
) -> None:
    runs = plan_runs(study, "vae", 6)
    pq.write_table(plan_table(runs[:3]), folder.plan_file)
    folder.publish(*make_result(runs[0]))
    folder.publish(*make_result(runs[5]))
    (row,) = status_frame(folder).to_dict("records")
    assert (row["planned"], row["completed"], row["missing"]) == (3, 1, 2)


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[StudyFolder], str]:
    """What the command prints of a folder, on a wide screen."""
    monkeypatch.setenv("COLUMNS", "200")

    def show(folder: StudyFolder) -> str:
        assert main(["status", "--results", str(folder.root.parent), "--study", folder.root.name]) == 0
        return capsys.readouterr().out

    return show


def test_the_printed_table_shows_the_frame_and_why_runs_ended_badly(
    mixed: StudyFolder, printed: Callable[[StudyFolder], str]
) -> None:
    text = printed(mixed)
    table, ledger = text.split("ledger:")  # which test_ledger.py tests
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in table.splitlines() if "│" in line]
    cells = {algorithm: figures for algorithm, *figures in lines}
    assert "wae-mmd" in ledger
    assert cells["wae-mmd"] == ["9", "3", "2", "1", "3", "30.00", "30.50", "45.00", "wae-mmd-00000-s1"]
    assert cells["vae"] == ["3", "0", "0", "2", "1", "–", "–", "–", "–"]
    assert "2 diverged, e.g. wae-mmd-00000-s2: it diverged" in text
    assert "3 failed, e.g. vae-00000-s0: it failed" in text
    assert "nan" not in text


def test_runs_that_ended_for_one_reason_are_counted_whatever_the_step(
    folder: StudyFolder, study: Study, make_result: Callable[..., Any], printed: Callable[[StudyFolder], str]
) -> None:
    runs = plan_runs(study, "vae", 9)
    pq.write_table(plan_table(runs), folder.plan_file)
    reasons = ["the FID is not finite at step 7", *(f"the loss is not finite at step {n}" for n in (12, 9, 250))]
    for run, reason in zip(runs, reasons, strict=False):
        folder.publish(*make_result(run, "diverged", (), status_reason=reason))
    folder.publish(*make_result(runs[4], "failed", (), status_reason="it failed"))
    text = printed(folder)
    told = [line for line in text.splitlines() if ", e.g. " in line]
    assert told == [
        f"3 diverged, e.g. {runs[1].run_id}: the loss is not finite at step 12",
        f"1 diverged, e.g. {runs[0].run_id}: the FID is not finite at step 7",
        f"1 failed, e.g. {runs[4].run_id}: it failed",
    ]


def test_an_algorithm_without_a_row_beside_one_with_rows_is_printed(
    folder: StudyFolder,
    study: Study,
    make_result: Callable[..., Any],
    printed: Callable[[StudyFolder], str],
) -> None:
    """As they are in the middle of a sweep."""
    mmd, vae = plan_runs(study, "wae-mmd", 3), plan_runs(study, "vae", 3)
    pq.write_table(plan_table([*mmd, *vae]), folder.plan_file)
    folder.publish(*make_result(mmd[0]))
    (line,) = [line for line in printed(folder).splitlines() if "vae" in line]
    assert [cell.strip() for cell in line.split("│")[1:-1]] == ["vae", "3", "0", "0", "0", "3", *"––––"]


@pytest.mark.parametrize("results", ["[bold] results", "a [", "a[/b]"])
def test_reasons_and_paths_are_printed_as_they_are(
    tmp_path: Path,
    results: str,
    study: Study,
    make_result: Callable[..., Any],
    printed: Callable[[StudyFolder], str],
) -> None:
    """Reasons quote exceptions; their brackets are no markup."""
    folder = StudyFolder(tmp_path / results, "test")
    folder.records.mkdir(parents=True)
    (run,) = plan_runs(replace(study, seeds=1), "vae", 1)
    pq.write_table(plan_table([run]), folder.plan_file)
    reason = "ValueError: shape [3, 4] is not [/bold] nor [red]"
    folder.publish(*make_result(run, "failed", (), status_reason=reason))
    text = printed(folder)
    assert reason in text
    assert "".join(str(folder.root.parent).split()) in "".join(text.split())


@pytest.mark.parametrize("words", [[], ["--study", "digits"]])
def test_a_folder_without_a_study_is_one_sentence_and_exit_code_2(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for results in (tmp_path, tmp_path / "nosuch"):
        assert main(["status", "--results", str(results), *words]) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert len(output.err.strip().splitlines()) == 1
        assert str(results) in output.err
        assert "make sweep" in output.err
        assert "Traceback" not in output.err
    assert list(tmp_path.iterdir()) == []


def test_the_command_shows_every_study_or_the_one_asked_for(
    tmp_path: Path, study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        table = plan_table(plan_runs(replace(study, name=name), "vae", 3))
        pq.write_table(table, tmp_path / name / "plan.parquet")
    assert main(["status", "--results", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert "study one" in output
    assert "study two" in output
    assert main(["status", "--results", str(tmp_path), "--study", "two"]) == 0
    assert "study one" not in capsys.readouterr().out
