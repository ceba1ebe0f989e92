"""Large files: brought whole from a disk, a store and the web, past every break, once for all processes; and sent."""

from __future__ import annotations

import errno
import hashlib
import itertools
import multiprocessing
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.disk import small_disk
from tests.chaos.faulty_proxy import FaultyProxy, faulty_bucket
from tests.web_server import WebServer, web_server
from wae_core.storage import objects, transfer
from wae_core.storage.files import WEB, Location, NotAFile, location, size
from wae_core.storage.objects import ObjectPath, StorageError
from wae_core.storage.transfer import alone, download, in_words, pieces, sha256, upload

DATA = random.Random(0).randbytes(300_001)
HALF = 150_000
numbers = itertools.count()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[WebServer]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served/large file.bin").write_bytes(DATA)
    with web_server(tmp_path / "served") as server:
        yield server


@pytest.fixture
def on_the_web(served: WebServer) -> Location:
    return location(f"{served.url}/large file.bin", WEB)


@pytest.fixture(params=["disk", "store", "web"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    """The same file on a disk, in a store and on the web."""
    if request.param == "web":
        web: Location = request.getfixturevalue("on_the_web")
        return web
    if request.param == "store":
        path = ObjectPath("memory://", f"transfer-{next(numbers)}")
        path.put(DATA)
        return path
    (tmp_path / "source").write_bytes(DATA)
    return tmp_path / "source"


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "part"


@pytest.fixture(autouse=True)
def _in_no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the tests: they wait for nothing, and read in small pieces."""
    monkeypatch.setattr(transfer, "SECONDS_TO_PAUSE", 0.0)
    for module in (transfer, objects):
        monkeypatch.setattr(module, "PIECE", 2**15)


def silent(sentence: str) -> None:
    """Tell nobody."""


@pytest.mark.parametrize("start", [0, 1, HALF, len(DATA) - 1])
def test_a_file_is_read_from_anywhere(source: Location, start: int) -> None:
    assert b"".join(pieces(source, start)) == DATA[start:]
    assert size(source) == len(DATA)
    assert sha256(source) == hashlib.sha256(DATA).hexdigest()


@pytest.mark.parametrize("start", [1, HALF, len(DATA) - 1])
def test_a_server_without_ranges_is_read_from_anywhere(served: WebServer, on_the_web: Location, start: int) -> None:
    served.knows_ranges = False
    assert b"".join(pieces(on_the_web, start)) == DATA[start:]


@pytest.mark.parametrize("there", [None, 0, 1, HALF, len(DATA)])
def test_a_download_goes_on_where_an_earlier_one_ended(source: Location, part: Path, there: int | None) -> None:
    if there is not None:
        part.write_bytes(DATA[:there])
    download(source, part, silent)
    assert part.read_bytes() == DATA


def test_what_is_longer_than_the_source_is_brought_anew(source: Location, part: Path) -> None:
    part.write_bytes(bytes(len(DATA) + 1))
    download(source, part, silent)
    assert part.read_bytes() == DATA


def test_only_what_is_missing_is_asked_for(served: WebServer, on_the_web: Location, part: Path) -> None:
    part.write_bytes(DATA[:HALF])
    download(on_the_web, part, silent)
    assert [found for _, found in served.asked] == [f"bytes={HALF}-"]


def test_a_server_without_ranges_sends_all_again_and_nothing_is_doubled(
    served: WebServer, on_the_web: Location, part: Path
) -> None:
    served.knows_ranges = False
    part.write_bytes(DATA[:HALF])
    download(on_the_web, part, silent)
    assert part.read_bytes() == DATA


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_a_download_that_breaks_off_goes_on(
    served: WebServer, on_the_web: Location, part: Path, knows_ranges: bool
) -> None:
    served.knows_ranges = knows_ranges
    served.cuts = [100_000, 40_000 if knows_ranges else 140_000, 1, 0]
    download(on_the_web, part, silent)
    assert part.read_bytes() == DATA
    assert served.cuts == []


def test_a_source_that_breaks_off_again_and_again_is_given_up(
    served: WebServer, on_the_web: Location, part: Path
) -> None:
    served.cuts = [HALF, *[0] * 1000]
    with pytest.raises(StorageError, match=r"large file\.bin breaks off: "):
        download(on_the_web, part, silent)
    assert 0 < part.stat().st_size <= HALF, "what has come is kept for the next call"
    served.cuts = []
    download(on_the_web, part, silent)
    assert part.read_bytes() == DATA


def test_nothing_is_waited_for_where_there_is_no_file(source: Location, part: Path) -> None:
    with pytest.raises(FileNotFoundError):
        download(source.parent / "another", part, silent)
    assert not part.exists()


def test_a_pipe_is_no_file(tmp_path: Path, part: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotAFile):
        download(tmp_path / "pipe", part, silent)


def test_how_far_it_is_is_said(source: Location, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "SECONDS_BEFORE_A_LINE", -1.0)
    said: list[str] = []
    download(source, part, said.append)
    assert said[-1] == f"300 kB of 300 kB have come from {source}"


def test_without_room_nothing_is_brought(
    served: WebServer, on_the_web: Location, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The room for what is missing, and 16 MiB: 4,096 blocks of 4 KiB, and 74 for the file."""

    def disk_of(free: int) -> None:
        disk = os.statvfs_result((4096, 4096, 10**6, 10**6, free, 0, 0, 0, 0, 255))
        monkeypatch.setattr(os, "statvfs", lambda path: disk)

    disk_of(4096 + 73)
    with pytest.raises(OSError, match="less than 17 MiB are left") as refusal:
        download(on_the_web, part, silent)
    assert refusal.value.errno == errno.ENOSPC
    assert served.asked == [] and not part.exists()
    disk_of(4096 + 74)
    download(on_the_web, part, silent)
    assert part.read_bytes() == DATA


def test_a_disk_that_others_fill_meanwhile_gets_its_room_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "check_room", lambda *_: None)
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(300 * 2**20)
    try:
        with small_disk(tmp_path / "disk") as disk:
            with pytest.raises(OSError, match="No space left") as full, alone(disk, "key", silent) as folder:
                download(source, folder / "part", silent)
            assert full.value.errno == errno.ENOSPC
            assert [path.name for path in disk.iterdir()] == ["key.lock"]
    except PermissionError as error:
        pytest.skip(f"no disk can be mounted: {error}")


def test_what_has_come_before_an_error_is_kept(tmp_path: Path) -> None:
    def break_off() -> None:
        with alone(tmp_path / "new/folder", "key", silent) as folder:
            (folder / "part").write_bytes(b"half")
            raise StorageError("the network is away")

    with pytest.raises(StorageError):
        break_off()
    with alone(tmp_path / "new/folder", "key", silent) as folder:
        assert (folder / "part").read_bytes() == b"half"
    assert not folder.exists()


def _bring_one_more(folder: Path, rounds: int) -> None:
    for _ in range(rounds):
        with alone(folder, "key", silent):
            count = int((folder / "count").read_text())
            (folder / "count").write_text(str(count + 1))


def test_one_process_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_bring_one_more, args=(tmp_path, 50)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert (tmp_path / "count").read_text() == "150"


def test_who_waits_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    context = multiprocessing.get_context("fork")
    go_on = context.Event()

    def hold() -> None:
        with alone(tmp_path, "key", silent):
            held.set()
            go_on.wait(60)

    held = context.Event()
    process = context.Process(target=hold)
    process.start()
    assert held.wait(60)

    def note(sentence: str) -> None:
        said.append(sentence)
        go_on.set()

    with alone(tmp_path, "key", note):
        pass
    process.join()
    assert said == [f"another process here brings something to {tmp_path}: it is waited for"]


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (95_628_359, "95.6 MB"), (2.49e9, "2.49 GB")],
)
def test_sizes_in_words(count: int, words: str) -> None:
    assert in_words(int(count)) == words


