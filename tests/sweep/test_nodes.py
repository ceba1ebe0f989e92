"""Sweeps on clusters whose nodes are bad, come late, or go: the rows are those of one quiet machine."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from sweep.results.folder import StudyFolder, read_evaluations, read_runs
from tests.chaos.compare import differences
from tests.chaos.nodes import RayNodes, can_see_others, ray_nodes
from wae_core.data.images import load_dataset
from wae_core.data.manifest import Manifest
from wae_core.data.preparing import check, write_images

ROOT = Path(__file__).parents[2]
SMALL = (
    *("study=mnist", "space=digits", "alg=vae", "budget=6", "study.width=4", "study.precision=float32"),
    *("study.steps=40", "study.evaluation_steps=[20,40]", "study.fid_samples=200", "study.evaluation_images=50"),
    *("study.pretraining_steps=2", "study.pretraining_images=100", "study.fid_reference_images=100"),
)
SLOWER = ("study.steps=1500", "study.evaluation_steps=[750,1500]")
STUDY = "mnist-digits"
SECONDS_TO_GET_WORK = 10.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ray,
    pytest.mark.skipif(not can_see_others(), reason="no mount namespaces here (unshare -rm)"),
]


class Launch:
    """A launch in a session of its own, with what it prints in a file."""

    def __init__(self, results: Path, data: Path, environment: Mapping[str, str], *words: str) -> None:
        self.log = results.parent / f"{results.name}.log"
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sweep", *SMALL, f"results={results}", f"data={data}", *words],
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=os.environ | environment,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self.log.read_text()

    def wait_for(self, pattern: str, seconds: float = 120.0) -> str:
        """Wait until it has printed something; returns that."""
        until = time.monotonic() + seconds
        while (found := re.search(pattern, self.said)) is None:
            assert self.process.poll() is None and time.monotonic() < until, self.said
            time.sleep(0.1)
        return found.group()

    def end(self, exit_code: int = 0, seconds: float = 240.0) -> str:
        try:
            assert self.process.wait(seconds) == exit_code, self.said
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
        return self.said


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed data set: some of the embedded digits, under another name."""
    data, digits = tmp_path_factory.mktemp("data"), load_dataset("digits")
    images = torch.cat([digits.train[:300], digits.held_out[:100]]).numpy()
    (data / "mnist").mkdir()
    sha256 = write_images(images, np.arange(len(images)), 300, data / "mnist")
    manifest = Manifest("mnist", {}, len(images), 300, images.shape, sha256, None, None, None, "a rule", None, [])
    manifest.write(data / "mnist")
    return data


