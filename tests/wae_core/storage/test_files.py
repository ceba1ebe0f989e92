"""Files that are written whole and created once: on a disk, and in obstore's own store in memory."""

from __future__ import annotations

import errno
import itertools
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from wae_core.storage.files import (
    TEMPORARIES,
    Location,
    NotAFile,
    check_room,
    create,
    delete_folder,
    listed,
    local_copy,
    location,
    probe,
    probe_creation,
    read,
    storage_unavailable,
    write_atomically,
)
from wae_core.storage.objects import ConflictError, ObjectPath, StorageError

numbers = itertools.count()


def in_memory() -> ObjectPath:
    """A folder that no other test has, in a store that lives as long as this process."""
    return ObjectPath("memory://", f"test-{next(numbers)}")


@pytest.fixture(params=["disk", "store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    return tmp_path if request.param == "disk" else in_memory()


def test_what_is_written_is_read_and_replaced(folder: Location) -> None:
    file = folder / "a.json"
    assert not file.exists()
    for data in (b"one", b"another"):
        write_atomically(file, data)
        assert file.read_bytes() == data
    assert [path.name for path in listed(folder, "*")] == ["a.json"], "no temporary file stays"
    file.unlink()
    assert not file.exists()
    with pytest.raises(FileNotFoundError):
        file.read_bytes()
    file.unlink(missing_ok=True)


def test_only_the_first_creates(folder: Location) -> None:
    file = folder / "record"
    assert create(file, b"first")
    assert not create(file, b"second")
    assert file.read_bytes() == b"first"
    assert [path.name for path in listed(folder, "*")] == ["record"]


def test_a_create_whose_answer_was_lost_and_that_the_client_sent_again_is_ours() -> None:
    file = in_memory() / "record"
    assert create(file, b"mine")
    assert create(file, b"mine")


def test_a_folder_can_be_taken_once(folder: Location) -> None:
    (folder / "attempt-001").mkdir()
    with pytest.raises(FileExistsError):
        (folder / "attempt-001").mkdir()
    (folder / "attempt-001").mkdir(parents=True, exist_ok=True)
    assert [path.name for path in listed(folder, "attempt-*")] == ["attempt-001"]


def test_patterns_go_by_level(folder: Location) -> None:
    for name in ("a-1", "a-2", "b-1"):
        (folder / name).mkdir(exist_ok=True)
        for step in ("step-1.json", "step-2.bin"):
            write_atomically(folder / name / step, b"")
    assert [str(path)[len(str(folder)) :] for path in listed(folder, "a-*/step-*.json")] == [
        "/a-1/step-1.json",
        "/a-2/step-1.json",
    ]
    assert [path.name for path in listed(folder, "*-1")] == ["a-1", "b-1"]
    delete_folder(folder / "a-1")
    assert [path.name for path in listed(folder, "*/step-1.json")] == ["step-1.json"] * 2
    assert (folder / "a-2").is_dir() and not (folder / "a-1").is_dir()


def test_names_are_taken_apart_as_those_of_files(folder: Location) -> None:
    file = folder / "work" / "step-000000010.safetensors"
    assert (file.name, file.stem, file.parent.name) == ("step-000000010.safetensors", "step-000000010", "work")
    assert file.with_suffix(".json") == folder / "work" / "step-000000010.json"


def test_a_local_copy_has_the_files_name_and_content(folder: Location) -> None:
    write_atomically(folder / "samples.png", b"picture")
    with local_copy(folder / "samples.png") as file:
        assert (file.name, file.read_bytes()) == ("samples.png", b"picture")


def test_a_version_can_be_replaced_once() -> None:
    file = in_memory() / "table"
    first = file.create(b"1")
    second = file.put(b"2", only=first)
    with pytest.raises(ConflictError):
        file.put(b"3", only=first)
    assert file.read_version() == (b"2", second)


def test_a_trial_write_leaves_nothing_and_its_leftover_would_be_a_temporary(
    folder: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    for trial in (probe, probe_creation):
        trial(folder)
        assert list(folder.glob("*")) == []
    monkeypatch.setattr(type(folder / "a"), "unlink", lambda *_, **__: None)  # it dies before
    probe(folder)
    (left,) = folder.glob("*")
    assert list(folder.glob(TEMPORARIES)) == [left]
    assert len(left.read_bytes()) < 100, "who waits takes no room from who writes"


@pytest.mark.parametrize(("blocks", "free", "is_enough"), [(10**6, 4096, True), (10**6, 4095, False), (0, 0, True)])
def test_room_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int, free: int, is_enough: bool
) -> None:
    """In blocks of 4 KiB; a disk of 0 blocks does not say how large it is."""
    disk = os.statvfs_result((4096, 4096, blocks, 10**6, free, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda path: disk)
    check_room(in_memory())
    if is_enough:
        check_room(tmp_path)
    else:
        with pytest.raises(OSError, match="less than 16 MiB") as caught:
            check_room(tmp_path)
        assert storage_unavailable(caught.value)


HIDDEN = [".DS_Store", "._a.json", ".nfs0123", ".a.json.host.1.tmp", ".ipynb_checkpoints/a.json"]


def test_what_is_hidden_is_not_listed(folder: Location) -> None:
    for name in ("a.json", "b/a.json", *HIDDEN, *(f"b/{name}" for name in HIDDEN)):
        if isinstance(folder, Path):
            (folder / name).parent.mkdir(exist_ok=True, parents=True)
        write_atomically(folder / name, b"x")
    for pattern, expected in (("*", ["a.json", "b"]), ("*.json", ["a.json"]), ("*/*.json", ["b/a.json"])):
        assert [str(path)[len(str(folder)) + 1 :] for path in listed(folder, pattern)] == expected


def test_only_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # it would never end
    (tmp_path / "zeros").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "zeros", "folder"):
        with pytest.raises(NotAFile, match="not a file"):
            read(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "nothing")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "file").write_bytes(b"x")
    assert read(tmp_path / "link") == b"x"


def test_a_file_gets_another_name(folder: Location) -> None:
    write_atomically(folder / "a", b"x")
    (folder / "a").replace(folder / "b")  # type: ignore[arg-type]
    assert [(path.name, path.read_bytes()) for path in listed(folder, "*")] == [("b", b"x")]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically(tmp_path / "a", b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(tmp_path / "a", b"new")
    assert storage_unavailable(caught.value)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"old")]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "full"), True),
        (OSError(errno.EDQUOT, "quota"), True),
        (OSError(errno.EROFS, "read-only"), True),
        (OSError(errno.EIO, "broken"), True),
        (OSError(errno.ESTALE, "another export"), True),
        (OSError(errno.ETIMEDOUT, "no answer"), True),
        (OSError(errno.ENOTCONN, "the mount's process died"), True),
        (OSError(errno.EHOSTUNREACH, "the server is gone"), True),
        (PermissionError(errno.EACCES, "the ticket ran out"), True),
        (OSError(errno.ENAMETOOLONG, "name"), False),
        (OSError(errno.EMFILE, "too many open files"), False),
        (IsADirectoryError(errno.EISDIR, "a folder"), False),
        (StorageError("away"), True),
        (FileNotFoundError(errno.ENOENT, "none"), False),
        (ConflictError("changed"), False),
        (ValueError("no space left"), False),
    ],
)
def test_what_is_waited_for(error: Exception, expected: bool) -> None:
    assert storage_unavailable(error) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("results", Path("results")),
        ("s3://bucket", ObjectPath("s3://bucket", "")),
        ("s3://bucket/a//b/", ObjectPath("s3://bucket", "a/b")),
        ("gs://bucket/a", ObjectPath("gs://bucket", "a")),
    ],
)
def test_a_location_by_its_text(text: str, expected: Any) -> None:
    assert location(text) == expected
    assert location(expected) is expected


def test_a_store_that_cannot_be_reached_is_a_storage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    file = ObjectPath("nothing://bucket", "a")
    with pytest.raises(StorageError, match="nothing://bucket/a"):
        file.read_bytes()


def test_a_path_travels_to_workers_without_credentials() -> None:
    path = ObjectPath("s3://bucket", "results")
    assert pickle.loads(pickle.dumps(path)) == path
