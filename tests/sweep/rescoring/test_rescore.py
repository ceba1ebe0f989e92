"""`bigwae rescore` on a small trained sweep: the FIDs are right, no row is lost or doubled, nothing is trained."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from analysis.load import load_rescores, load_runs
from sweep.command import main
from sweep.rescoring import table
from tests import crashes
from tests.chaos.faulty_proxy import faulty_bucket
from wae_core.data.images import load_dataset
from wae_core.evaluation.features import load_features
from wae_core.evaluation.frechet import frechet_distance
from wae_core.model_file import load_model
from wae_core.randomness import Streams
from wae_core.storage.files import location, write_atomically

SMALL = (
    "study.steps=4",
    "study.evaluation_steps=[2,4]",
    "study.fid_samples=100",
    "study.evaluation_images=20",
    "study.pretraining_steps=2",
    "study.width=2",
    "cluster=inprocess",
    "tracking=http://127.0.0.1:9",  # nobody listens: no mirror is made
)
CPU = torch.device("cpu")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with six models."""
    results = tmp_path_factory.mktemp("trained") / "results"
    for algorithm in ("vae", "wae-mmd"):
        assert main(["sweep", f"results={results}", f"alg={algorithm}", "budget=3", *SMALL]) == 0
    return results


@pytest.fixture
def results(trained: Path, tmp_path: Path) -> Path:
    """A copy, to be changed."""
    return shutil.copytree(trained, tmp_path / "results")


def rescore(results: Path, *words: str) -> int:
    return main(["rescore", "--results", str(results), *words, "cluster=inprocess"])


def scores(results: Path) -> pd.DataFrame:
    """What was scored again, without what a second time may change."""
    frame = load_rescores(results, "digits").sort_values(["fid_samples", "run_id"], ignore_index=True)
    return frame.drop(columns=["seconds", "scored_at"])


def contents(results: Path) -> dict[str, bytes]:
    folder = results / "digits"
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "rescore" not in str(path.relative_to(folder))
    }


