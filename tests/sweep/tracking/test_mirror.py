"""The MLflow mirror against a real SQLite database: live, continued, wiped, refused, unreachable."""

from __future__ import annotations

import json
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
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from mlflow.entities import ViewType
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from sweep.command import main
from sweep.events import Ended, Evaluated
from sweep.results import parquet
from sweep.results.folder import StudyFolder
from sweep.results.judging import configurations
from sweep.results.schema import EvaluationRow, RunRow
from sweep.results.tables import HeldFolder, Tables
from sweep.tracking import mirror
from sweep.tracking.entry import Entry
from sweep.tracking.mirror import Mirror, default_uri, rebuild
from sweep.tracking.mlflow_study import MlflowStudy, open_store
from tests.places import local
from wae_core.evaluation.selection import Evaluation
from wae_core.run import Run

JUDGED = ("fid_mean", "fid_sd", "fid_min", "confirmed_mean", "completed", "diverged", "failed")
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

    def delete_database(self) -> None:
        SqlAlchemyStore(self.uri, "").engine.dispose()  # type: ignore[no-untyped-call]  # what this process has read by
        (self.root / "mlflow.db").unlink()

    def publish(self, result: Result) -> RunRow:
        assert self.folder.publish(*result)
        return result[0]

    def mirrored(self, view: int = ViewType.ACTIVE_ONLY) -> dict[str, MlflowRun]:
        """The study's MLflow runs by our run_id."""
        return self._of_experiment(self.study, "run_id", view)

    def configurations(self, view: int = ViewType.ACTIVE_ONLY) -> dict[str, MlflowRun]:
        """The MLflow runs of the study's configurations by config_id."""
        return self._of_experiment(f"{self.study}/configurations", "config_id", view)

    def _of_experiment(self, name: str, tag: str, view: int) -> dict[str, MlflowRun]:
        client = MlflowClient(self.uri)
        experiment = client.get_experiment_by_name(name)
        runs = [] if experiment is None else client.search_runs([experiment.experiment_id], run_view_type=view)
        assert len({run.data.tags[tag] for run in runs}) == len(runs)
        return {run.data.tags[tag]: run for run in runs}

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
            assert run.info.run_name == run_id + ("" if row["status"] == "completed" else f" ({row['status']})")
            assert float(run.data.params["learning_rate"]) == row["learning_rate"]
            assert run.data.metrics["learning_rate"] == row["learning_rate"]
            for name in ("best_fid", "confirmed_fid", "best_sharpness", "best_reconstruction_error"):
                assert run.data.metrics.get(name) == row[name], name
            own = [figures for figures in evaluations if figures["run_id"] == run_id]
            for name in METRICS:
                expected = [(figures["step"], figures[name]) for figures in own if math.isfinite(figures[name])]
                assert self.history(run_id, name) == expected, name
        self.assert_configurations_equal_to_table()

    def assert_configurations_equal_to_table(self) -> None:
        table = configurations(self.folder.read_table("runs").to_pandas())
        mirrored = self.configurations()
        assert mirrored.keys() == set(table["config_id"])
        for row in table.to_dict("records"):
            expected = {"best_fid" if name == "fid_min" else name: row[name] for name in JUDGED}
            run = mirrored[row["config_id"]]
            shown = {name: value for name, value in run.data.metrics.items() if name in expected}
            expected = {name: value for name, value in expected.items() if math.isfinite(value)}
            assert shown == pytest.approx(expected, rel=1e-6)
            assert run.data.params["algorithm"] == row["algorithm"]
            assert float(run.data.params["learning_rate"]) == row["learning_rate"]
            assert run.data.metrics["learning_rate"] == pytest.approx(row["learning_rate"], rel=1e-6)


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
        time.sleep(0.2)  # each look is a query of MLflow


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
        "algorithm": "wae-mmd",
    }
    numbers = {"latent_dim": 4, "batch_size": 40, "learning_rate": 0.001, "kernel_scale": 8, "wae_lambda": 10.5}
    assert numbers.items() <= mirrored.data.metrics.items()
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
    client = MlflowClient(results.uri)
    assert [file.path for file in client.list_artifacts(mirrored.info.run_id)] == ["images", "samples.png"]
    # What MLflow's pages make a grid of: client.log_image's name, the same compressed, and a tag.
    grid = [file.path for file in client.list_artifacts(mirrored.info.run_id, "images")]
    start = f"images/samples+step+20+timestamp+{mirrored.info.end_time}+{mirrored.info.run_id}"
    assert grid == [f"{start}+compressed.png", f"{start}.png"]
    assert mirrored.data.tags["mlflow.loggedImages"] == "True"
    artifacts = results.root / "mlartifacts" / results.study
    assert [path.read_bytes() for path in artifacts.rglob("*.png")] == 3 * [b"png"]


