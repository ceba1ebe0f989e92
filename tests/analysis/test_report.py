"""The report of a study whose truth was planted, and of studies with little or nothing in them."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis.report import tables
from analysis.report.command import write_report
from analysis.report.contents import Contents
from analysis.report.figures import FIGURES, draw
from analysis.report.verdict import verdict
from analysis.uncertainty import FEWEST
from sweep.command import main
from sweep.results.folder import StudyFolder
from sweep.results.plan_file import PlanFile
from sweep.results.schema import STATUSES
from sweep.results.tables import Tables
from sweep.search.plan import plan_runs
from sweep.settings.compose import load_settings
from sweep.settings.settings import Study
from tests.analysis import planted
from tests.chaos.s3_server import s3_bucket
from wae_core.storage.files import location, write_atomically

pytestmark = pytest.mark.slow
ALL = ["wae-mmd", "wae-gan", "vae"]


@pytest.fixture(scope="module")
def study() -> Study:
    return load_settings(["alg=all", "budget=3"]).study


@pytest.fixture(scope="module")
def results(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """90 runs of each algorithm; pictures of none."""
    results = tmp_path_factory.mktemp("planted")
    planted.write(results, study, ALL, 90)
    return results


@pytest.fixture(scope="module")
def page(results: Path) -> str:
    contents = Contents.load(results, "digits")
    return unescape(write_report(contents, verdict(contents), results / "report" / "digits").read_text())


def test_the_verdict_is_the_planted_order(results: Path, page: str) -> None:
    said = verdict(Contents.load(results, "digits"))
    assert said.startswith("wae-gan is the best at this budget") and said in page
    assert "against vae" in said and "against wae-mmd" in said and "worth an FID of" in said


def test_what_was_planted_is_in_its_tables(results: Path, page: str) -> None:
    folder = results / "report" / "digits"
    important = pd.read_csv(folder / "importances.csv")
    assert set(important.groupby("algorithm").head(1)["hyperparameter"]) >= {"learning_rate", "wae_lambda"}
    ledger = pd.read_csv(folder / "ledger.csv")
    assert ledger["planned"].tolist() == [90, 90, 90] and (ledger["diverged"] > 0).all()
    assert (ledger["planned"] == ledger[[*STATUSES, "missing"]].sum(axis=1)).all()
    bias = pd.read_csv(folder / "variances.csv")["kept checkpoint is too good by"]
    assert all(re.match(r"[34]\.\d%", text) for text in bias)


def test_the_page_needs_no_other_file(results: Path, page: str) -> None:
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "http" not in page and "<script" not in page
    assert 'name="viewport"' in page and len(page) < 10_000_000
    assert ("<th>edge</th>" in page) != ("Nowhere: at no edge are more of the best" in page)
    folder = results / "report" / "digits"
    for name in ("best_of_n", "fid_distribution", "hyperparameters", "fid_over_steps"):
        assert (folder / f"{name}.png").stat().st_size > 5000 and (folder / f"{name}.pdf").stat().st_size > 5000
    for name in ("summary", "ledger", "improvements", "configurations", "provenance", "space"):
        rows = len(pd.read_csv(folder / f"{name}.csv"))
        assert len((folder / f"{name}.md").read_text().splitlines()) == rows + 2 > 2, name


def test_the_budget_is_counted_in_what_is_asked_for(results: Path, page: str) -> None:
    contents = Contents.load(results, "digits")
    (axes,) = figure_of(contents, "steps").axes
    ends = [float(np.asarray(line.get_xdata())[-1]) for line in axes.lines]
    assert ends == pytest.approx(contents.ledger.set_index("algorithm").loc[ALL, "steps"].tolist())
    (axes,) = figure_of(contents, "runs").axes
    assert [float(np.asarray(line.get_xdata())[-1]) for line in axes.lines] == [90, 90, 90]
    unknown = replace(contents, ledger=contents.ledger.assign(flops=np.nan))
    assert draw(unknown, "best_of_n", "FLOPs") == "the FLOPs of wae-mmd are not known"


def figure_of(contents: Contents, unit: str) -> Figure:
    found = draw(contents, "best_of_n", unit)
    assert isinstance(found, Figure)
    return found


def test_at_a_small_budget_nothing_is_claimed(study: Study, tmp_path: Path) -> None:
    planted.write(tmp_path, study, ALL, 3 * (FEWEST - 1))
    said = verdict(Contents.load(tmp_path, "digits"))
    assert said.startswith("Which algorithm is best cannot be told at this budget") and f"at least {FEWEST}" in said


def test_alike_algorithms_are_not_told_apart(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planted, "BASES", dict.fromkeys(ALL, 5.0))
    planted.write(tmp_path, study, ["wae-gan", "vae"], 90)
    assert "cannot be told at this budget" in verdict(Contents.load(tmp_path, "digits"))


def test_one_algorithm_is_compared_with_none(study: Study, tmp_path: Path) -> None:
    planted.write(tmp_path, study, ["vae"], 3)
    contents = Contents.load(tmp_path, "digits")
    assert verdict(contents).startswith("Only vae has results, so there is nothing to compare")
    assert "Study digits" in write_report(contents, verdict(contents), tmp_path / "out").read_text()


def test_a_study_with_nothing_has_a_page(study: Study, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "digits")
    folder.records.mkdir(parents=True)
    Tables(folder)
    contents = Contents.load(tmp_path, "digits")
    assert "No run has ended with an FID yet" in verdict(contents)
    page = unescape(write_report(contents, verdict(contents), tmp_path / "out").read_text())
    assert all(caption in page for caption, _ in FIGURES.values())


def test_one_run_alone_has_a_page(study: Study, tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path, "digits")
    folder.records.mkdir(parents=True)
    folder.publish(*next(planted.results_of(study, ["vae"], 3)))
    contents = Contents.load(tmp_path, "digits")
    assert verdict(contents).startswith("Only vae has results")
    page = unescape(write_report(contents, verdict(contents), tmp_path / "out").read_text())
    assert "data:image/png" in page and "the study's space is not known" in page


def test_in_mid_sweep_what_is_missing_is_counted(study: Study, tmp_path: Path) -> None:
    """The plan is of 12 configurations; 6 are in the tables, one of WAE-GAN has ended since, nothing of the VAE."""
    folder = planted.write(tmp_path, study, ["wae-mmd", "wae-gan"], 18)
    PlanFile(folder).extend([run for name in ALL for run in plan_runs(study, name, 36)])
    for row, evaluations in planted.results_of(study, ["wae-gan"], 21):
        if row.config_index == 6:
            folder.publish(row, evaluations)
    contents = Contents.load(tmp_path, "digits")
    write_report(contents, said := verdict(contents), tmp_path / "out")
    assert "vae has no result yet" in said
    ledger = pd.read_csv(tmp_path / "out" / "ledger.csv")
    assert ledger["planned"].tolist() == [36, 36, 36] and ledger["missing"].tolist() == [18, 15, 36]
    summary = pd.read_csv(tmp_path / "out" / "summary.csv").set_index("algorithm")
    assert summary["configurations"].to_dict() == {"wae-mmd": 6, "wae-gan": 7, "vae": 0}


def test_a_study_in_an_object_store_has_the_same_page(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    planted.write(tmp_path / "disk", study, ["wae-gan", "vae"], 18)
    assert main(["report", "--results", "disk"]) == 0
    with s3_bucket() as bucket:
        for path in (tmp_path / "disk" / "digits").rglob("*"):
            if path.is_file():
                place = location(f"{bucket}/all") / str(path.relative_to(tmp_path / "disk"))
                write_atomically(place, path.read_bytes())
        assert main(["report", "--results", f"{bucket}/all", "--with", "disk"]) == 0
    assert "cannot be told at this budget (digits in s3://" in capsys.readouterr().out
    for name in ("summary", "ledger", "configurations", "provenance"):
        here, there = (folder / "digits" / f"{name}.csv" for folder in (Path("report"), Path("disk/report")))
        assert here.read_text() == there.read_text()


def test_a_study_of_failures_alone_has_a_page(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted.write(tmp_path, study, ["vae"], 3)
    path = tmp_path / "digits" / "runs" / "vae.parquet"
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    column = table.schema.get_field_index("status")
    failed = table.set_column(column, table.schema.field(column), [["failed"] * len(table)])
    pq.write_table(failed.replace_schema_metadata(None), path)
    contents = Contents.load(tmp_path, "digits")
    assert "No run has ended with an FID yet" in verdict(contents)
    assert "vae has no result yet" in verdict(contents)
    write_report(contents, verdict(contents), tmp_path / "out")


def test_the_command_writes_it_and_refuses_a_study_that_is_not_there(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted.write(tmp_path, study, ["vae"], 3)
    assert main(["report", "--results", str(tmp_path), "--study", "digits"]) == 0
    assert str(tmp_path / "report" / "digits" / "index.html") in capsys.readouterr().out
    assert main(["report", "--results", str(tmp_path), "--study", "digist"]) == 2
    assert "no study 'digist'" in capsys.readouterr().err


def test_models_that_were_scored_again_are_compared_by_their_ranks(results: Path) -> None:
    """Planted: VAEs in the same order, WAE-GANs in the opposite one; a score that is not finite has no rank."""
    contents = Contents.load(results, "digits")
    runs = contents.runs[
        (contents.runs["status"] == "completed") & contents.runs["algorithm"].isin(["vae", "wae-gan"])
    ]
    sign = runs["algorithm"].map({"vae": 1.0, "wae-gan": -1.0})
    scored = runs[["run_id", "algorithm", "fid_reference", "fid_warning"]].assign(
        fid=sign * runs["best_fid"] ** 2 + 1e6, fid_features="inception-2048@0", fid_samples=50000
    )
    scored.loc[scored.index[0], "fid"] = float("nan")
    table = tables.rescores(replace(contents, rescores=scored)).set_index("algorithm")
    assert table["rank correlation with the study's FID"].to_dict() == {"vae": "1.00", "wae-gan": "-1.00"}
    assert table["models"].to_dict() == scored.groupby("algorithm").size().to_dict()
    assert table.loc["vae", "scored by"] == "inception-2048@0, reference digits/held_out/1000, 50,000 samples"
    best = runs[runs["algorithm"] == "vae"].nsmallest(2, "best_fid")["run_id"].tolist()
    assert table.loc["vae", "best of them"] in best
