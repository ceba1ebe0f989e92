"""The MLflow mirror against a real SQLite database: live, continued, wiped, refused, unreachable."""

from __future__ import annotations

import math
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.entities import ViewType

from sweep.command import main
from sweep.events import Ended, Evaluated
from sweep.results.folder import StudyFolder
from sweep.results.schema import EvaluationRow, RunRow
from sweep.results.tables import Tables
from sweep.tracking import mirror
from sweep.tracking.mirror import Mirror, default_uri, rebuild
from sweep.tracking.mlflow_study import MlflowStudy
from tests.places import local
from wae_core.evaluation.selection import Evaluation
from wae_core.run import ALGORITHMS, Run

METRICS = [name for name in Evaluation.__dataclass_fields__ if name != "step"]
LATER = datetime(2026, 2, 3, 4, 5, 6, 789_000, tzinfo=UTC)
Result = tuple[RunRow, list[EvaluationRow]]
MakeRun = Callable[..., Run]
MakeResult = Callable[..., Result]


class Results:
    """A results folder with an MLflow database, and one study's part of both; each test has a study of its own."""

    def __init__(self, root: Path, study: str) -> None:
        self.root, self.study, self.uri = root, study, default_uri(root)
        self.folder = StudyFolder(root, study)
        self.folder.records.mkdir(parents=True)
        self.problems: list[str] = []
        self.mirrors: list[Mirror] = []

    def start_mirror(self, uri: str | None = None) -> Mirror:
        mirror = Mirror(uri or self.uri, self.folder, self.study, self.problems.append)
        mirror.start()
        self.mirrors.append(mirror)
        return mirror

    def open(self) -> MlflowStudy:
        return MlflowStudy(self.uri, self.folder, self.study)

    def publish(self, result: Result) -> RunRow:
        assert self.folder.publish(*result)
        return result[0]

    def mirrored(self, view: int = ViewType.ACTIVE_ONLY) -> dict[str, MlflowRun]:
        """The study's MLflow runs by our run_id."""
        client = MlflowClient(self.uri)
        experiments = [client.get_experiment_by_name(f"{self.study}/{algorithm}") for algorithm in ALGORITHMS]
        ids = [experiment.experiment_id for experiment in experiments if experiment is not None]
        runs = client.search_runs(ids, run_view_type=view) if ids else []
        assert len({run.data.tags["run_id"] for run in runs}) == len(runs)
        return {run.data.tags["run_id"]: run for run in runs}

    def status(self) -> dict[str, str]:
        return {run_id: run.info.status for run_id, run in self.mirrored().items()}

    def history(self, run_id: str, name: str) -> list[tuple[int, float]]:
        mlflow_id = self.mirrored()[run_id].info.run_id
        return [(point.step, point.value) for point in MlflowClient(self.uri).get_metric_history(mlflow_id, name)]

    def assert_equal_to_parquet(self) -> None:
        rows = {row["run_id"]: row for row in self.folder.read_table("runs").to_pylist()}
        evaluations = self.folder.read_table("evaluations").to_pylist()
        mirrored = self.mirrored()
        assert mirrored.keys() == rows.keys()
        for run_id, row in rows.items():
            run = mirrored[run_id]
            assert run.info.status == ("FAILED" if row["status"] == "failed" else "FINISHED")
            assert run.info.end_time == round(1000 * row["ended_at"].timestamp())
            assert run.data.tags["status"] == row["status"]
            assert float(run.data.params["learning_rate"]) == row["learning_rate"]
            for name in ("best_fid", "confirmed_fid", "best_sharpness", "best_reconstruction_error"):
                assert run.data.metrics.get(name) == row[name], name
            own = [figures for figures in evaluations if figures["run_id"] == run_id]
            for name in METRICS:
                expected = [(figures["step"], figures[name]) for figures in own if math.isfinite(figures[name])]
                assert self.history(run_id, name) == expected, name


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder, with a space in its path, whose database is created once."""
    root = tmp_path_factory.mktemp("a results")
    Results(root, "none").open().close()
    return root


@pytest.fixture
def results(root: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Results]:
    monkeypatch.setattr(mirror, "FLUSH_SECONDS", 0.1)
    results = Results(root, request.node.name.removeprefix("test_"))
    yield results
    for one in results.mirrors:
        one.close(60)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_ended_run_is_mirrored_whole(results: Results, make_run: MakeRun, make_result: MakeResult) -> None:
    # kernel_scale is an int here, and a float when it comes back from the Parquet.
    run = make_run("wae-mmd", study=results.study, config_index=7, seed=2, kernel_scale=8, wae_lambda=10.5)
    row, evaluations = make_result(run, fids=(9.0, 7.5, 8.0))
    mirror = results.start_mirror()
    for evaluation in evaluations:
        mirror.note(Evaluated(run, evaluation))
    samples = local(results.folder.work(run.run_id)) / "samples.png"
    samples.parent.mkdir(parents=True)
    samples.write_bytes(b"png")
    mirror.note(Ended(run, results.publish((row, evaluations))))
    assert mirror.close(60) is None
    assert results.problems == []

    mirrored = results.mirrored()["wae-mmd-00007-s2"]
    assert mirrored.info.run_name == "wae-mmd-00007-s2"
    assert mirrored.data.params == {
        "latent_dim": "4",
        "batch_size": "40",
        "learning_rate": "0.001",
        "architecture": "dcgan_small",
        "encoder": "deterministic",
        "kernel_scale": "8",
        "wae_lambda": "10.5",
        "seed": "2",
        "config_index": "7",
    }
    assert {key: value for key, value in mirrored.data.tags.items() if not key.startswith("mlflow.")} == {
        "run_id": "wae-mmd-00007-s2",
        "config_id": "wae-mmd-00007",
        "config_index": "7",
        "seed": "2",
        "status": "completed",
        "best_step": "20",
        "study": results.study,
        "algorithm": "wae-mmd",
    }
    assert results.history("wae-mmd-00007-s2", "fid") == [(10, 9.0), (20, 7.5), (30, 8.0)]
    assert results.history("wae-mmd-00007-s2", "best_fid") == [(20, 7.5)]
    assert results.history("wae-mmd-00007-s2", "confirmed_fid") == [(20, 8.0)]
    results.assert_equal_to_parquet()
    assert [file.path for file in MlflowClient(results.uri).list_artifacts(mirrored.info.run_id)] == ["samples.png"]
    artifacts = results.root / "mlartifacts" / f"{results.study}-wae-mmd"
    assert [path.read_bytes() for path in artifacts.rglob("*.png")] == [b"png"]


@pytest.mark.slow
def test_evaluation_is_visible_while_its_run_trains(
    results: Results, make_run: MakeRun, make_result: MakeResult
) -> None:
    run = make_run("vae", study=results.study)
    row, evaluations = make_result(run)
    mirror = results.start_mirror()
    assert mirror.wait_ready(60)
    mirror.note(Evaluated(run, evaluations[0]))
    wait_for(lambda: run.run_id in results.mirrored() and results.history(run.run_id, "fid"))
    assert results.status() == {run.run_id: "RUNNING"}
    assert results.mirrored()[run.run_id].data.tags["status"] == "running"
    assert results.history(run.run_id, "fid") == [(10, 9.0)]
    mirror.note(Ended(run, results.publish((row, evaluations))))
    wait_for(lambda: results.status() == {run.run_id: "FINISHED"})
    mirror.note(Evaluated(run, evaluations[1]))  # of an orphan
    time.sleep(0.5)  # for some flushes
    assert results.status() == {run.run_id: "FINISHED"}
    assert mirror.close(60) is None
    results.assert_equal_to_parquet()


@pytest.mark.slow
def test_next_launch_continues_in_the_same_mlflow_runs(
    results: Results, make_run: MakeRun, make_result: MakeResult
) -> None:
    ended, trained = (make_run("vae", study=results.study, seed=seed) for seed in (0, 1))
    row, evaluations = make_result(trained, fids=(9.0, 8.0, 7.0))
    first = results.start_mirror()
    first.note(Evaluated(ended, make_result(ended)[1][0]))
    for evaluation in evaluations[:2]:
        first.note(Evaluated(trained, evaluation))
    assert first.close(60) is None
    assert results.status() == {ended.run_id: "RUNNING", trained.run_id: "RUNNING"}
    before = {run_id: run.info.run_id for run_id, run in results.mirrored().items()}
    results.publish(make_result(ended))  # by a worker, when its driver had been killed

    second = results.start_mirror()
    second.catch_up()
    for evaluation in evaluations[1:]:  # the one at step 20 was made again
        second.note(Evaluated(trained, replace(evaluation, train_seconds=evaluation.train_seconds + 0.25)))
    wait_for(lambda: results.status() == {ended.run_id: "FINISHED", trained.run_id: "RUNNING"})
    wait_for(lambda: len(results.history(trained.run_id, "fid")) > 2)
    second.note(Ended(trained, results.publish((row, evaluations))))
    assert second.close(60) is None
    assert {run_id: run.info.run_id for run_id, run in results.mirrored(ViewType.ALL).items()} == before
    assert results.history(ended.run_id, "fid") == [(10, 9.0), (20, 7.5)]
    assert results.history(trained.run_id, "fid") == [(10, 9.0), (20, 8.0), (30, 7.0)]
    assert results.status() == {ended.run_id: "FINISHED", trained.run_id: "FINISHED"}


def test_diverged_and_failed_runs_say_so(results: Results, make_run: MakeRun, make_result: MakeResult) -> None:
    diverged, failed = make_run("vae", study=results.study), make_run("wae-gan", study=results.study)
    row, evaluations = make_result(diverged, "diverged", fids=(9.0, math.nan))
    mirror = results.start_mirror()
    mirror.note(Ended(diverged, results.publish((row, [evaluations[0], replace(evaluations[1], loss=math.inf)]))))
    mirror.note(Ended(failed, results.publish(make_result(failed, "failed", fids=()))))
    assert mirror.close(60) is None
    results.assert_equal_to_parquet()
    assert results.status() == {diverged.run_id: "FINISHED", failed.run_id: "FAILED"}
    tags = results.mirrored()[failed.run_id].data.tags
    assert (tags["status"], tags["status_reason"]) == ("failed", "it failed")
    # The last finite ones: MLflow's pages would hide a metric that ends in a NaN.
    assert results.mirrored()[diverged.run_id].data.metrics["fid"] == 9.0


@pytest.mark.slow
def test_runs_of_an_earlier_study_of_this_name_give_way(
    results: Results, make_run: MakeRun, make_result: MakeResult
) -> None:
    running, ended, unseen = (make_run("vae", study=results.study, seed=seed) for seed in range(3))
    first = results.start_mirror()
    other = make_run("vae", study=results.study, learning_rate=0.5)
    first.note(Evaluated(other, make_result(running)[1][0]))
    for run in (ended, unseen):
        first.note(Ended(run, results.publish(make_result(run, fids=(5.0,)))))
    assert first.close(60) is None
    shutil.rmtree(local(results.folder.root))
    results.folder.records.mkdir(parents=True)

    second = results.start_mirror()
    for run in (running, ended):
        second.note(Evaluated(run, make_result(run, fids=(4.0,))[1][0]))
    wait_for(lambda: list(results.status().values()).count("RUNNING") == 2)
    for run in (running, ended, unseen):
        second.note(Ended(run, results.publish(make_result(run, fids=(4.0, 3.0), ended_at=LATER))))
    assert second.close(60) is None
    results.assert_equal_to_parquet()


def test_what_was_created_twice_or_deleted_by_hand_is_mended(
    results: Results, make_run: MakeRun, make_result: MakeResult
) -> None:
    client, run = MlflowClient(results.uri), make_run("vae", study=results.study)
    experiment = client.create_experiment(f"{results.study}/vae")
    created = [client.create_run(experiment, tags={"run_id": run.run_id}).info.run_id for _ in range(2)]
    client.delete_experiment(experiment)
    results.publish(make_result(run))
    assert rebuild(results.root, results.study, results.uri) == 1
    results.assert_equal_to_parquet()
    assert results.mirrored()[run.run_id].info.run_id in created


@pytest.mark.slow
def test_database_deleted_under_the_mirror_is_filled_again(
    results: Results, make_run: MakeRun, make_result: MakeResult
) -> None:
    before, after = (make_run("vae", study=results.study, seed=seed) for seed in (0, 1))
    mirror = results.start_mirror()
    mirror.note(Evaluated(after, make_result(after)[1][0]))
    mirror.note(Ended(before, results.publish(make_result(before))))
    wait_for(lambda: results.status() == {before.run_id: "FINISHED", after.run_id: "RUNNING"})
    database = results.root / "mlflow.db"
    database.unlink()

    def is_filled() -> bool:
        try:
            with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
                return connection.execute("SELECT name, status FROM runs").fetchall() == [(before.run_id, "FINISHED")]
        except sqlite3.OperationalError:  # there is no file, or no table yet
            return False

    wait_for(is_filled)
    mirror.note(Ended(after, results.publish(make_result(after))))
    assert mirror.close(60) is None
    assert results.problems == []
    results.assert_equal_to_parquet()


@pytest.mark.slow
def test_rebuild_fills_a_deleted_database(results: Results, make_run: MakeRun, make_result: MakeResult) -> None:
    for algorithm, status, fids in [("wae-mmd", "completed", (3.0, 2.0)), ("wae-gan", "failed", ())]:
        results.publish(make_result(make_run(algorithm, study=results.study), status, fids))
    assert rebuild(results.root, results.study, results.uri) == 2
    results.assert_equal_to_parquet()
    right = {run_id: run.info.run_id for run_id, run in results.mirrored().items()}
    results.publish(make_result(make_run("vae", study=results.study)))
    assert rebuild(results.root, results.study, results.uri) == 1
    assert (
        right.items() <= {run_id: run.info.run_id for run_id, run in results.mirrored(ViewType.ALL).items()}.items()
    )

    Tables(results.folder)
    results.open().close()  # the connections that this process has read with
    (results.root / "mlflow.db").unlink()
    assert main(["mlflow-rebuild", "--results", str(results.root), "--study", results.study]) == 0
    results.assert_equal_to_parquet()
    assert rebuild(results.root, results.study, results.uri) == 0


@pytest.mark.slow
def test_run_that_mlflow_refuses_holds_up_no_other(
    results: Results, make_run: MakeRun, make_result: MakeResult
) -> None:
    refused, fine = make_run("vae", study=results.study), make_run("wae-mmd", study=results.study)
    for run in (refused, fine):
        samples = local(results.folder.work(run.run_id)) / "samples.png"
        samples.parent.mkdir(parents=True)
        samples.write_bytes(b"png")
        results.publish(make_result(run))
    artifacts = results.root / "mlartifacts"
    artifacts.mkdir(exist_ok=True)
    (artifacts / f"{results.study}-vae").write_text("a file where a folder should be")
    mirror = results.start_mirror()
    mirror.catch_up()
    wait_for(lambda: results.status().get(fine.run_id) == "FINISHED")
    assert mirror.close(60) == "MLflow is behind by 1 run: run make mlflow-rebuild"
    assert len(results.problems) == 1
    (artifacts / f"{results.study}-vae").unlink()
    assert rebuild(results.root, results.study, results.uri) == 1
    results.assert_equal_to_parquet()


def test_server_that_is_down_costs_the_caller_nothing(
    results: Results, closed_port: str, make_run: MakeRun, make_result: MakeResult
) -> None:
    runs = [make_run("vae", study=results.study, seed=seed) for seed in range(3)]
    mirror = results.start_mirror(closed_port)
    assert not mirror.wait_ready(60)
    began = time.monotonic()
    mirror.note(Evaluated(runs[0], make_result(runs[0])[1][0]))
    for run in runs[1:]:
        mirror.note(Ended(run, results.publish(make_result(run))))
    assert time.monotonic() - began < 1
    time.sleep(0.5)  # for some more attempts
    assert mirror.close(60) == "MLflow is behind by 3 runs: run make mlflow-rebuild"
    assert len(results.problems) == 1
    assert results.problems[0].startswith("MLflow cannot be written; the sweep goes on, and tries again: ")
    assert len(results.problems[0].splitlines()) == 1
    assert len(results.problems[0]) < 300


@pytest.mark.slow
def test_server_that_never_answers_does_not_delay_the_close(results: Results, silent_server: str) -> None:
    mirror = results.start_mirror(silent_server)
    time.sleep(0.2)
    began = time.monotonic()
    assert mirror.close(0.5) == "MLflow is behind by some runs: run make mlflow-rebuild"
    assert time.monotonic() - began < 1.5


@pytest.mark.slow
def test_driver_does_not_wait_for_the_import_of_mlflow() -> None:
    code = "import sweep.tracking.mirror, sys; print('mlflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["ui"], "error: no MLflow database in {results}: run make sweep first\n"),
        (["mlflow-rebuild"], "error: no study in results folder {results}: it has none\n"),
        (
            ["mlflow-rebuild", "--study", "digits"],
            "error: no study digits in results folder {results}: it has none\n",
        ),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert main([*words, "--results", str(tmp_path)]) == 2
    assert capsys.readouterr().err == sentence.format(results=tmp_path)
    assert list(tmp_path.iterdir()) == []
