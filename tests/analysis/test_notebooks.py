"""The notebooks run from the first cell to the last on a results folder, and are committed without outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

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


@pytest.mark.slow
def test_first_look_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESULTS", str(make_results(tmp_path)))
    monkeypatch.setenv("STUDY", "digits")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = read(FIRST_LOOK)
    # The kernel of this Python, in the notebook's folder as an editor starts it.
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(FIRST_LOOK.parent)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3  # each figure once
    shown = "\n".join(output.get("text", "") + output.get("data", {}).get("text/html", "") for output in outputs)
    assert "2 configurations with 2 seeds" in shown
    assert "wae-gan-00000-s0" in shown
    assert "vae-00002-s0" not in shown  # the best of all, of a configuration that is not compared
