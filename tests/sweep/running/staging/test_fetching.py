"""A data set is fetched whole, once, and checked; whatever happens meanwhile, half of one is never believed."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.errors import OtherDataError
from sweep.running.staging.fetching import FETCHED, fetch_data_set, fetch_weights, folder_with
from tests.packed import pack_noise
from tests.web_server import WebServer
from wae_core.data.images import data_sha256
from wae_core.data.manifest import IMAGES, MANIFEST, Manifest
from wae_core.data.preparing import check
from wae_core.evaluation.inception import WEIGHTS_NAME
from wae_core.storage import transfer
from wae_core.storage.files import Location
from wae_core.storage.objects import ObjectPath

numbers = itertools.count()


@pytest.fixture(params=["disk", "store", "web"])
def anywhere(request: pytest.FixtureRequest, elsewhere: Path, manifest: Manifest) -> Location:
    """The source, of each kind."""
    if request.param == "disk":
        return elsewhere
    if request.param == "web":
        web: Location = request.getfixturevalue("source")
        return web
    store = ObjectPath("memory://", f"fetching-{next(numbers)}")
    for file in elsewhere.rglob("*"):
        if file.is_file():
            (store / str(file.relative_to(elsewhere))).put(file.read_bytes())
    return store


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def silent(sentence: str) -> None:
    """Tell nobody."""


def files(folder: Path) -> dict[str, bytes]:
    """What lies there, but for the locks, by relative path."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize("is_known", [True, False])
def test_a_set_arrives_whole_and_under_its_name(
    anywhere: Location, elsewhere: Path, manifest: Manifest, data: Path, is_known: bool
) -> None:
    said: list[str] = []
    identity = manifest.sha256 if is_known else None
    assert fetch_data_set("noise", identity, anywhere, data, said.append) == data
    check("noise", data)
    assert files(data) == {f"noise/{name}": (elsewhere / "noise" / name).read_bytes() for name in (IMAGES, MANIFEST)}
    (sentence,) = said
    assert f"fetches data set noise (376 kB) from {anywhere / 'noise' / IMAGES} to {data}" in sentence


def test_what_was_fetched_is_not_fetched_again(
    server: WebServer, source: Location, manifest: Manifest, data: Path
) -> None:
    for _ in range(2):
        fetch_data_set("noise", manifest.sha256, source, data, silent)
    assert len(server.asked_for(IMAGES)) == 1


@pytest.mark.parametrize("is_damaged", [False, True])
def test_what_a_person_has_under_the_name_stays(
    source: Location, manifest: Manifest, data: Path, is_damaged: bool
) -> None:
    pack_noise(data, seed=1)
    if is_damaged:
        (data / "noise" / MANIFEST).write_text("{")
    before = files(data)
    folder = fetch_data_set("noise", manifest.sha256, source, data, silent)
    assert folder == data / FETCHED / manifest.sha256
    check("noise", folder)
    assert data_sha256("noise", folder) == manifest.sha256
    assert files(data).items() >= before.items()
    assert folder_with("noise", manifest.sha256, data) == folder


@pytest.mark.parametrize("what", ["packer", "file", "link"])
def test_whatever_has_the_name_meanwhile_stays(source: Location, manifest: Manifest, data: Path, what: str) -> None:
    name = data / "noise"

    def arrives(*_: object) -> None:
        if what == "packer":
            name.mkdir()
            (name / ".lock").touch()
        elif what == "file":
            name.touch()
        else:
            name.symlink_to("nowhere")

    assert fetch_data_set("noise", manifest.sha256, source, data, arrives) == data / FETCHED / manifest.sha256
    assert (name / ".lock").exists() or name.is_file() or name.is_symlink()


def test_an_empty_folder_of_the_name_is_filled(source: Location, manifest: Manifest, data: Path) -> None:
    (data / "noise").mkdir(parents=True)
    assert fetch_data_set("noise", manifest.sha256, source, data, silent) == data
    check("noise", data)


def test_a_fetched_set_that_was_damaged_is_fetched_again(source: Location, manifest: Manifest, data: Path) -> None:
    pack_noise(data, seed=1)
    folder = fetch_data_set("noise", manifest.sha256, source, data, silent)
    os.truncate(folder / "noise" / IMAGES, 1000)
    assert fetch_data_set("noise", manifest.sha256, source, data, silent) == folder
    check("noise", folder)


def test_another_set_is_refused_with_both_hashes(anywhere: Location, manifest: Manifest, data: Path) -> None:
    with pytest.raises(OtherDataError) as refusal:
        fetch_data_set("noise", "f" * 64, anywhere, data, silent)
    assert manifest.sha256 in str(refusal.value) and "f" * 64 in str(refusal.value)
    assert not data.exists()


@pytest.mark.parametrize("position", [0, 9, 60, 200, 100_000, -1])
def test_a_flipped_byte_is_refused_with_both_hashes(
    elsewhere: Path, source: Location, manifest: Manifest, data: Path, position: int
) -> None:
    """Of the header, which ends at 128, or of the pixels."""
    images = bytearray((elsewhere / "noise" / IMAGES).read_bytes())
    images[position] ^= 1
    (elsewhere / "noise" / IMAGES).write_bytes(images)
    with pytest.raises(OtherDataError) as refusal:
        fetch_data_set("noise", manifest.sha256, source, data, silent)
    assert manifest.sha256 in str(refusal.value) and "its sha256 is " in str(refusal.value)
    assert f"its sha256 is {manifest.sha256}" not in str(refusal.value)
    assert files(data) == {}, "nothing of it stays"


