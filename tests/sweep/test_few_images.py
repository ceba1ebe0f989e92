"""An FID of fewer images than feature dimensions: refused before anything is trained, or kept with its warning."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from analysis.load import load_runs
from sweep.command import main

pytestmark = pytest.mark.slow
SMALL = (
    "alg=vae",
    "budget=3",
    "study.steps=2",
    "study.evaluation_steps=[1,2]",
    "study.fid_samples=100",
    "study.evaluation_images=20",
    "study.width=2",
    "cluster=inprocess",
    "tracking=http://127.0.0.1:9",  # nobody listens: no mirror is made
)
FEW = "30 reference images for 64 feature dimensions"


def test_few_references_are_refused_or_stand_with_a_warning_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    words = ["sweep", f"results={results}", *SMALL, "study.fid_reference_images=30"]
    assert main(words) == 2
    assert "study.accept_few_images=true" in capsys.readouterr().err and not results.exists()

    assert main([*words, "study.accept_few_images=true"]) == 0
    assert f"warning: {FEW}" in capsys.readouterr().out
    document = yaml.safe_load((results / "digits" / "study.yaml").read_text())
    assert document["fid_reference"] == "digits/held_out/30" and document["fid_warning"].startswith(FEW)
    assert document["protocol"]["fid_reference_images"] == 30 and document["protocol"]["accept_few_images"] is True
    runs = load_runs(results, "digits")
    assert runs["fid_warning"].str.startswith(FEW).all() and set(runs["fid_reference"]) == {"digits/held_out/30"}
    assert main(["status", "--results", str(results)]) == 0
    assert f"warning: {FEW}" in capsys.readouterr().out
    assert main(["status", "--results", str(results), "--check"]) == 0
    assert main(["rescore", "--results", str(results), "--reference-images", "500", "cluster=inprocess"]) == 0
    assert main(["report", "--results", str(results)]) == 0
    page = (results / "report" / "digits" / "index.html").read_text()
    assert f"<strong>Warning:</strong> {FEW}" in page
    assert "reference digits/held_out/500, 100 samples" in page and "rank correlation" in page

    capsys.readouterr()
    assert main([*words, "study.accept_few_images=true", "study.fid_reference=train"]) == 2
    assert "protocol.fid_reference is 'held_out' there and 'train' in this launch" in capsys.readouterr().err


def test_few_samples_stand_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sweep", f"results={tmp_path}", *SMALL, "study.fid_samples=63"]
    assert main(words) == 0
    assert "warning: 63 samples for 64 feature dimensions" in capsys.readouterr().out
    assert load_runs(tmp_path, "digits")["fid_warning"].str.startswith("63 samples").all()
