"""A file gets its name only if that is free, also on disks without hard links."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from wae_core.storage.files import create, probe_creation

UNSUPPORTED = [errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK, errno.EXDEV]


def failing(number: int) -> Any:
    def call(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


class _Libc:
    """A C library whose renameat2 answers what it is told, having done it or not."""

    def __init__(self, number: int, is_done: bool = False) -> None:
        self.number, self.is_done = number, is_done

    def __call__(self, *_: object, **__: object) -> _Libc:
        return self

    def renameat2(self, _: int, source: bytes, __: int, target: bytes, flags: int) -> int:
        if self.is_done:
            Path(os.fsdecode(source)).rename(os.fsdecode(target))
        ctypes.set_errno(self.number)
        return -1


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("number", UNSUPPORTED)
def test_without_hard_links_only_the_first_creates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "link", failing(number))
    probe_creation(tmp_path)
    assert create(tmp_path / "record", b"first")
    assert not create(tmp_path / "record", b"second")
    assert (tmp_path / "record").read_bytes() == b"first"
    assert names(tmp_path) == ["record"], "no temporary file stays"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_disk_that_cannot_create_once_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    monkeypatch.setattr(ctypes, "CDLL", _Libc(number))
    with pytest.raises(OSError, match="neither link a file nor rename"):
        probe_creation(tmp_path)
    assert names(tmp_path) == []


def test_a_disk_whose_second_create_replaces_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(source: Path, target: Path) -> None:
        source.replace(target)

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(OSError, match="second time"):
        probe_creation(tmp_path)


def test_an_error_of_the_disk_is_no_reason_for_another_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", failing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        create(tmp_path / "record", b"data")
    assert names(tmp_path) == []


def test_what_was_done_although_the_answer_was_an_error_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(source: Path, target: Path, link: Any = os.link) -> None:
        link(source, target)
        raise OSError(errno.EIO, "the answer was lost")

    monkeypatch.setattr(os, "link", link)
    assert create(tmp_path / "linked", b"mine")
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    monkeypatch.setattr(ctypes, "CDLL", _Libc(errno.EEXIST, is_done=True))
    assert create(tmp_path / "renamed", b"mine")
    assert sorted(names(tmp_path)) == ["linked", "renamed"]


def test_a_name_that_cannot_be_deleted_does_not_undo_what_was_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", failing(errno.EIO))
        assert create(tmp_path / "record", b"mine")
    assert not create(tmp_path / "record", b"another's")
    assert (tmp_path / "record").read_bytes() == b"mine", "nor is it written through its other name"