def refused(results: Path, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The sentence with which it is refused; nothing is written."""
    capsys.readouterr()
    assert rescore(results, *words) == 2
    assert not (results / "digits" / "rescores").exists()
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error


def test_the_study_s_own_way_gives_the_confirmed_fids_bit_for_bit(results: Path) -> None:
    before = contents(results)
    assert rescore(results) == 0
    runs, scored = load_runs(results, "digits"), scores(results)
    joined = runs.merge(scored, on="run_id", suffixes=("", "_again"), validate="one_to_one")
    assert len(joined) == 6
    for own, again in (
        *(("confirmed_fid", "fid"), ("fid_infinity", "fid_infinity_again"), ("best_step", "step")),
        *((name, f"{name}_again") for name in ("fid_features", "fid_reference", "fid_samples", "data_sha256")),
    ):
        assert joined[own].tolist() == joined[again].tolist(), own
    assert contents(results) == before, "nothing else was touched"


def test_other_samples_and_another_reference_give_what_numpy_computes(results: Path) -> None:
    words = ("--samples", "300", "--reference", "train", "--reference-images", "500")
    assert rescore(results, *words) == 0
    features, data = load_features("digits", CPU), load_dataset("digits")
    rows = scores(results).set_index("run_id")
    assert set(rows["fid_reference"]) == {"digits/train/500"} and set(rows["fid_samples"]) == {300}
    for run_id in ("vae-00000-s1", "wae-mmd-00000-s2"):
        model, run, step = load_model(results / "digits" / "work" / run_id / "best.safetensors")
        codes = Streams(run, CPU).normal((300, run.hyperparameters.latent_dim), "confirm", step, "samples")
        with torch.no_grad():
            images = (model.images(codes * run.prior_variance**0.5) * 255).round().clamp(0, 255).to(torch.uint8)
            fitted = [features(part).double() for part in (images, data.train[:500])]
        gaussians = [figure for part in fitted for figure in (part.mean(0), torch.cov(part.T))]
        expected = frechet_distance(*gaussians)
        assert rows.loc[run_id, "fid"] == pytest.approx(expected, rel=1e-5)
        assert rows.loc[run_id, "step"] == step


def test_ways_lie_side_by_side_and_the_same_words_again_do_nothing(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rescore(results, "--best", "1") == 0
    runs = load_runs(results, "digits")
    best = runs.loc[runs.groupby("algorithm")["best_fid"].idxmin(), "run_id"]
    assert set(scores(results)["run_id"]) == set(best)
    assert rescore(results) == rescore(results, "--samples", "64") == 0
    everything = scores(results)
    assert everything.groupby("fid_samples").size().to_dict() == {64: 6, 100: 6}
    assert everything.groupby("fid_samples")["run_id"].nunique().to_dict() == {64: 6, 100: 6}
    capsys.readouterr()
    assert rescore(results) == 0
    assert "6 stored models, of which 6 are in " in capsys.readouterr().out
    assert len(pd.read_parquet(results / "digits" / "rescores")) == 12
    assert main(["status", "--results", str(results), "--check"]) == 0


def test_a_death_at_any_write_loses_and_doubles_nothing(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(table, "SECONDS_BETWEEN_WRITES", -1.0)  # each row is written at once
    load_dataset("digits")

    def act() -> None:
        assert rescore(results) == 0

    quiet = crashes.run(act, results)
    assert quiet is not None
    expected, found = scores(results), set()
    moments = [n for n, moment in enumerate(quiet.moments, start=1) if not moment.startswith(("fsync", "open"))]
    for moment in moments[::2]:
        shutil.rmtree(results / "digits" / "rescores")
        assert crashes.run(act, results, at=moment) is None
        found.add(len(scores(results)))
        act()
        pd.testing.assert_frame_equal(scores(results), expected)
        assert not list((results / "digits" / "rescores").glob(".*")), "what the dead one left is cleared away"
    assert found >= {0, 1, 3, 5}, "what it had written is kept"
    capsys.readouterr()


def test_a_model_that_is_missing_damaged_or_another_s_is_named_and_the_others_are_scored(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = results / "digits" / "work"
    (work / "vae-00000-s0" / "best.safetensors").unlink()
    (work / "vae-00000-s1" / "best.safetensors").write_bytes(b"damaged")
    for name in ("best.safetensors", "best.json"):
        shutil.copy(work / "wae-mmd-00000-s0" / name, work / "wae-mmd-00000-s1" / name)
    assert rescore(results) == 1
    said = capsys.readouterr().out
    for run_id in ("vae-00000-s0", "vae-00000-s1", "wae-mmd-00000-s1"):
        assert f"{run_id}/best.safetensors" in said
    assert "the model of another run" in said and "3 models scored again" in said
    assert set(scores(results)["run_id"]) == {"vae-00000-s2", "wae-mmd-00000-s0", "wae-mmd-00000-s2"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--features", "incepton"), ["'incepton'", "digits, inception, efficientnet"]),
        (
            ("--features", "inception"),
            ["--features inception has 2,048 dimensions", "--reference train (4,000 images)"],
        ),
        (
            ("--features", "inception", "--reference", "train"),
            ["pt_inception-2015-12-05-6726825d.pth", "inception=…"],
        ),
        (("--features", "inception", "--reference", "train", "inception={wrong}"), ["has sha256", "is allowed"]),
        (("--samples", "3"), ["--samples is 3", "at least 4"]),
        (("--best", "0"), ["--best is 0"]),
        (("--reference-images", "63"), ["--features digits has 64 dimensions", "--accept-few-images"]),
        (("--reference-images", "1001"), ["--reference-images 1001", "1,000 images"]),
        (("budget=3",), ["'budget=3' is no word of rescore", "inception"]),
        (("cluster.accelerators_per_run=2",), ["is no word of rescore", "by one worker"]),
        (("cluster.worker=2",), ["cluster.worker", "cluster.workers"]),
        (("--study", "mnist"), ["no study 'mnist'", "there are digits"]),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(
    trained: Path, tmp_path: Path, words: tuple[str, ...], said: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "wrong.pth").write_bytes(b"other weights")
    sentence = refused(trained, capsys, *(word.format(wrong=tmp_path / "wrong.pth") for word in words))
    for part in said:
        assert part in sentence


def test_other_data_are_refused_and_models_that_are_not_kept_left_out(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = results / "digits" / "study.yaml"
    written = file.read_text()
    file.write_text(written.replace(load_runs(results, "digits")["data_sha256"][0], "0" * 64))
    assert "other data" in refused(results, capsys)
    file.write_text(written)
    assert main(["sweep", f"results={results}", "alg=vae", "budget=3", *SMALL, "keep_best=1"]) == 0
    assert rescore(results) == 0
    assert len(scores(results)) == 2, "of each algorithm, one model is stored"


def test_few_images_stand_with_a_warning_where_they_are_accepted(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rescore(results, "--reference-images", "63", "--samples", "20", "--accept-few-images", "--best", "1") == 0
    warning = "20 samples and 63 reference images for 64 feature dimensions"
    assert warning in capsys.readouterr().out
    assert scores(results)["fid_warning"].str.startswith(warning).all()


def test_a_second_copy_of_a_table_is_refused(results: Path) -> None:
    assert rescore(results, "--best", "1") == 0
    (path,) = (results / "digits" / "rescores").glob("*.parquet")
    shutil.copy(path, path.with_name(f"{path.stem} (copy).parquet"))
    with pytest.raises(ValueError, match=r"\(copy\)\.parquet cannot be used: it is not the table of its name"):
        load_rescores(results, "digits")


def test_it_works_in_an_object_store_whose_answers_are_lost(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(table, "SECONDS_BETWEEN_WRITES", -1.0)
    with faulty_bucket() as proxy:
        place = location("s3://chaos/results")
        for path in (path for path in trained.rglob("digits/**/*") if path.is_file() and path.name != "lock"):
            write_atomically(place / str(path.relative_to(trained)), path.read_bytes())
        proxy.once("lost", "PUT", "/rescores/")
        assert main(["rescore", "--results", str(place), "--samples", "64", "cluster=inprocess"]) == 0
        scored = load_rescores(place, "digits")
    assert len(scored) == 6 and scored["run_id"].is_unique
    assert "6 models scored again: s3://chaos/results/digits/rescores/" in capsys.readouterr().out


@pytest.mark.ray
def test_ray_s_workers_score_as_this_process_does(results: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "sweep.command", "rescore", "--results", str(results), "cluster.workers=2"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert said.returncode == 0, said.stderr
    assert "6 of 6 models" in said.stdout
    runs = load_runs(results, "digits").merge(load_rescores(results, "digits"), on="run_id", validate="one_to_one")
    assert runs["confirmed_fid"].tolist() == runs["fid"].tolist() and len(runs) == 6
