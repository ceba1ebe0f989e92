"""A new algorithm with its own hyperparameter: one file and three lines, and a sweep of it through the front door.

Sliced-Wasserstein auto-encoders (Kolouri et al., arXiv 1804.01947) are put into a copy of the packages.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
SWAE = '''\
"""SWAE: the penalty is the sliced Wasserstein distance of the codes, the mean over random directions (1804.01947)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wae_core.algorithms.algorithm import Algorithm, Batch, Look, Networks, Shapes, codes_of_the_prior
from wae_core.hyperparameters import Hyperparameters
from wae_core.protocol import Protocol

if TYPE_CHECKING:
    from torch import Tensor

DIRECTIONS = 50


def draws(hyperparameters: Hyperparameters) -> Shapes:
    """Codes of the prior, and the directions on which both sets of codes are projected."""
    return codes_of_the_prior(hyperparameters) | {"directions": (hyperparameters.latent_dim, DIRECTIONS)}


def losses(protocol: Protocol, networks: Networks, batch: Batch) -> tuple[Tensor, Tensor]:
    """c(x, G(z̃)) + λ · SW², and SW²: in one dimension the optimal transport pairs the sorted codes."""
    from wae_core.algorithms.objectives import reconstruction_cost

    directions = batch["directions"] / batch["directions"].norm(dim=0)
    prior, encoded = ((batch[name] @ directions).sort(dim=0).values for name in ("z_prior", "z_encoded"))
    penalty = (prior - encoded).square().mean()
    cost = reconstruction_cost(batch["x"], networks.output(batch["logits"]), protocol.cost_scale)
    return cost + networks.scalars["sliced_lambda"] * penalty, penalty


ALGORITHM = Algorithm(
    name="swae",
    hyperparameters=("sliced_lambda",),
    look=Look("#009E73", "D", (0, (3, 1, 1, 1))),
    losses=losses,
    draws=draws,
    is_stochastic=False,
    penalty_flops=lambda n, d: 3 * 2 * n * d * DIRECTIONS,
)
'''
# File, the text before which the line comes, the line.
LINES = [
    (
        "wae_core/hyperparameters.py",
        "\n    @classmethod",
        '    sliced_lambda: Annotated[float | None, Declared(PositiveNumber(), "loss", "sliced $λ$")] = None\n',
    ),
    ("wae_core/algorithms/registry.py", ")\n\n\ndef", '    "swae.py",\n'),
    (
        "search_spaces/digits.yaml",
        "architecture:",
        "sliced_lambda: {algorithms: [swae], distribution: log_uniform, low: 1, high: 100, source: O}\n",
    ),
]
WORDS = (
    "cluster=inprocess",
    "cluster.pack_size=2",
    "study.seeds=2",
    "study.steps=4",
    "study.evaluation_steps=[2,4]",
    "study.fid_samples=100",
    "study.evaluation_images=50",
    "study.width=4",
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages with the new algorithm in it."""
    house = tmp_path_factory.mktemp("house")
    for package in ("search_spaces", "wae_core", "sweep"):
        shutil.copytree(ROOT / package, house / package, ignore=shutil.ignore_patterns("__pycache__"))
    (house / "wae_core" / "algorithms" / "swae.py").write_text(SWAE)
    for file, place, line in LINES:
        text = (house / file).read_text()
        before, found, after = text.partition(place)
        assert found, f"{file} has changed: there is no {place!r}"
        (house / file).write_text(before + line + found + after)
    return house


def sweep(house: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sweep", f"results={house / 'results'}", *words]
    environment = os.environ | {"PYTHONPATH": str(house)}
    return subprocess.run(command, cwd=house, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_a_new_algorithm_is_drawn_trained_in_packs_stored_and_mirrored(house: Path) -> None:
    done = sweep(house, "alg=swae", "budget=4", *WORDS)
    assert done.returncode == 0, done.stdout + done.stderr
    study = house / "results" / "digits"
    for rows in (pd.read_parquet(study / "runs"), pd.read_parquet(study / "plan.parquet")):
        assert sorted(rows["run_id"]) == [f"swae-{index:05d}-s{seed}" for index in (0, 1) for seed in (0, 1)]
        assert rows["sliced_lambda"].between(1, 100).all() and rows["sliced_lambda"].nunique() == 2
        assert rows[["encoder", "wae_lambda", "kernel_scale", "decoder_variance"]].isna().all(axis=None)
    runs = pd.read_parquet(study / "runs").sort_values("run_id")
    assert set(runs["status"]) == {"completed"} and set(runs["pack_size"]) == {2}
    with sqlite3.connect(house / "results" / "mlflow.db") as database:
        of_runs = "SELECT run_uuid FROM params WHERE key = 'seed'"
        select = f"SELECT value FROM params WHERE key = 'sliced_lambda' AND run_uuid IN ({of_runs})"
        mirrored = database.execute(select).fetchall()
    assert sorted(float(value) for (value,) in mirrored) == sorted(runs["sliced_lambda"])


@pytest.mark.slow
def test_all_are_the_algorithms_that_the_space_has_lines_for(house: Path) -> None:
    done = sweep(house, "alg=all", "budget=2", "dry_run=true", *WORDS)
    assert "study digits: wae-mmd, wae-gan, vae, swae;" in done.stdout
    refused = sweep(house, "alg=swae", "study=bigwae", "budget=3", "dry_run=true")
    assert refused.returncode == 2
    assert refused.stderr.strip() == "error: alg is 'swae', but it is one of wae-mmd, wae-gan, vae, all"