@pytest.mark.parametrize("change", ["cut", "longer"])
def test_a_file_of_another_length_is_refused(
    elsewhere: Path, source: Location, manifest: Manifest, data: Path, change: str
) -> None:
    file = elsewhere / "noise" / IMAGES
    file.write_bytes(file.read_bytes()[:-1] if change == "cut" else file.read_bytes() + b"\0")
    with pytest.raises(OtherDataError, match="is damaged"):
        fetch_data_set("noise", manifest.sha256, source, data, silent)
    assert files(data) == {}


@pytest.mark.parametrize("damage", ["gone", "{", '{"format": 1}'])
def test_a_source_without_a_manifest_is_refused(elsewhere: Path, source: Location, data: Path, damage: str) -> None:
    (elsewhere / "noise" / MANIFEST).unlink()
    if damage != "gone":
        (elsewhere / "noise" / MANIFEST).write_text(damage)
    said = f"is not in {source}: there is no noise/manifest.json" if damage == "gone" else "cannot be used"
    with pytest.raises(OtherDataError, match=said):
        fetch_data_set("noise", None, source, data, silent)
    assert not data.exists()


def test_what_an_earlier_fetch_has_left_is_gone_on_with(
    server: WebServer, source: Location, manifest: Manifest, data: Path
) -> None:
    server.cuts = [100_000, *[0] * 100]
    with pytest.raises(OSError, match="breaks off"):
        fetch_data_set("noise", manifest.sha256, source, data, silent)
    assert folder_with("noise", manifest.sha256, data) is None
    server.cuts.clear()
    server.asked.clear()
    fetch_data_set("noise", manifest.sha256, source, data, silent)
    (asked,) = server.asked_for(IMAGES)
    assert asked and 0 < int(asked.removeprefix("bytes=").removesuffix("-")) <= 100_000
    check("noise", data)


def test_what_an_earlier_fetch_has_left_of_something_else_is_given_up(
    server: WebServer, source: Location, manifest: Manifest, data: Path
) -> None:
    part = data / FETCHED / f"{manifest.sha256}.part"
    part.mkdir(parents=True)
    (part / IMAGES).write_bytes(bytes(1000))
    fetch_data_set("noise", manifest.sha256, source, data, silent)
    assert server.asked_for(IMAGES) == ["bytes=1000-", None]
    check("noise", data)


def test_without_room_nothing_is_written(
    source: Location, manifest: Manifest, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = os.statvfs_result((4096, 4096, 10**6, 10**6, 4096, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    with pytest.raises(OSError, match="MiB are left") as refusal:
        fetch_data_set("noise", manifest.sha256, source, data, silent)
    assert refusal.value.errno == errno.ENOSPC
    assert files(data) == {}


# --- processes

FETCH = """
import sys
from pathlib import Path
from sweep.running.staging.fetching import fetch_data_set
from wae_core.storage.files import WEB, location
print(fetch_data_set("noise", sys.argv[1], location(sys.argv[2], WEB), Path(sys.argv[3]), print))
"""


def fetcher(manifest: Manifest, server: WebServer, data: Path) -> subprocess.Popen[str]:
    """A process that fetches the set."""
    words = [sys.executable, "-c", FETCH, manifest.sha256, server.url, str(data)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_of_several_processes_one_fetches(server: WebServer, manifest: Manifest, data: Path) -> None:
    server.held.clear()
    processes = [fetcher(manifest, server, data) for _ in range(3)]
    assert server.is_half_sent.wait(200)
    for process in processes:  # the others, too, have come so far as to wait
        said = process.stdout.readline()  # type: ignore[union-attr]
        assert "fetches data set noise" in said or "it is waited for" in said
    server.held.set()
    for process in processes:
        output, _ = process.communicate(timeout=200)
        assert process.returncode == 0, output
        assert output.splitlines()[-1] == str(data)
    assert len(server.asked_for(IMAGES)) == 1
    check("noise", data)


@pytest.mark.slow
def test_a_fetch_that_is_killed_leaves_no_set_and_blocks_nobody(
    server: WebServer, source: Location, manifest: Manifest, data: Path
) -> None:
    server.held.clear()
    process = fetcher(manifest, server, data)
    assert server.is_half_sent.wait(200)
    part = data / FETCHED / f"{manifest.sha256}.part" / IMAGES
    while not (part.exists() and part.stat().st_size):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate()
    there = part.stat().st_size
    assert folder_with("noise", manifest.sha256, data) is None and not (data / "noise").exists()
    server.held.set()
    server.asked.clear()
    fetch_data_set("noise", manifest.sha256, source, data, silent)
    assert server.asked_for(IMAGES) == [f"bytes={there}-"] and 0 < there < 376_448
    check("noise", data)


# --- weights


def test_weights_arrive_whole(source: Location, weights: Path, tmp_path: Path) -> None:
    target = tmp_path / "data" / FETCHED / WEIGHTS_NAME
    said: list[str] = []
    for _ in range(2):
        fetch_weights(source / WEIGHTS_NAME, target, said.append)
    assert target.read_bytes() == weights.read_bytes()
    assert len(said) == 1 and "fetches Inception's weights (35 kB)" in said[0]


def test_other_weights_are_refused_with_both_hashes(source: Location, weights: Path, tmp_path: Path) -> None:
    wanted = transfer.sha256(weights)
    weights.write_bytes(b"others")
    with pytest.raises(OtherDataError) as refusal:
        fetch_weights(source / WEIGHTS_NAME, tmp_path / WEIGHTS_NAME, silent)
    assert wanted in str(refusal.value) and transfer.sha256(weights) in str(refusal.value)
    assert not (tmp_path / WEIGHTS_NAME).exists()
