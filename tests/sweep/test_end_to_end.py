"""The main job through its front door, with real Ray, real MLflow and real (small) training."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

import search_spaces
from sweep import command
from sweep.results.folder import StudyFolder, read_evaluations, read_runs
from sweep.results.judging import configurations
from sweep.results.schema import RunRow
from tests.chaos.compare import violations
from tests.chaos.killer import Blow, Killer, kill_worker
from tests.chaos.shaking import Sweep, run_to_the_end
from tests.sweep.front_door import finish, start

SMALL = (
    "study.steps=24",
    "study.evaluation_steps=[6,12,18,24]",
    "study.fid_samples=200",
    "study.evaluation_images=50",
    "study.pretraining_steps=2",
    "study.width=4",
)
HYPERPARAMETERS = ["latent_dim", "batch_size", "learning_rate", "architecture"]

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]


def sweep(results: Path, *words: str, exit_code: int = 0) -> str:
    return finish(start(f"results={results}", *SMALL, *words), exit_code)


def fingerprints(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for name in ("runs", "evaluations")
        for path in sorted((folder / name).iterdir())
    }


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Results and output of the smallest whole sweep: three algorithms, one configuration, three seeds."""
    results = tmp_path_factory.mktemp("first")
    return results, sweep(results, "alg=all", "budget=3")


def test_one_row_per_run_with_its_evaluations(first: tuple[Path, str]) -> None:
    runs, evaluations = read_runs(first[0], "digits"), read_evaluations(first[0], "digits")
    assert len(runs) == 9
    assert runs["run_id"].is_unique
    assert set(runs["status"]) == {"completed"}
    assert (runs.groupby("config_id").size() == 3).all()
    assert (runs.groupby("config_id")[[*HYPERPARAMETERS, "wae_lambda"]].nunique(dropna=False) == 1).all(axis=None)
    assert (runs.groupby("config_index")[HYPERPARAMETERS].nunique() == 1).all(axis=None)
    assert list(pd.read_parquet(first[0] / "digits" / "runs")["run_id"].sort_values()) == list(
        runs["run_id"].sort_values()
    )
    for row in [RunRow(**row) for row in StudyFolder(first[0], "digits").read_table("runs").to_pylist()]:
        own = evaluations[evaluations["run_id"] == row.run_id]
        assert list(own["step"]) == [6, 12, 18, 24]
        best = own.iloc[int(own["fid"].argmin())]
        assert (row.best_step, row.best_fid, row.best_sharpness) == (
            best["step"],
            best["fid"],
            best["sharpness"],
        )
        assert row.confirmed_fid is not None and np.isfinite(row.confirmed_fid)
        assert row.confirmed_fid != row.best_fid
        assert row.checkpoint_path is not None
        assert (first[0] / "digits" / row.checkpoint_path).exists()
        assert (first[0] / "digits" / "work" / row.run_id / "samples.png").exists()
        assert not list((first[0] / "digits" / "work" / row.run_id).glob("attempt-*"))


def test_seeds_train_different_models(first: tuple[Path, str]) -> None:
    assert read_runs(first[0], "digits")["best_fid"].is_unique


def test_output_says_what_it_is_and_what_comes_next(first: tuple[Path, str]) -> None:
    lines = first[1].strip().splitlines()
    assert "stand-in" in lines[0]
    assert sum("stand-in" in line for line in lines) == 1
    assert "STUDY=bigwae" in lines[0]
    assert "make ui" in first[1] and f"make report STUDY=digits RESULTS={first[0]}" in first[1]
    assert "models/hour" in first[1]
    assert "Traceback" not in first[1]


def test_mlflow_mirrors_every_run(first: tuple[Path, str]) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{first[0]}/mlflow.db")
    runs = read_runs(first[0], "digits").set_index("run_id")
    evaluations = read_evaluations(first[0], "digits")
    mirrored = {}
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    for run in client.search_runs([experiment.experiment_id]):
        mirrored[run.data.tags["run_id"]] = run
    assert set(mirrored) == set(runs.index)
    for run_id, run in mirrored.items():
        assert run.info.status == "FINISHED"
        assert run.data.tags["status"] == "completed"
        assert float(run.data.params["learning_rate"]) == runs.loc[run_id, "learning_rate"]
        history = client.get_metric_history(run.info.run_id, "fid")
        own = evaluations[evaluations["run_id"] == run_id]
        assert [(point.step, point.value) for point in history] == list(zip(own["step"], own["fid"], strict=True))
        assert "samples.png" in [artifact.path for artifact in client.list_artifacts(run.info.run_id)]
    table = configurations(runs.reset_index()).set_index("config_id")
    experiment = client.get_experiment_by_name("digits/configurations")
    assert experiment is not None
    means = {run.info.run_name: run.data.metrics for run in client.search_runs([experiment.experiment_id])}
    assert set(means) == set(table.index)
    for config_id, metrics in means.items():
        assert metrics["fid_mean"] == pytest.approx(table.loc[config_id, "fid_mean"])


