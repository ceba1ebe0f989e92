"""The notebooks run from the first cell to the last on a results folder, and are committed without outputs."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from analysis.report import tables
from analysis.report.contents import Contents
from analysis.report.figures import FIGURES, draw
from analysis.report.verdict import verdict
from sweep.command import main
from sweep.settings.compose import load_settings
from tests.analysis import planted
from tests.analysis.test_analysis import make_results

ROOT = Path(__file__).parents[2]
FIRST_LOOK = ROOT / "analysis/notebooks/first_look.ipynb"


def read(path: Path) -> nbformat.NotebookNode:
    notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    return notebook


@pytest.mark.parametrize("path", sorted((ROOT / "analysis/notebooks").glob("*.ipynb")), ids=lambda path: path.name)
def test_a_notebook_is_committed_without_outputs(path: Path) -> None:
    for cell in read(path).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_a_notebook_holds_calls_and_prose_alone() -> None:
    for cell in read(FIRST_LOOK).cells:
        if cell.cell_type == "code":
            source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))
            kinds = {type(node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)}
            assert kinds <= {ast.Import, ast.ImportFrom, ast.Assign, ast.Expr}, cell.source


def run(results: str, study: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """The number of figures that a notebook shows of a study, and its text."""
    monkeypatch.setenv("RESULTS", results)
    monkeypatch.setenv("STUDY", study)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = read(FIRST_LOOK)
    # The kernel of this Python, in the notebook's folder as an editor starts it.
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(FIRST_LOOK.parent)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = "\n".join(output.get("text", "") + output.get("data", {}).get("text/html", "") for output in outputs)
    plain = "\n".join(output.get("data", {}).get("text/plain", "") for output in outputs)
    return sum("image/png" in output.get("data", {}) for output in outputs), shown + plain


@pytest.mark.slow
def test_first_look_shows_what_the_report_shows_of_any_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = replace(load_settings(["alg=all", "budget=3"]).study, name="another")
    planted.write(tmp_path, study, ["wae-mmd", "vae"], 90)
    contents = Contents.load(tmp_path, "another")
    figures, shown = run(str(tmp_path), "another", monkeypatch)
    drawn = {name for name in FIGURES if not isinstance(draw(contents, name), str)}
    assert figures == len(drawn) == len(FIGURES) - 3  # of models that left no picture
    assert verdict(contents) in shown and "no completed run has its samples.png" in shown
    for name in ("summary", "ledger", "importances", "variances"):
        assert str(tables.TABLES[name](contents).iloc[0, -1]) in shown, name


@pytest.mark.slow
def test_the_command_runs_it_in_mid_sweep_and_of_few_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # this source tree, whatever is installed
    assert main(["notebooks", "--results", str(make_results(tmp_path)), "--study", "digits"]) == 0
    page = (tmp_path / "results/notebooks/first_look.html").read_text()
    assert page.count("data:image/png") >= 4 and "cannot be told at this budget" in page