# --- into a store


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultyProxy]:
    """S3's, with a bucket behind it."""
    with faulty_bucket() as proxy:
        yield proxy


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """More than two parts of S3's least size."""
    path = tmp_path / "large"
    path.write_bytes(random.Random(1).randbytes(11 * 2**20))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("fault", [None, "lost", "dropped", "doubled", "unavailable"])
@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_a_file_is_sent_in_parts_past_every_fault(
    proxy: FaultyProxy, large: Path, monkeypatch: pytest.MonkeyPatch, method: str, fault: str | None
) -> None:
    """A part is put; the whole is begun and completed by posts."""
    monkeypatch.setattr(objects, "PART", 5 * 2**20)
    target = ObjectPath("s3://chaos", f"sent-{next(numbers)}")
    proxy.requests.clear()
    if fault:
        proxy.once(fault, method, target.key)
    upload(large, target)
    assert target.read_bytes() == large.read_bytes()
    assert len([path for method, path in proxy.requests if method == "PUT" and "partNumber" in path]) >= 3


@pytest.mark.slow
def test_a_store_that_holds_something_else_is_found_out(
    proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, target = tmp_path / "file", ObjectPath("s3://chaos", "else")
    file.write_bytes(b"this")
    monkeypatch.setattr(ObjectPath, "send", lambda self, file: self.put(b"that"))
    with pytest.raises(StorageError, match="s3://chaos/else is not what was written"):
        upload(file, target)


@pytest.mark.slow
def test_of_a_store_that_refuses_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"this")

    def refuse(self: ObjectPath, file: Path) -> None:
        raise StorageError("no such bucket")

    monkeypatch.setattr(ObjectPath, "send", refuse)
    with pytest.raises(StorageError, match="no such bucket"):
        upload(file, ObjectPath("memory://", "nowhere"))
