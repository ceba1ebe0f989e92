"""The confirmation through the front door: the best configurations again, with fresh seeds, in a study of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

import search_spaces
from analysis.confirmation import Confirmation
from sweep import command
from sweep.results.folder import StudyFolder, read_runs
from tests.chaos.s3_server import s3_bucket
from tests.sweep.front_door import kill_at, start

WORDS = (
    "study.steps=4",
    "study.evaluation_steps=[2,4]",
    "study.fid_samples=100",
    "study.evaluation_images=50",
    "study.pretraining_steps=2",
    "study.width=4",
    "study.seeds=2",
)
THREE = "confirm_seeds=3"
IN_PROCESS = ("cluster=inprocess", "tracking=http://127.0.0.1:9")
ALL = ["wae-mmd", "wae-gan", "vae"]
SMALLEST = ("alg=vae", "budget=4", "confirm=1")
CONFIGURATION = ["algorithm", "config_index"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Sweep:
    """A study in a results folder, launched in this process."""

    def __init__(self, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.results, self._capsys = results, capsys

    def __call__(self, *words: str, exit_code: int = 0) -> str:
        """Launch it; returns what was printed."""
        said = [*IN_PROCESS, *WORDS, f"results={self.results}", *words]
        if "confirm=" in " ".join(words) and "confirm_seeds=" not in " ".join(words):
            said.append(THREE)
        assert command.main(["sweep", *said]) == exit_code, self._capsys.readouterr()
        out, error = self._capsys.readouterr()
        return out if exit_code == 0 else str(error)

    def runs(self, study: str) -> pd.DataFrame:
        return read_runs(self.results, study).sort_values("run_id", ignore_index=True)


@pytest.fixture
def sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Sweep:
    return Sweep(tmp_path, capsys)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two configurations of two seeds, the better one of which is confirmed."""
    results = tmp_path_factory.mktemp("trained") / "results"
    assert command.main(["sweep", *IN_PROCESS, *WORDS, THREE, *SMALLEST, f"results={results}"]) == 0
    return results


