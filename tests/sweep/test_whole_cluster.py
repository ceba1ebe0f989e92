"""All that a cluster has, in one sweep: PostgreSQL, MLflow's server, an S3 store, a Ray head with a token, a job.

Slow, and run by `make faults`. What a machine lacks of it is said, and the test skipped.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from sweep.results.folder import StudyFolder, read_evaluations, read_runs
from tests.chaos.compare import violations
from tests.chaos.mlflow_server import MlflowServer, mlflow_server
from tests.chaos.postgres_server import missing, postgres_server
from tests.chaos.ray_head import ray_head
from tests.chaos.s3_server import s3_bucket
from wae_core.storage.files import location

ROOT = Path(__file__).parents[2]
PACKAGES = ("search_spaces", "wae_core", "sweep")
WORDS = (
    "study=digits",
    "alg=all",
    "budget=3",
    "study.steps=60",
    "study.evaluation_steps=[20,40,60]",
    "study.width=4",
)
FIGURES = (
    "best_fid",
    "confirmed_fid",
    "fid_infinity",
    "best_sharpness",
    "best_reconstruction_error",
    "learning_rate",
)


def _missing() -> str:
    if find_spec("aiohttp_cors") is None:
        return "Ray's dashboard, which takes jobs, is not installed: pip install '.[cluster]'"
    return missing()


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """What travels with a job: no .git, so that the job's rows and a local sweep's name their code alike."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / "sources" / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "sources"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.skipif(bool(_missing()), reason=_missing())
def test_a_job_with_results_on_s3_and_mlflow_on_postgresql_equals_a_quiet_local_sweep(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = time.monotonic()

    def say(words: str) -> None:
        print(f"[{time.monotonic() - began:4.0f} s] {words}", flush=True)

    launch = [sys.executable, "-m", "sweep.command", "sweep", *WORDS]
    quiet = [*launch, f"results={tmp_path / 'quiet'}"]
    say(f"alone: {' '.join(quiet[1:])}")
    subprocess.run(quiet, cwd=sources, check=True, stdout=subprocess.DEVNULL)
    with (
        postgres_server() as postgres,
        s3_bucket() as bucket,
        mlflow_server(postgres.uri, f"{bucket}/mlflow") as mlflow,
        ray_head(takes_jobs=True, cpus=2) as head,
    ):
        results = f"{bucket}/results"
        say(f"PostgreSQL; mlflow server at {mlflow.address}; {results}; Ray's head at {head.address}")
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", head.jobs)
        words = [*launch, f"results={results}", f"tracking={mlflow.address}"]
        submit = ["job", "submit", "--working-dir", str(sources), "--", *words]
        say(f"ray {' '.join(submit[:2])} --working-dir . -- {' '.join(words[1:])}")
        job = subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", *submit],
            env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for line in job.stdout.splitlines():
            print(f"         {line}")
        assert job.returncode == 0
        assert violations(str(tmp_path / "quiet"), results, "digits", mlflow.address) == []
        runs, evaluations = read_runs(results, "digits"), read_evaluations(results, "digits")
        say(f"{len(runs)} rows and {len(evaluations)} evaluations equal the quiet sweep's, bit for bit")
        compared = compare_with_mlflow(mlflow, results)
        say(f"MLflow, read from PostgreSQL, has {compared}; all equal to the Parquet's")
        assert runs["git_commit"].str.startswith("tree-").all()


def compare_with_mlflow(server: MlflowServer, results: str) -> str:
    """Compare figures, curves and pictures with the rows; returns how many of each there were."""
    served = server.runs("digits")
    runs, evaluations = read_runs(results, "digits"), read_evaluations(results, "digits")
    assert set(served) == set(runs["run_id"])
    folder, pictures, points, figures = StudyFolder(location(results), "digits"), 0, 0, 0
    for row in runs.to_dict("records"):
        run = served[row["run_id"]]
        assert run["info"]["status"] == "FINISHED"
        metrics = server.metrics(run)
        for name in FIGURES:
            assert metrics[name] == row[name], name
        figures += len(FIGURES)
        own = evaluations[evaluations["run_id"] == row["run_id"]]
        for name in ("fid", "loss", "latent_mmd"):
            pairs = zip(own["step"], own[name], strict=True)
            expected = [(step, value) for step, value in pairs if math.isfinite(value)]
            assert server.history(run, name) == expected, name
            points += len(expected)
        picture = folder.work(row["run_id"]) / "samples.png"
        assert server.artifact(run, "samples.png") == picture.read_bytes()
        pictures += 1
    judged = server.runs("digits/configurations")
    assert set(judged) == set(runs["config_id"])
    return (
        f"{len(served)} runs, {len(judged)} configurations, {figures} figures, {points} points, {pictures} pictures"
    )
