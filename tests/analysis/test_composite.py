"""`bigwae figures`: models side by side, under their run, step and FID, and the best of a study unless told which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from sweep.command import main
from sweep.results.folder import StudyFolder
from sweep.results.schema import evaluation_rows
from tests.made_up import made_up_row
from tests.places import local
from wae_core.data.images import ImageData
from wae_core.evaluation.selection import Evaluation
from wae_core.model_file import save_model
from wae_core.names import PICTURES
from wae_core.run import Run
from wae_core.training.state import TrainingState

pytestmark = pytest.mark.slow


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All that is written into pictures."""
    written: list[str] = []
    for name in ("text", "multiline_text"):
        own: Callable[..., Any] = getattr(ImageDraw.ImageDraw, name)

        def note(draw: Any, place: Any, text: str, *rest: Any, own: Callable[..., Any] = own, **words: Any) -> None:
            written.append(text)
            own(draw, place, text, *rest, **words)

        monkeypatch.setattr(ImageDraw.ImageDraw, name, note)
    return written


@pytest.fixture
def results(tmp_path: Path, make_run: Callable[..., Run], digits: ImageData) -> Path:
    """A study of two algorithms with two untrained models each, the second the better one."""
    folder = StudyFolder(tmp_path, "test")
    folder.records.mkdir(parents=True)
    for algorithm, fid in (("vae", 30.0), ("wae-gan", 20.0)):
        for index in range(2):
            run = make_run(algorithm, config_index=index)
            evaluations = [Evaluation(4, fid - index, *[0.1] * 7)]
            where = f"work/{run.run_id}/best.safetensors"
            folder.publish(made_up_row(run, evaluations, checkpoint_path=where), evaluation_rows(run, evaluations))
            local(folder.work(run.run_id)).mkdir(parents=True)
            tensors = TrainingState(run, digits, torch.device("cpu")).tensors()
            save_model(folder.root / where, run, digits, 4, tensors)
    return tmp_path


def test_the_best_of_each_algorithm_stand_under_their_run_and_fid(results: Path, texts: list[str]) -> None:
    assert main(["figures", "--results", str(results), "--study", "test"]) == 0
    for run_id, fids in (("wae-gan-00001-s0", "19.0, confirmed 19.5"), ("vae-00001-s0", "29.0, confirmed 29.5")):
        assert f"{run_id}, step 4\nFID {fids}" in texts
    assert [text.split(" (")[0] for text in texts if text.startswith(PICTURES)] == list(PICTURES)
    with Image.open(results / "figures.png") as sheet:
        assert sheet.width > 2 * 484 and sheet.height > 3 * 484
        assert np.asarray(sheet.convert("L"))[100:, 100:].std() > 10


def test_named_models_are_shown_also_where_no_row_says_their_fid(
    results: Path, tmp_path: Path, texts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "alone.safetensors"
    for name in ("safetensors", "json"):
        whole = (results / "test/work/vae-00000-s0/best").with_suffix(f".{name}")
        alone.with_suffix(f".{name}").write_bytes(whole.read_bytes())
    out = tmp_path / "new" / "one.png"
    assert main(["figures", str(alone), "--output", str(out)]) == 0 and out.exists()
    assert "vae-00000-s0, step 4\nno row beside it says its FID" in texts
    assert main(["figures", "--results", str(results), "--study", "nosuch"]) == 2
    assert main(["figures", str(tmp_path / "none.safetensors")]) == 2
    assert capsys.readouterr().err.count("error: ") == 2
