"""Packs: each run once, only equal shapes, the longest first; as large as the cluster says, or measured once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from sweep.results.folder import StudyFolder
from sweep.running.packs import SIZES, Packer, find_packings, pack_runs
from sweep.search.plan import plan_runs
from sweep.settings.settings import Cluster, Study
from tests.places import local
from wae_core.run import Run
from wae_core.training.throughput import Packing

MakeRun = Callable[..., Run]
GRAPH_OF_3 = Packing(3, is_captured=True)
RATES = {
    "dcgan": {Packing(1): 10.0, Packing(3): 25.0, GRAPH_OF_3: 40.0, Packing(6): 24.0},
    "resnet50v2": {Packing(1): 2.0, Packing(3): 1.5},
}


class Place:
    """A study's folder, and a device that is measured in it."""

    def __init__(self, root: Path) -> None:
        self.folder = StudyFolder(root, "test")
        self.folder.root.mkdir()
        self.measured: list[Run] = []
        self.printed = StringIO()

    def packings(self, runs: Sequence[Run], pack_size: int | None) -> dict[str, Packing]:
        cluster = Cluster("ray", "cuda", None, 1, 1, 0, pack_size=pack_size, teraflops=1.0)
        console = Console(file=self.printed, width=200)
        return find_packings(self.folder, runs, _seconds, cluster, "cuda: H200", self._measure, console)

    def _measure(self, run: Run, sizes: Sequence[int]) -> dict[Packing, float]:
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
    assert place.packings(runs, 4) == {"dcgan": Packing(4), "resnet50v2": Packing(4)}
    assert place.measured == []


def test_runs_of_several_accelerators_are_not_packed(place: Place, runs: list[Run]) -> None:
    cluster = Cluster("ray", "cuda", None, 1, 1, 0, pack_size=None, teraflops=1.0, accelerators_per_run=8)
    packings = find_packings(
        place.folder, runs, _seconds, cluster, "cpu", place._measure, Console(file=place.printed)
    )
    assert packings == {"dcgan": Packing(1), "resnet50v2": Packing(1)} and place.measured == []


def test_the_packing_that_trains_most_models_an_hour_is_taken(place: Place, runs: list[Run]) -> None:
    assert place.packings(runs, None) == {"dcgan": GRAPH_OF_3, "resnet50v2": Packing(1)}
    assert [run.hyperparameters.batch_size for run in place.measured] == [32, 128], "the run of median cost"
    said = place.printed.getvalue()
    assert "dcgan: packs of 3 by CUDA graphs;" in said and "25 in packs of 3, 40 in packs of 3 by CUDA graphs" in said


def test_a_measurement_is_made_once_a_study(place: Place, runs: list[Run]) -> None:
    first = place.packings(runs[:3], None)
    assert place.packings(runs, None) == first | {"resnet50v2": Packing(1)}
    assert len(place.measured) == 2
    kept = local(place.folder.root / "pack_sizes.json")
    assert set(json.loads(kept.read_text())) == {"cuda: H200 dcgan", "cuda: H200 resnet50v2"}


def test_workers_are_told_which_steps_to_capture(place: Place, runs: list[Run]) -> None:
    packer = Packer(_seconds)
    cluster = Cluster("ray", "cuda", None, 1, 1, 0, pack_size=None, teraflops=1.0)
    packer.find_packings(place.folder, runs, cluster, "cpu", place._measure, Console(file=place.printed))
    assert packer.captured == {"dcgan"}


# --- packs


def batch_size(run: Run) -> float:
    """Stands for the predicted seconds."""
    return run.hyperparameters.batch_size


def all_of_size(size: int, runs: Sequence[Run]) -> dict[str, Packing]:
    return dict.fromkeys((run.hyperparameters.architecture for run in runs), Packing(size))


@pytest.mark.parametrize("size", [1, 3, 4])
def test_packs_hold_each_run_once_and_only_equal_shapes(study: Study, size: int) -> None:
    runs = [run for algorithm in study.space.algorithms for run in plan_runs(study, algorithm, 60)]
    packs = pack_runs(runs, batch_size, all_of_size(size, runs))
    assert Counter(run.run_id for pack in packs for run in pack.runs) == Counter(run.run_id for run in runs)
    assert max(len(pack.runs) for pack in packs) == size
    for pack in packs:
        shapes = {
            (run.algorithm, h.architecture, h.latent_dim, h.batch_size, run.is_stochastic)
            for run in pack.runs
            for h in [run.hyperparameters]
        }
        assert len(shapes) == 1
    assert pack_runs([], batch_size, {}) == []


def test_three_seeds_of_a_configuration_share_a_pack(study: Study) -> None:
    runs = plan_runs(study, "wae-gan", 60)
    packs = pack_runs(runs, batch_size, all_of_size(3, runs))
    assert {tuple(run.seed for run in pack.runs) for pack in packs} == {(0, 1, 2)}
    assert all(len({run.config_index for run in pack.runs}) == 1 for pack in packs)


def test_each_architecture_has_its_own_pack_size(study: Study) -> None:
    runs = plan_runs(study, "vae", 60)
    first, *others = sorted({run.hyperparameters.architecture for run in runs})
    packings = dict.fromkeys(others, Packing(6)) | {first: Packing(1)}
    packs = pack_runs(runs, batch_size, packings)
    assert all(len(pack.runs) <= packings[pack.runs[0].hyperparameters.architecture].size for pack in packs)
    assert max(len(pack.runs) for pack in packs) > 1


def test_packs_start_with_the_longest(study: Study) -> None:
    runs = plan_runs(study, "vae", 30)
    packs = pack_runs(runs, batch_size, all_of_size(1, runs))
    sizes = [batch_size(pack.runs[0]) for pack in packs]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 1
