"""What one process replaces: nobody else's write is overwritten, and one's own is known again."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from wae_core.storage.files import write_atomically
from wae_core.storage.objects import ConflictError
from wae_core.storage.own import OwnFile


@pytest.fixture
def file(tmp_path: Path) -> OwnFile:
    file = OwnFile(tmp_path / "runs" / "vae.parquet")
    file.put(b"1")
    return file


def test_what_another_has_written_is_a_conflict(file: OwnFile) -> None:
    write_atomically(file.path, b"another's")
    for _ in range(2):
        with pytest.raises(ConflictError, match=r"vae\.parquet was changed by another"):
            file.put(b"2")
    assert file.path.read_bytes() == b"another's"
    file.read()
    file.put(b"2")
    assert file.path.read_bytes() == b"2"


def test_where_there_was_none_what_appears_is_a_conflict(tmp_path: Path) -> None:
    file = OwnFile(tmp_path / "vae.parquet")
    with pytest.raises(FileNotFoundError):
        file.read()
    file.path.write_bytes(b"another's")
    with pytest.raises(ConflictError):
        file.put(b"1")


def test_a_copy_of_the_same_content_is_none(file: OwnFile) -> None:
    """A program that synchronises folders may bring a file back under another inode and date."""
    write_atomically(file.path, b"1")
    os.utime(file.path, (0, 0))
    file.put(b"2")


def test_what_was_deleted_is_written_again(file: OwnFile) -> None:
    shutil.rmtree(file.path.parent)
    file.put(b"2")
    assert file.path.read_bytes() == b"2"


def test_but_not_the_study_around_it(file: OwnFile) -> None:
    study = file.path.parent.parent
    study.rename(study.with_name("renamed"))
    with pytest.raises(FileNotFoundError):
        file.put(b"2")
    assert not study.exists()


def test_a_write_that_was_done_although_it_failed_is_known_again(
    file: OwnFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(source: Path, target: Path) -> None:
        os.rename(source, target)  # noqa: PTH104
        raise OSError(errno.EIO, "the answer was lost")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(OSError, match="lost"):
            file.put(b"2")
    file.put(b"3")
    assert file.path.read_bytes() == b"3"