def test_what_a_launch_holds_in_memory_is_not_read_again(
    results: Results, make_run: MakeRun, make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the records, too, those of the configurations that are asked for alone: what is read grows with no study."""
    older, new, other = (make_run("vae", study=results.study, config_index=index) for index in range(3))
    seeds = [replace(new, seed=seed) for seed in range(2)]
    results.publish(make_result(older))
    results.publish(make_result(seeds[0]))
    held = HeldFolder(results.folder, Tables(results.folder))
    for run in (seeds[1], other):
        results.publish(make_result(run))
    read: list[str] = []

    def note(path: Path) -> bytes:
        read.append(path.name)
        return path.read_bytes()

    monkeypatch.setattr(parquet, "read", note)
    with closing(MlflowStudy(results.uri, held, results.study)) as mlflow:
        missing = mlflow.missing([run.run_id for run in seeds], [new.config_id])
    assert [entry.key for entry in missing] == [seeds[0].run_id, seeds[1].run_id, new.config_id]
    assert [len(entry.evaluations) for entry in missing if isinstance(entry, Entry)] == [2, 2]
    assert missing[-1].tags["status"] == "2 completed"
    assert read == [f"{seeds[1].run_id}.parquet"]


def test_what_a_new_database_lacks_is_made_ready_in_parts(
    results: Results, make_run: MakeRun, make_result: MakeResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "AT_ONCE", 3)
    for index in range(4):
        for seed in range(2):
            results.publish(make_result(make_run("vae", study=results.study, config_index=index, seed=seed)))
    writer = results.start_mirror()
    writer.catch_up()
    assert writer.close(60) is None
    assert results.problems == []
    results.assert_equal_to_parquet()


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
    experiment = client.create_experiment(results.study)
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
    results.delete_database()

    def is_filled() -> bool:
        try:
            with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
                found = connection.execute("SELECT name, status FROM runs ORDER BY name").fetchall()
                return found == [(before.config_id, "FINISHED"), (before.run_id, "FINISHED")]
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
    results.delete_database()
    assert main(["mlflow-rebuild", "--results", str(results.root), "--study", results.study]) == 0
    results.assert_equal_to_parquet()
    assert rebuild(results.root, results.study, results.uri) == 0


@pytest.mark.slow
def test_run_that_mlflow_refuses_holds_up_no_other(
    results: Results, make_run: MakeRun, make_result: MakeResult
) -> None:
    refused, fine = make_run("vae", study=results.study), make_run("wae-mmd", study=results.study)
    samples = local(results.folder.work(refused.run_id)) / "samples.png"
    samples.mkdir(parents=True)  # a folder where a file should be
    for run in (refused, fine):
        results.publish(make_result(run))
    mirror = results.start_mirror()
    mirror.catch_up()
    wait_for(lambda: results.status().get(fine.run_id) == "FINISHED")
    assert mirror.close(60) == "MLflow is behind by 1 run: run make mlflow-rebuild"
    assert len(results.problems) == 1
    samples.rmdir()
    assert rebuild(results.root, results.study, results.uri) == 1
    results.assert_equal_to_parquet()


@pytest.mark.slow
def test_a_configuration_follows_its_seeds(results: Results, make_run: MakeRun, make_result: MakeResult) -> None:
    runs = [make_run("vae", study=results.study, seed=seed) for seed in range(3)]
    first = results.start_mirror()
    first.note(Ended(runs[0], results.publish(make_result(runs[0], fids=(5.0,)))))
    wait_for(results.configurations)
    before = results.configurations()[runs[0].config_id]
    assert before.data.metrics["fid_mean"] == 5.0 and "fid_sd" not in before.data.metrics
    client = MlflowClient(results.uri)
    client.set_tag(before.info.run_id, "mlflow.note.content", "somebody's own words")
    first.note(Ended(runs[1], results.publish(make_result(runs[1], fids=(7.0,)))))
    wait_for(lambda: results.configurations()[runs[0].config_id].data.metrics.get("fid_mean") == 6.0)
    results.assert_configurations_equal_to_table()
    assert first.close(60) is None

    # The driver was killed, and a worker has published: a seed diverged, so there is no mean any more.
    results.publish(make_result(runs[2], "diverged", fids=(1.0,)))
    second = results.start_mirror()
    second.catch_up()
    assert second.close(60) is None
    results.assert_equal_to_parquet()
    (after,) = results.configurations(ViewType.ALL).values()
    assert after.info.run_id == before.info.run_id
    assert after.info.run_name == f"{runs[0].config_id} (1 diverged)"
    assert after.data.tags["mlflow.note.content"] == "somebody's own words"
    assert "fid_mean" not in after.data.metrics and after.data.metrics["diverged"] == 1
    assert results.problems == []


def test_a_configuration_is_mirrored_though_its_runs_were(
    results: Results, make_run: MakeRun, make_result: MakeResult
) -> None:
    """A driver was killed after it had written the runs, or somebody has changed MLflow's figures."""
    for seed in range(2):
        results.publish(make_result(make_run("vae", study=results.study, seed=seed), fids=(5.0 + seed,)))
    assert rebuild(results.root, results.study, results.uri) == 2
    client, (mirrored,) = MlflowClient(results.uri), results.configurations().values()
    client.delete_run(mirrored.info.run_id)
    assert rebuild(results.root, results.study, results.uri) == 0
    results.assert_equal_to_parquet()
    (mirrored,) = results.configurations().values()
    client.log_metric(mirrored.info.run_id, "fid_mean", 1.0)
    assert rebuild(results.root, results.study, results.uri) == 0
    results.assert_equal_to_parquet()


def test_a_confirmation_is_shown_beside_what_it_confirms(
    results: Results, make_run: MakeRun, make_result: MakeResult
) -> None:
    for index in range(2):
        run = make_run("vae", study=results.study, config_index=index)
        results.publish(make_result(run, fids=(5.0,), confirmed_fid=5.5))
    assert rebuild(results.root, results.study, results.uri) == 2
    assert all("fresh_mean" not in run.data.metrics for run in results.configurations().values())

    confirmation = StudyFolder(results.root, f"{results.study}-confirm")
    confirmation.records.mkdir(parents=True)
    confirms = {"seeds": 2, "confirms": {"study": results.study, "first_seed": 1}}
    local(confirmation.study_file).write_text(yaml.safe_dump(confirms))
    for index, seed in ((0, 1), (0, 2), (1, 1)):  # of the second, one seed trains still
        run = make_run("vae", study=confirmation.root.name, config_index=index, seed=seed)
        confirmation.publish(*make_result(run, fids=(6.0 + seed,), confirmed_fid=7.0 + seed))
    assert rebuild(results.root, results.study, results.uri) == 0
    first, second = (results.configurations()[f"vae-0000{index}"].data.metrics for index in range(2))
    assert (first["fid_mean"], first["confirmed_mean"]) == (5.0, 5.5)
    assert (first["fresh_mean"], first["fresh_confirmed_mean"]) == (7.5, 8.5)
    assert "fresh_mean" not in second
    results.assert_equal_to_parquet()


def test_the_configurations_of_two_mirrors_are_one_each(
    results: Results, make_run: MakeRun, make_result: MakeResult
) -> None:
    """As a rebuild beside a sweep: both have opened MLflow before either creates the configuration."""
    run = make_run("vae", study=results.study)
    results.publish(make_result(run))
    with closing(results.open()) as one, closing(results.open()) as other:
        for mlflow in (one, other):
            for entry in mlflow.missing([run.run_id], [run.config_id]):
                mlflow.write(entry)
    results.open().close()
    results.assert_equal_to_parquet()


def test_an_experiment_per_algorithm_of_an_earlier_version_gives_way(
    results: Results, make_run: MakeRun, make_result: MakeResult
) -> None:
    client, name = MlflowClient(results.uri), f"{results.study}/vae"
    client.create_experiment(name, tags={"mlflow.sharedViewState.best_fid": "{}"})
    client.create_experiment(f"{results.study}/wae-gan")  # somebody's own
    results.publish(make_result(make_run("vae", study=results.study)))
    assert rebuild(results.root, results.study, results.uri) == 1
    stages = {found.name: found.lifecycle_stage for found in client.search_experiments(view_type=ViewType.ALL)}
    assert (stages[name], stages[f"{results.study}/wae-gan"]) == ("deleted", "active")
    results.assert_equal_to_parquet()


def test_experiments_say_what_they_show(results: Results) -> None:
    results.open().close()
    client = MlflowClient(results.uri)
    for name in (results.study, f"{results.study}/configurations"):
        (tags,) = [found.tags for found in client.search_experiments() if found.name == name]
        assert results.study in tags["mlflow.note.content"] and "loaded rows only" in tags["mlflow.note.content"]
        assert json.loads(tags["mlflow.sharedViewState.best_fid"])["orderByAsc"]


@pytest.mark.slow
def test_a_known_database_is_read_and_written_without_mlflow(
    results: Results, make_run: MakeRun, make_result: MakeResult
) -> None:
    """Its import takes longer than all that a launch of 10,000 finished runs has to compare."""
    results.publish(make_result(make_run("vae", study=results.study)))
    code = (
        "import sys; from pathlib import Path; from sweep.tracking.mirror import rebuild;"
        f"print(rebuild(Path({str(results.root)!r}), {results.study!r}, {results.uri!r}), 'mlflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1 False\n"
    results.assert_equal_to_parquet()


@pytest.mark.slow
def test_a_new_database_is_made_in_another_process(tmp_path: Path) -> None:
    """The import of MLflow, seconds of CPU, is none of the driver's, which starts Ray meanwhile."""
    (tmp_path / "digits").mkdir()
    code = (
        "import sys; from sweep.results.folder import StudyFolder; from sweep.tracking.mirror import open_mlflow;"
        f"open_mlflow({default_uri(tmp_path)!r}, StudyFolder({str(tmp_path)!r}, 'digits'), 'digits').close();"
        "print('mlflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    names = {experiment.name for experiment in MlflowClient(default_uri(tmp_path)).search_experiments()}
    assert names == {"Default", "digits", "digits/configurations"}


@pytest.mark.slow
def test_a_database_of_an_unknown_version_is_refused_with_mlflows_reason(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection, connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES ('of_the_future')")
    with pytest.raises(RuntimeError, match="of_the_future"):
        open_store(default_uri(tmp_path), tmp_path)


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