@pytest.fixture(scope="module")
def quiet(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a launch on this machine alone."""
    results = tmp_path_factory.mktemp("quiet") / "results"
    Launch(results, data, {}, "cluster=inprocess").end()
    return results


@pytest.fixture(scope="module")
def slow_quiet(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of runs that take some seconds."""
    results = tmp_path_factory.mktemp("slow") / "results"
    Launch(results, data, {}, "cluster=inprocess", *SLOWER).end()
    return results


@pytest.fixture
def nodes() -> Iterator[RayNodes]:
    with ray_nodes() as found:
        yield found


def differences_of(results: Path, expected: Path) -> list[str]:
    """Sentences on what differs between the rows of two results folders, timings and places aside."""
    return [
        *differences("runs", read_runs(expected, STUDY), read_runs(results, STUDY)),
        *differences("evaluations", read_evaluations(expected, STUDY), read_evaluations(results, STUDY)),
    ]


def test_bad_nodes_are_named_and_train_nothing(nodes: RayNodes, data: Path, quiet: Path, tmp_path: Path) -> None:
    """One that can get no data, one with other code, one that fails at every run, and one that fetches the data."""
    empty, place, fetched, other, spoilt = (tmp_path / name for name in ("empty", "place", "data", "sweep", "work"))
    for folder in (empty, place, fetched):
        folder.mkdir()
    shutil.copytree(ROOT / "sweep", other)
    with (other / "commit.py").open("a") as file:
        file.write("# another\n")
    spoilt.mkdir()
    for index in range(2):
        for seed in range(3):
            (spoilt / f"vae-{index:05d}-s{seed}").write_text("a file where the run's folder should be")
    work = tmp_path / "results" / STUDY / "work"
    work.mkdir(parents=True)
    offered = tmp_path / "results/.data"
    offered.mkdir()
    nodes.add("no-data", over={data: empty, offered: place})
    nodes.add("other-code", over={ROOT / "sweep": other})
    nodes.add("spoiling", over={work: spoilt})
    nodes.add("well", over={data: fetched})
    said = Launch(tmp_path / "results", data, nodes.environment).end()
    assert re.search(r"no-data \(node \w+\) is left out: data set mnist is not in .*/results/\.data/", said)
    assert re.search(r"well \(node \w+\): \S+ fetches data set mnist \(314 kB\) from .*/results/\.data/", said)
    check("mnist", fetched)
    assert re.search(r"other-code \(node \w+\) is left out: its code is another: ", said)
    assert re.search(r"spoiling \(node \w+\) gets no more work in this sweep: 2 runs raised there", said)
    assert said.count("is left out: ") == 2, "each is named once"
    assert differences_of(tmp_path / "results", quiet) == []
    status = subprocess.run(
        [sys.executable, "-m", "sweep.command", "status", "--results", str(tmp_path / "results")],
        capture_output=True,
        text=True,
        cwd=ROOT,
    ).stdout
    assert re.search(r"left out, for the rest of the sweep: spoiling .*FileExistsError", status)
    assert re.search(r"left out, until it is found well: no-data ", status)


def test_gpus_that_are_declared_and_not_there_are_refused(nodes: RayNodes, data: Path, tmp_path: Path) -> None:
    """6 of 6 runs were `failed`."""
    nodes.add("fake", "--num-gpus", "2")
    began = time.monotonic()
    said = Launch(tmp_path / "results", data, nodes.environment, "cluster=gpu").end(exit_code=2)
    assert time.monotonic() - began < 30
    assert re.search(
        r"error: no node of the cluster can train: fake \(node \w+\): device 'cuda' is asked for, but", said
    )
    assert StudyFolder(tmp_path / "results", STUDY).read_table("runs").num_rows == 0


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_number_of_workers_follows_the_nodes(
    nodes: RayNodes, data: Path, slow_quiet: Path, tmp_path: Path
) -> None:
    """No node but the head, then one, then three, then one."""
    results = tmp_path / "results"
    launch = Launch(results, data, nodes.environment, *SLOWER)
    launch.wait_for("waiting for a worker, which takes 1 CPU; 0 nodes train")
    nodes.add("a")
    wait_for_attempts(results, 1)
    nodes.add("b")
    nodes.add("c")
    # The first run is not half done. What starts on both nodes shares the machine's two cores with what trains on a.
    wait_for_attempts(results, 3, seconds=2 * SECONDS_TO_GET_WORK)
    nodes.remove("a")
    nodes.remove("c")
    launch.wait_for(r"gone: [^;]+; 1 node trains, with 1 worker", 90)
    launch.end(seconds=280)
    assert differences_of(results, slow_quiet) == []


def wait_for_attempts(results: Path, count: int, seconds: float = SECONDS_TO_GET_WORK) -> None:
    """Wait until so many attempts have begun, no longer than a node may take until its core is busy."""
    until = time.monotonic() + seconds
    while len(list((results / STUDY / "work").glob("*/attempt-*"))) < count:
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_node_with_other_code_trains_with_the_driver_s_where_that_is_sent(
    nodes: RayNodes, data: Path, quiet: Path, tmp_path: Path
) -> None:
    other = tmp_path / "wae_core"
    shutil.copytree(ROOT / "wae_core", other)
    loop = other / "training" / "loop.py"
    loop.write_text(loop.read_text().replace("import", "raise RuntimeError('not this code')\nimport", 1))
    nodes.add("other-code", over={ROOT / "wae_core": other})
    Launch(tmp_path / "results", data, nodes.environment, "cluster.send_code=true").end()
    assert differences_of(tmp_path / "results", quiet) == []


@pytest.mark.long
@pytest.mark.timeout(900)
def test_workers_share_a_device_and_a_run_has_devices_of_two_nodes(
    nodes: RayNodes, data: Path, quiet: Path, tmp_path: Path
) -> None:
    """Devices that are declared alone: the workers train on the CPU."""
    for name in ("a", "b"):
        nodes.add(name, "--num-gpus", "1", "--resources", '{"TPU": 1}', cpus=0)
    shared = ("cluster.cpus_per_worker=0", "cluster.gpus_per_worker=0.5")
    said = Launch(tmp_path / "shared", data, nodes.environment, *shared).end()
    assert "2 nodes train, with 4 workers" in said
    assert differences_of(tmp_path / "shared", quiet) == []
    several = ("cluster.cpus_per_worker=0", "cluster.tpus_per_worker=1", "cluster.accelerators_per_run=2", "budget=3")
    said = Launch(tmp_path / "several", data, nodes.environment, *several).end()
    assert "2 nodes train, with 1 worker" in said
    assert set(read_runs(tmp_path / "several", STUDY)["device"].str[-3:]) == {"× 2"}


@pytest.mark.long
@pytest.mark.timeout(900)
def test_where_the_head_dies_the_same_words_go_on_with_another(data: Path, slow_quiet: Path, tmp_path: Path) -> None:
    with ray_nodes() as first:
        first.add("a")
        launch = Launch(tmp_path / "results", data, first.environment, *SLOWER)
        launch.wait_for(r"1 node trains, with 1 worker")
        wait_for_attempts(tmp_path / "results", 2, seconds=120)
        first.remove("head")
        said = launch.end(exit_code=1)
        assert re.search(r"stopped: Ray's .* has ended; what was finished is kept", said)
    with ray_nodes() as second:
        second.add("b")
        Launch(tmp_path / "results", data, second.environment, *SLOWER).end()
    assert differences_of(tmp_path / "results", slow_quiet) == []


@pytest.mark.long
@pytest.mark.timeout(900)
def test_an_autoscaler_starts_nodes_for_what_waits_and_is_asked_for_nothing_at_the_end(
    data: Path, quiet: Path, tmp_path: Path
) -> None:
    """Nothing waits in Ray itself, where the autoscaler would see it."""
    with ray_nodes(autoscaled=2) as nodes:
        said = Launch(tmp_path / "results", data, nodes.environment).end()
        assert "2 nodes train, with 2 workers" in said
        log = (nodes.folder / "ray/session_latest/logs/monitor.log").read_text()
        assert "{'CPU': 1}: 2 from request_resources()" in log
        assert "(none)" in log.rpartition("From request_resources:")[2]
    assert differences_of(tmp_path / "results", quiet) == []
