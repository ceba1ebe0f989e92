"""The Python of docs/results.md runs as it stands, beside a folder `results` that has a study `digits`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from sweep.settings.compose import load_settings
from tests.analysis import planted

BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
BLOCKS = BLOCK.findall((Path(__file__).parents[2] / "docs/results.md").read_text())

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("examples")
    planted.write(place / "results", load_settings(["alg=all", "budget=3"]).study, ["wae-mmd", "wae-gan", "vae"], 30)
    return place


def test_every_program_has_its_example() -> None:
    for program in ("pandas", "duckdb", "polars"):
        assert any(f"import {program}" in block for block in BLOCKS), program


def test_the_examples_run(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, as a reader types them; the last expression of each gives something."""
    monkeypatch.chdir(place)
    names: dict[str, object] = {}
    for block in BLOCKS:
        for program in ("duckdb", "polars"):
            if f"import {program}" in block:
                pytest.importorskip(program)
        *statements, last = ast.parse(block).body
        assert isinstance(last, ast.Expr), block
        exec(compile(ast.Module(statements, []), "docs/results.md", "exec"), names)
        found = eval(compile(ast.Expression(last.value), "docs/results.md", "eval"), names)
        assert len(found) > 0 or "load_rescores" in block, block


def test_best_step_is_a_nullable_integer_however_it_is_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    from analysis.load import load_runs

    monkeypatch.chdir(place)
    for runs in (pd.read_parquet("results/digits/runs"), load_runs("results", "digits")):
        assert str(runs["best_step"].dtype) == "Int64"
