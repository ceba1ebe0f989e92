"""A node has the study's data and weights, or fetches them, or says why it cannot."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sweep.errors import OtherDataError
from sweep.events import Ended, Problem, Task, WorkerContext
from sweep.results.folder import StudyFolder
from sweep.running.attempt import images_of
from sweep.running.staging.fetching import FETCHED
from sweep.running.staging.node import data_folder, weights_file
from sweep.running.worker import run_task
from tests.packed import pack_noise
from tests.web_server import WebServer
from wae_core.data.images import data_sha256, load_dataset
from wae_core.data.manifest import IMAGES, Manifest
from wae_core.protocol import Protocol
from wae_core.run import Run
from wae_core.storage.files import Location
from wae_core.storage.transfer import Say


@pytest.fixture
def protocol(make_run: Callable[..., Run]) -> Protocol:
    return replace(make_run("vae").protocol, dataset="noise")


def stage_in(protocol: Protocol, context: WorkerContext, say: Say) -> None:
    """Do what a node does when it is examined."""
    data_folder(protocol.dataset, context, say)
    if protocol.fid_features == "inception":
        weights_file(context, say)


def refusal(protocol: Protocol, context: WorkerContext) -> str:
    with pytest.raises(OtherDataError) as caught:
        stage_in(protocol, context, print)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def test_a_node_fetches_what_it_lacks_and_then_asks_for_nothing(
    protocol: Protocol, context_of: Callable[..., WorkerContext], server: WebServer, source: Location, weights: Path
) -> None:
    context = context_of(data_source=source, inception=Path("/nowhere/weights.pth"))
    said: list[str] = []
    stage_in(replace(protocol, fid_features="inception"), context, said.append)
    assert [sentence.partition(" (")[0] for sentence in said] == [
        f"{socket.gethostname()} fetches {what}" for what in ("data set noise", "Inception's weights")
    ]
    assert data_folder("noise", context, said.append) == context.data
    assert weights_file(context, said.append).read_bytes() == weights.read_bytes()
    asked = len(server.asked)
    stage_in(replace(protocol, fid_features="inception"), context, said.append)
    assert len(server.asked) == asked and len(said) == 2


def test_a_node_that_has_all_asks_for_nothing(
    protocol: Protocol, context_of: Callable[..., WorkerContext], elsewhere: Path, manifest: Manifest, weights: Path
) -> None:
    context = replace(context_of(data_source=Path("/nowhere"), inception=weights), data=elsewhere)
    before = sorted(elsewhere.rglob("*"))
    stage_in(replace(protocol, fid_features="inception"), context, pytest.fail)
    assert sorted(elsewhere.rglob("*")) == before


def test_the_digits_are_everywhere(make_run: Callable[..., Run], context_of: Callable[..., WorkerContext]) -> None:
    context = context_of(data_sha256=data_sha256("digits"), data_source=Path("/nowhere"))
    stage_in(make_run("vae").protocol, context, pytest.fail)
    assert "is another one than that of this sweep" in refusal(make_run("vae").protocol, context_of("0" * 64))


def test_without_a_source_a_node_says_what_it_lacks(
    protocol: Protocol, context_of: Callable[..., WorkerContext]
) -> None:
    said = refusal(protocol, context_of())
    assert "unknown data set 'noise'" in said and said.endswith(f", on node {socket.gethostname()}")


def test_without_a_source_another_set_is_refused(
    protocol: Protocol, context_of: Callable[..., WorkerContext], manifest: Manifest
) -> None:
    context = context_of()
    other = pack_noise(context.data, seed=1)
    said = refusal(protocol, context)
    assert manifest.sha256[:12] in said and other.sha256[:12] in said


def test_without_a_source_a_damaged_set_is_refused(
    protocol: Protocol, context_of: Callable[..., WorkerContext], manifest: Manifest
) -> None:
    context = context_of()
    pack_noise(context.data)
    os.truncate(context.data / "noise" / IMAGES, 1000)
    assert "is damaged" in refusal(protocol, context)


def test_in_the_place_of_a_damaged_set_a_whole_one_is_fetched(
    protocol: Protocol, context_of: Callable[..., WorkerContext], source: Location, manifest: Manifest
) -> None:
    context = context_of(data_source=source)
    pack_noise(context.data)
    os.truncate(context.data / "noise" / IMAGES, 1000)
    stage_in(protocol, context, print)
    assert data_folder("noise", context, pytest.fail) == context.data / FETCHED / manifest.sha256
    assert (context.data / "noise" / IMAGES).stat().st_size == 1000


@pytest.mark.parametrize("is_there", [False, True])
def test_without_a_source_weights_are_refused_that_are_not_inceptions(
    protocol: Protocol, context_of: Callable[..., WorkerContext], tmp_path: Path, manifest: Manifest, is_there: bool
) -> None:
    context = context_of(inception=tmp_path / "weights.pth")
    pack_noise(context.data)
    if is_there:
        (tmp_path / "weights.pth").write_bytes(b"others")
    said = refusal(replace(protocol, fid_features="inception"), context)
    assert f"inception={tmp_path / 'weights.pth'} is no file of Inception's weights on node " in said


def test_the_reason_why_nothing_can_be_fetched_is_told(
    protocol: Protocol, context_of: Callable[..., WorkerContext], tmp_path: Path, server: WebServer, source: Location
) -> None:
    assert "is not in" in refusal(protocol, context_of(data_source=tmp_path / "nowhere"))
    server.cuts = [0] * 1000
    said = refusal(protocol, context_of(data_source=source))
    where = f"from {source} to {tmp_path / 'data'} on node {socket.gethostname()}: "
    assert f"data set noise cannot be fetched {where}" in said and "breaks off" in said


def test_a_disk_that_cannot_be_written_is_told(
    protocol: Protocol, context_of: Callable[..., WorkerContext], source: Location, tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("a file")
    assert refusal(protocol, context_of(data_source=source)).endswith(": Not a directory")


def test_a_worker_maps_the_file_that_was_fetched(
    context_of: Callable[..., WorkerContext], source: Location, elsewhere: Path
) -> None:
    context = context_of(data_source=source)
    pack_noise(context.data, seed=1)
    _, data = images_of("noise", context, print)
    assert data.train.equal(load_dataset("noise", elsewhere).train)
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert str(context.data / FETCHED) in maps.read_text()


def test_what_a_worker_fetches_is_told_once(
    make_run: Callable[..., Run], context_of: Callable[..., WorkerContext], source: Location
) -> None:
    context = context_of(data_source=source)
    run = make_run("vae", dataset="noise", steps=2, evaluation_steps=(1, 2), fid_samples=80, evaluation_images=10)
    StudyFolder(context.results, run.study).records.mkdir(parents=True)
    runs = [replace(run, seed=seed) for seed in range(2)]
    events = [event for run in runs for event in run_task(Task((run,)), context)]
    (said,) = [event.sentence for event in events if isinstance(event, Problem)]
    assert "fetches data set noise" in said
    assert [event.row.status for event in events if isinstance(event, Ended)] == ["completed"] * 2
