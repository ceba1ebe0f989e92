"""Fixtures of the sweep's tests: hand-made results, and folders to publish them in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from search_spaces import SearchSpace
from sweep.results.folder import StudyFolder
from sweep.results.schema import SCHEMA_VERSION, EvaluationRow, RunRow, evaluation_rows
from sweep.settings.settings import Study
from wae_core.data.images import data_sha256
from wae_core.evaluation import evaluator
from wae_core.evaluation.features import features_name
from wae_core.evaluation.selection import Evaluation, select_checkpoint
from wae_core.run import Run

Result = tuple[RunRow, list[EvaluationRow]]
# Of the tests' own: the shipped studies and intervals may be corrected without touching a test.
SPACE = """\
latent_dim: {algorithms: all, distribution: choice, values: [4, 8, 16], source: O}
batch_size: {algorithms: all, distribution: choice, values: [16, 32, 64], source: O}
learning_rate: {algorithms: all, distribution: log_uniform, low: 1.0e-4, high: 1.0e-2, source: O}
adversary_learning_rate: {algorithms: [wae-gan], distribution: log_uniform, low: 1.0e-4, high: 1.0e-2, source: O}
kernel_scale: {algorithms: [wae-mmd], distribution: uniform, low: 1, high: 16, source: O}
wae_lambda: {algorithms: [wae-mmd, wae-gan], distribution: uniform, low: 1, high: 50, source: O}
decoder_variance: {algorithms: [vae], distribution: uniform, low: 0.02, high: 1, source: O}
architecture: {algorithms: all, distribution: choice, values: [dcgan_small, dcgan], source: O}
encoder: {algorithms: [wae-mmd, wae-gan], distribution: choice, values: [deterministic, stochastic], source: O}
"""


@pytest.fixture(scope="module", autouse=True)
def few_codes() -> Iterator[None]:
    """The latent mismatch of 100 codes, not 1,000: it takes a third of what the evaluation of a tiny run does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluator, "MMD_SAMPLES", 100)
        yield


@pytest.fixture(scope="session")
def study(make_run: Callable[..., Run]) -> Study:
    """A study of three seeds with the tiny runs' protocol."""
    space = SearchSpace.from_dict("mine", yaml.safe_load(SPACE))
    return Study("test", seed=5, seeds=3, space=space, protocol=make_run("vae").protocol)


@pytest.fixture(scope="session")
def make_evaluation() -> Callable[[int, float], Evaluation]:
    """make_evaluation(step, fid): figures that differ from each other and from step to step."""

    def make(step: int, fid: float) -> Evaluation:
        figures = [*(step + tenth / 10 for tenth in range(1, 7)), 2.0 * step]
        return Evaluation(step, fid, *figures)

    return make


@pytest.fixture(scope="session")
def make_result(make_evaluation: Callable[[int, float], Evaluation]) -> Callable[..., Result]:
    """make_result(run, status, fids, apart, **overrides of the row): the row, evaluations every `apart` steps."""
    identity = data_sha256("digits")

    def make(
        run: Run,
        status: str = "completed",
        fids: tuple[float, ...] = (9.0, 7.5),
        apart: int = 10,
        **overrides: Any,
    ) -> Result:
        evaluations = [make_evaluation(apart * number, fid) for number, fid in enumerate(fids, start=1)]
        best = select_checkpoint(evaluations)
        row = RunRow(
            schema_version=SCHEMA_VERSION,
            study=run.study,
            algorithm=run.algorithm,
            config_index=run.config_index,
            config_id=run.config_id,
            seed=run.seed,
            run_id=run.run_id,
            status=status,
            status_reason=None if status == "completed" else f"it {status}",
            **asdict(run.hyperparameters),
            steps_planned=run.protocol.steps,
            steps_done=apart * len(fids),
            best_step=best.step if best else None,
            best_fid=best.fid if best else None,
            confirmed_fid=best.fid + 0.5 if best else None,
            fid_infinity=best.fid - 0.5 if best else None,
            best_sharpness=best.sharpness if best else None,
            best_reconstruction_error=best.reconstruction_error if best else None,
            fid_features=features_name(run.protocol.fid_features),
            fid_reference="digits/held_out/1000",
            fid_samples=run.protocol.fid_samples,
            data_sha256=identity,
            precision=run.protocol.precision,
            images_seen=apart * len(fids) * run.hyperparameters.batch_size,
            train_seconds=1.0,
            eval_seconds=2.0,
            cpu_seconds=3.0,
            device="cpu",
            host="here",
            attempts=1,
            pack_size=1,
            git_commit="unknown",
            started_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
            ended_at=datetime(2026, 1, 2, 3, 5, 6, 789012, tzinfo=UTC),
            checkpoint_path=f"work/{run.run_id}/best.safetensors" if best else None,
        )
        return replace(row, **overrides), evaluation_rows(run, evaluations)

    return make


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """An empty study folder, as a launch leaves it before the first run."""
    folder = StudyFolder(tmp_path / "results", "test")
    folder.records.mkdir(parents=True)
    return folder