@pytest.fixture
def confirmed(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Sweep:
    """A copy of it."""
    return Sweep(shutil.copytree(trained, tmp_path / "results"), capsys)


def best(runs: pd.DataFrame, count: int) -> set[tuple[str, int]]:
    """The configurations of lowest mean FID, of each algorithm."""
    means = runs.groupby(CONFIGURATION)["best_fid"].mean().reset_index()
    return set(
        means.sort_values("best_fid")
        .groupby("algorithm")
        .head(count)[CONFIGURATION]
        .itertuples(index=False, name=None)
    )


def configurations(runs: pd.DataFrame) -> set[tuple[str, int]]:
    return set(runs[CONFIGURATION].itertuples(index=False, name=None))


def test_the_best_of_each_algorithm_are_trained_again_with_fresh_seeds(sweep: Sweep) -> None:
    output = sweep("alg=all", "budget=8", "confirm=2")
    runs, again = sweep.runs("digits"), sweep.runs("digits-confirm")
    assert len(runs) == 3 * 8 and len(again) == 3 * 2 * 3, "each algorithm has the same budget, in both studies"
    assert configurations(again) == best(runs, 2)
    assert set(runs["seed"]) == {0, 1} and set(again["seed"]) == {2, 3, 4}
    assert (again.groupby(CONFIGURATION)["seed"].nunique() == 3).all()
    assert not set(again["best_fid"]) & set(runs["best_fid"]), "no run has the random numbers of another"
    drawn = ["latent_dim", "batch_size", "learning_rate", "architecture", "wae_lambda", "decoder_variance"]
    both = pd.concat([runs, again]).merge(again[CONFIGURATION].drop_duplicates(), on=CONFIGURATION)
    assert (both.groupby(CONFIGURATION)[drawn].nunique(dropna=False) == 1).all(axis=None)
    for column in ("steps_planned", "fid_features", "fid_reference", "fid_samples", "data_sha256", "precision"):
        assert both[column].nunique() == 1, column
    document = yaml.safe_load((sweep.results / "digits-confirm" / "study.yaml").read_text())
    assert document["confirms"] == {"study": "digits", "first_seed": 2} and document["seeds"] == 3
    assert "study digits-confirm: wae-mmd, wae-gan, vae; 2 configurations × 3 seeds = 6 models each" in output
    assert command.main(["status", "--results", str(sweep.results), "--check"]) == 0


def test_the_same_words_again_change_nothing_and_the_pick_stays(confirmed: Sweep) -> None:
    before = confirmed.runs("digits-confirm")
    assert confirmed(*SMALLEST).count("nothing to train") == 2
    output = confirmed("alg=vae", "budget=12", "confirm=1")
    pd.testing.assert_frame_equal(confirmed.runs("digits-confirm"), before)
    grown = confirmed.runs("digits")
    assert ("keeps what it has picked" in output) == (best(grown, 1) != configurations(before))
    confirmed("alg=vae", "budget=12", "confirm=3")
    after = confirmed.runs("digits-confirm")
    assert configurations(after) > configurations(before) and len(after) == 9
    assert len(configurations(after) & best(grown, 3)) >= 2
    pd.testing.assert_frame_equal(after[after["run_id"].isin(before["run_id"])].reset_index(drop=True), before)


def test_on_a_finished_study_it_trains_the_confirmation_alone(sweep: Sweep) -> None:
    sweep("alg=vae", "budget=4")
    before = sweep.runs("digits")
    output = sweep("alg=vae", "budget=4", "confirm=2")
    assert output.count("nothing to train") == 1
    pd.testing.assert_frame_equal(sweep.runs("digits"), before)
    assert len(sweep.runs("digits-confirm")) == 6


def test_a_lost_plan_is_written_again_with_the_same_pick(confirmed: Sweep) -> None:
    plan = confirmed.results / "digits-confirm" / "plan.parquet"
    before, planned = confirmed.runs("digits-confirm"), pd.read_parquet(plan)
    plan.unlink()
    confirmed("alg=vae", "budget=12", "confirm=1")
    pd.testing.assert_frame_equal(confirmed.runs("digits-confirm"), before)
    pd.testing.assert_frame_equal(pd.read_parquet(plan), planned)


def test_status_shows_it_apart(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["status", "--results", str(trained)]) == 0
    own, confirming = capsys.readouterr().out.split("study digits-confirm in")
    assert "study digits in" in own and "it confirms" not in own
    assert "it confirms study digits" in confirming and "with seeds 2 to 4" in confirming
    assert "ledger" in own and "ledger" in confirming


def test_other_seeds_than_before_are_refused_before_anything_is_trained(confirmed: Sweep) -> None:
    error = confirmed("alg=vae", "budget=8", "confirm=1", "confirm_seeds=4", exit_code=2)
    assert "digits-confirm belongs to another version" in error and "seeds is 3 there and 4 in this launch" in error
    assert len(confirmed.runs("digits")) == 4


def test_a_confirmation_of_other_configurations_is_refused(confirmed: Sweep) -> None:
    confirmed("alg=vae", "budget=4", "confirm=2")
    for table in ("runs", "evaluations"):
        (confirmed.results / "digits" / table / "vae.parquet").unlink()
    (confirmed.results / "digits" / "plan.parquet").unlink()
    error = confirmed("alg=vae", "budget=2", "confirm=1", exit_code=2)
    assert "it confirms vae-00001, which has no row in study digits" in error


def test_diverged_configurations_are_not_picked(sweep: Sweep, tmp_path: Path) -> None:
    space = search_spaces.load("digits").as_dict()
    space["learning_rate"] = {
        "algorithms": "all",
        "distribution": "choice",
        "values": [1e-3, 1e20],
        "source": "a test",
    }
    path = tmp_path / "diverging.yaml"
    path.write_text(yaml.safe_dump(space))
    words = ("alg=vae", "budget=12", f"space={path}")
    sweep(*words)
    runs = sweep.runs("digits-diverging")
    finite = runs.groupby("config_index")["status"].apply(lambda status: (status == "completed").all())
    there = int(finite.sum())
    assert 0 < there < 6, "the draw has both"
    error = sweep(*words, "confirm=6", exit_code=2)
    assert f"confirm is 6, but vae has {there} configuration" in error and f"confirm={there} at most" in error
    assert not (sweep.results / "digits-diverging-confirm").exists()
    sweep(*words, f"confirm={there}")
    assert set(sweep.runs("digits-diverging-confirm")["config_index"]) == set(finite.index[finite])


def test_what_optuna_proposed_and_asha_let_go_on_is_confirmed(sweep: Sweep) -> None:
    words = ("alg=vae", "budget=14", "search=optuna", "scheduler=asha", "asha.reduction=2")
    sweep(*words, "confirm=1")
    runs, again = sweep.runs("digits-optuna-asha"), sweep.runs("digits-optuna-asha-confirm")
    whole = runs[runs["steps_done"] == 4]
    assert len(whole) < len(runs) and configurations(again) == best(whole, 1)
    assert (again["steps_done"] == 4).all() and len(again) == 3
    assert "nothing to train" in sweep(*words, "confirm=1")


def test_in_an_object_store_it_is_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    with s3_bucket() as bucket:
        results = f"{bucket}/results"
        words = ("sweep", *IN_PROCESS, *WORDS, THREE, *SMALLEST, f"results={results}")
        assert command.main(list(words)) == 0, capsys.readouterr()
        assert command.main(list(words)) == 0
        assert capsys.readouterr().out.count("nothing to train") == 2
        assert len(read_runs(results, "digits-confirm")) == 3
        confirmation = Confirmation.load(results, "digits")
        assert confirmation is not None and confirmation.seeds == 3 and confirmation.unfinished == []


@pytest.mark.ray
def test_killed_with_ray_within_the_confirmation_it_goes_on_and_doubles_nothing(
    trained: Path, tmp_path: Path, sweep: Sweep
) -> None:
    """The rows are those of an undisturbed launch; of the other moments, tests/sweep/test_faults.py takes each."""
    kill_at(
        start(*WORDS, *SMALLEST, THREE, f"results={tmp_path}", "cluster.workers=1"),
        StudyFolder(tmp_path, "digits-confirm"),
        rows=1,
    )
    sweep(*SMALLEST)
    for study in ("digits", "digits-confirm"):
        same = ["run_id", "status", "best_fid", "confirmed_fid", "learning_rate"]
        quiet = read_runs(trained, study).sort_values("run_id", ignore_index=True)
        pd.testing.assert_frame_equal(sweep.runs(study)[same], quiet[same])
