"""The lock: one driver at a time, and none after a death."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sweep.errors import LockLost, SettingsError
from sweep.results import lock
from sweep.results.folder import StudyFolder
from sweep.results.lock import results_lock
from sweep.results.tables import Tables
from wae_core.run import Run
from wae_core.storage.files import create

HOLDER = """
import sys, time
from pathlib import Path
from sweep.results.lock import results_lock
with results_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@contextlib.contextmanager
def another_holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def refusal(path: Path) -> str:
    with pytest.raises(SettingsError) as caught, results_lock(path):
        pytest.fail("there are two holders")
    return str(caught.value)


def test_another_process_is_refused_with_host_and_pid_until_the_holder_is_killed(path: Path) -> None:
    with another_holder(path) as holder:
        sentence = refusal(path)
        for part in (str(path.parent), f"host {socket.gethostname()}", f"pid {holder.pid}"):
            assert part in sentence
        assert "\n" not in sentence
        assert refusal(path) == sentence, "who is refused does not overwrite the holder's name"
        holder.send_signal(signal.SIGKILL)
        holder.wait(timeout=30)
        with results_lock(path):
            assert f"pid {os.getpid()}" in path.read_text()


def test_a_lock_is_free_after_its_block_also_after_an_exception(path: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), results_lock(path):
        assert f"pid {os.getpid()}" in refusal(path)
        raise KeyboardInterrupt
    for _ in range(2):
        with results_lock(path):
            assert path.read_text().count("pid") == 1


# --- a lock that is lost


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    """As a program does that brings a file back, with the same content."""
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


def rename_folder(path: Path) -> None:
    path.parent.rename(path.parent.with_name("renamed"))


def delete_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def rename_and_make_another(path: Path) -> None:
    rename_folder(path)
    path.parent.mkdir()
    path.touch()


LOSSES: dict[Callable[[Path], None], str] = {
    remove: "was removed or replaced",
    replace: "was removed or replaced",
    rename_folder: "was deleted or renamed",
    delete_folder: "was deleted or renamed",
    rename_and_make_another: "was removed or replaced",
}


@pytest.mark.usefixtures("_ignores_sigint")
@pytest.mark.parametrize("lose", LOSSES)
def test_who_loses_the_lock_is_told_and_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lose: Callable[[Path], None]
) -> None:
    monkeypatch.setattr(lock, "SECONDS_BETWEEN_LOOKS", 0.05)
    path = tmp_path / "study" / "lock"
    path.parent.mkdir()

    def hold() -> None:
        with results_lock(path) as check:
            check()
            lose(path)
            with pytest.raises(LockLost):
                check()
            for _ in range(300):
                time.sleep(0.1)

    with pytest.raises(LockLost, match=LOSSES[lose]) as caught:
        hold()
    assert str(path.parent) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_of_two_drivers_the_one_that_lost_the_lock_writes_no_table(
    folder: StudyFolder, make_run: Callable[..., Run], make_result: Callable[..., Any]
) -> None:
    """A program that synchronises folders has removed the lock file, and a second driver has started."""
    path = folder.root / "lock"
    assert isinstance(path, Path)
    with results_lock(path) as check:
        first = Tables(folder, check=check)
        path.unlink()
        with results_lock(path) as second_check:
            second = Tables(folder, check=second_check)
            folder.publish(*make_result(make_run("vae", seed=0)))
            with pytest.raises(LockLost):
                first.compact()
            assert second.compact() == ["vae-00000-s0"]
            folder.publish(*make_result(make_run("vae", seed=1)))
            with pytest.raises(LockLost):
                first.compact()
    assert len(list(folder.records.glob("*"))) == 1, "who must not write deletes no record"
    assert Tables(folder).run_ids() == {"vae-00000-s0", "vae-00000-s1"}


def test_a_disk_that_does_not_answer_is_no_lost_lock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stale(*_: object, **__: object) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    with results_lock(path) as check:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "stat", stale)
            with pytest.raises(OSError, match="Stale") as caught:
                check()
            assert not isinstance(caught.value, LockLost)
        check()


# --- a lock that cannot be had


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_a_disk_without_flock_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(SettingsError, match="flock") as caught, results_lock(path):
        pytest.fail("it is held")
    assert str(path.parent) in str(caught.value) and os.strerror(number) in str(caught.value)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_another_kind_of_file_is_no_lock(path: Path, make: Callable[[Path], None]) -> None:
    make(path)
    with pytest.raises(SettingsError, match="not a file") as caught, results_lock(path):
        pytest.fail("it is held")
    assert str(path) in str(caught.value)


def test_a_lock_with_other_content_is_taken_or_named(path: Path) -> None:
    assert create(path, b"\xff\x00" * 10_000)
    with results_lock(path):
        path.write_bytes(b"\xff\x00" * 10_000)
        assert len(refusal(path)) < 1000
