"""Fixtures of the sweep's tests: hand-made results, and folders to publish them in."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from search_spaces import SearchSpace
from sweep.results.folder import StudyFolder
from sweep.results.schema import EvaluationRow, RunRow, evaluation_rows
from sweep.settings.settings import Study
from tests.made_up import made_up_row
from wae_core.evaluation import evaluator
from wae_core.evaluation.selection import Evaluation
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

    def make(
        run: Run,
        status: str = "completed",
        fids: tuple[float, ...] = (9.0, 7.5),
        apart: int = 10,
        **overrides: Any,
    ) -> Result:
        evaluations = [make_evaluation(apart * number, fid) for number, fid in enumerate(fids, start=1)]
        row = made_up_row(run, evaluations, status)
        return replace(row, **overrides), evaluation_rows(run, evaluations)

    return make


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """An empty study folder, as a launch leaves it before the first run."""
    folder = StudyFolder(tmp_path / "results", "test")
    folder.records.mkdir(parents=True)
    return folder


@pytest.fixture
def _ignores_sigint() -> Iterator[None]:
    """As a job in the background of a script does from its start."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)
