"""A session's folder: private, short, never another's, and gone once its process is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.errors import SettingsError
from sweep.running import scratch
from sweep.running.scratch import scratch_folder


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short folder of temporary files, which pytest's own is not."""
    folder = Path(tempfile.mkdtemp(prefix="t-", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    shutil.rmtree(folder)


def test_nobody_else_may_enter_whatever_happens_below(place: Path) -> None:
    with scratch_folder() as folder:
        assert folder.parent == place
        (folder / "ray").mkdir()
        (folder / "ray").chmod(0o777)  # as Ray does
        assert folder.stat().st_mode & 0o777 == 0o700
    assert list(place.iterdir()) == []


def test_the_folders_of_living_sessions_stay_and_those_of_killed_ones_go(place: Path) -> None:
    """A pid would not tell them apart: to another container this process's is unknown."""
    killed = (
        "import os, tempfile, sys; tempfile.tempdir = sys.argv[1]\n"
        "from sweep.running.scratch import scratch_folder\n"
        "with scratch_folder() as folder: (folder / 'ray').mkdir(); os._exit(9)"
    )
    with scratch_folder() as first:
        (first / "session_of_dead_pid_4194304").mkdir()
        subprocess.run([sys.executable, "-c", killed, str(place)], check=False)
        assert len(list(place.iterdir())) == 2
        with scratch_folder() as second:
            assert set(place.iterdir()) == {first, second}
            assert (first / "session_of_dead_pid_4194304").exists()


def test_what_others_put_there_is_neither_used_nor_deleted(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("victim", "bigwae-ray-open", "bigwae-ray-results", "bigwae-ray-of-another"):
        (place / name).mkdir(mode=0o700)
        (place / name / scratch.MARK).touch()
    (place / "bigwae-ray-0").symlink_to(place / "victim")
    (place / "bigwae-ray-open").chmod(0o777)  # anybody may have put anything into it
    (place / "bigwae-ray-results" / scratch.MARK).unlink()  # a person's own
    before = set(place.iterdir())
    with monkeypatch.context() as of_another:
        of_another.setattr(os, "getuid", lambda: os.geteuid() + 1)
        with scratch_folder() as folder:
            assert folder not in before
    assert set(place.iterdir()) == before
    with scratch_folder():
        pass
    assert set(place.iterdir()) == before - {place / "bigwae-ray-of-another"}
    assert (place / "victim" / scratch.MARK).exists()


def test_a_path_too_long_for_sockets_gives_way_to_a_shorter_one(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = place / ("a" * 40)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with scratch_folder() as folder:
        assert folder.parent == Path("/tmp")
    monkeypatch.setattr(scratch, "SHORT", place / "missing")
    with pytest.raises(SettingsError, match=r"too long for Ray's sockets.* set TMPDIR to a path of at most 19 bytes"):
        scratch_folder().__enter__()


def test_room_is_left_for_the_longest_socket() -> None:
    longest = Path("/tmp") / scratch.SOCKET
    assert len(str(longest)) <= 103
    assert longest.parts[:2] == ("/", "tmp")
