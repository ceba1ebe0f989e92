"""Pack sizes: as the cluster says, or measured once for each architecture and kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from sweep.results.folder import StudyFolder
from sweep.running.pack_size import SIZES, pack_sizes
from sweep.settings.settings import Cluster
from tests.places import local
from wae_core.run import Run

MakeRun = Callable[..., Run]
RATES = {"dcgan": {1: 10.0, 3: 25.0, 6: 24.0}, "resnet50v2": {1: 2.0, 3: 1.5}}


class Place:
    """A study's folder, and a device that is measured in it."""

    def __init__(self, root: Path) -> None:
        self.folder = StudyFolder(root, "test")
        self.folder.root.mkdir()
        self.measured: list[Run] = []
        self.printed = StringIO()

    def sizes(self, runs: Sequence[Run], pack_size: int | None) -> dict[str, int]:
        cluster = Cluster("cuda", None, 1, 1, 0, pack_size=pack_size, teraflops=1.0)
        console = Console(file=self.printed, width=200)
        return pack_sizes(self.folder, runs, _seconds, cluster, self._measure, console)

    def _measure(self, run: Run, sizes: Sequence[int]) -> dict[int, float]:
        assert sizes == SIZES
        self.measured.append(run)
        return RATES[run.hyperparameters.architecture]


def _seconds(run: Run) -> float:
    return run.hyperparameters.batch_size


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def runs(make_run: MakeRun) -> list[Run]:
    sizes = {"dcgan": (16, 64, 32), "resnet50v2": (128,)}
    return [make_run("vae", architecture=name, batch_size=n) for name, batches in sizes.items() for n in batches]


def test_the_cluster_s_word_is_taken_without_a_measurement(place: Place, runs: list[Run]) -> None:
    assert place.sizes(runs, 4) == {"dcgan": 4, "resnet50v2": 4}
    assert place.measured == []


def test_the_size_that_trains_most_models_an_hour_is_taken(place: Place, runs: list[Run]) -> None:
    assert place.sizes(runs, None) == {"dcgan": 3, "resnet50v2": 1}
    assert [run.hyperparameters.batch_size for run in place.measured] == [32, 128], "the run of median cost"
    assert "dcgan: packs of 3" in place.printed.getvalue() and "25 in packs of 3" in place.printed.getvalue()


def test_a_measurement_is_made_once_a_study(place: Place, runs: list[Run]) -> None:
    first = place.sizes(runs[:3], None)
    assert place.sizes(runs, None) == first | {"resnet50v2": 1}
    assert len(place.measured) == 2
    kept = local(place.folder.root / "pack_sizes.json")
    assert set(json.loads(kept.read_text())) == {"cuda dcgan", "cuda resnet50v2"}