def test_same_command_again_changes_nothing(first: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    before = fingerprints(first[0] / "digits")
    assert command.main(["sweep", f"results={first[0]}", *SMALL, "alg=all", "budget=3"]) == 0
    assert "nothing to train" in capsys.readouterr().out
    assert fingerprints(first[0] / "digits") == before


def test_diverging_and_failing_runs_are_rows_and_the_others_go_on(tmp_path: Path) -> None:
    """Learning rates that diverge at once; one run cannot write its attempts' folders and so raises."""
    space = search_spaces.load("digits").as_dict()
    space["learning_rate"] = {"algorithms": "all", "distribution": "fixed", "value": 1e20, "source": "a test"}
    path = tmp_path / "diverging.yaml"
    path.write_text(yaml.safe_dump(space))
    study = tmp_path / "results" / "digits-diverging"
    (study / "work").mkdir(parents=True)
    (study / "work" / "vae-00000-s1").write_text("a file where the run's folder should be")
    words = ("alg=vae", "budget=3", f"space={path}", "cluster=inprocess", "tracking=http://127.0.0.1:9")  # by nobody
    output = sweep(tmp_path / "results", *words, exit_code=1)
    assert output.endswith("failed: 1 run; make status says why, retry=failed trains again\n")
    runs = read_runs(tmp_path / "results", "digits-diverging").set_index("run_id")
    assert runs.loc["vae-00000-s0", "status"] == "diverged"
    assert "at step" in runs["status_reason"]["vae-00000-s0"]
    assert runs.loc["vae-00000-s2", "status"] == "diverged"
    assert runs.loc["vae-00000-s1", "status"] == "failed"
    assert "FileExistsError" in runs["status_reason"]["vae-00000-s1"]

    (study / "work" / "vae-00000-s1").unlink()
    output = sweep(tmp_path / "results", *words, "retry=failed")
    assert "failed runs that are tried again: 1" in output
    again = read_runs(tmp_path / "results", "digits-diverging").set_index("run_id")
    assert again["status"].to_dict() == dict.fromkeys(runs.index, "diverged")
    others = ["vae-00000-s0", "vae-00000-s2"]
    pd.testing.assert_frame_equal(again.loc[others], runs.loc[others])


def listening(pid: int) -> set[str]:
    """The addresses on which a process and all below it listen."""
    process = psutil.Process(pid)
    sockets = [socket for one in [process, *process.children(recursive=True)] for socket in one.net_connections()]
    addresses = {socket.laddr.ip.removeprefix("::ffff:") for socket in sockets if socket.status == psutil.CONN_LISTEN}
    assert addresses
    return addresses


def test_kills_lose_double_and_change_nothing(tmp_path: Path, first: tuple[Path, str]) -> None:
    """SIGKILL to workers and to the whole driver session in mid-run; the rows are those of an undisturbed sweep."""
    results = str(tmp_path / "results")
    sweep = Sweep(["alg=all", "budget=3", *SMALL, f"results={results}"], tmp_path / "log")

    def kill_driver() -> bool:
        assert listening(sweep.pid) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}, "nobody else reaches Ray's servers"
        return sweep.kill()

    weapons: dict[str, Callable[[], bool]] = {"worker": partial(kill_worker, Random(0)), "driver": kill_driver}
    killer = Killer(results, iter([Blow("worker"), Blow("driver"), Blow("worker")]), weapons)
    run_to_the_end(sweep, results, killer)
    assert killer.kills == {"worker": 2, "driver": 1}
    assert sweep.exits == []
    assert sweep.launches == 2
    assert violations(str(first[0]), results, "digits", f"sqlite:///{results}/mlflow.db") == []
    assert (read_runs(results, "digits")["attempts"] > 1).any()
