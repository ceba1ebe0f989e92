"""A process that dies, or whose call fails once, at any change that it makes below a folder."""

from __future__ import annotations

import builtins
import contextlib
import io
import multiprocessing
import os
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import Enum
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sweep.errors import ResultsError, SettingsError

FORK = multiprocessing.get_context("fork")  # a child starts at once, with this process's patches and fixtures
SECONDS = 60  # for one child
DIED = 17  # exit code


class Disk(Enum):
    """What the call has done that fails, and what the process may go on with."""

    FAILS = "nothing, or half of a write"
    LOSES_ANSWERS = "all, as may happen over a network"


@dataclass(frozen=True)
class Failure:
    """One call fails; those after it work again.

    Attributes:
        number: the errno that it answers.
        disk: what it has done nevertheless.
    """

    number: int
    disk: Disk = Disk.FAILS


@dataclass(frozen=True)
class Ended:
    """An action that did not die.

    Attributes:
        moments: all of its changes, each as "<call> <path below root>".
        error: with which it stopped, one that a command tells in a sentence; empty if it came to its end.
    """

    moments: list[str]
    error: str = ""


def run(
    action: Callable[[], object], root: Path, at: int | None = None, failure: Failure | None = None
) -> Ended | None:
    """Run `action` in a child process that dies at the `at`-th moment, from 1, of its changes below `root`.

    With a `failure`, it lives on, and the call of that moment fails.

    Returns None if it died.

    Raises:
        AssertionError: the action raised what is no sentence, or took too long.
    """
    receiver, sender = FORK.Pipe(duplex=False)
    child = FORK.Process(target=_child, args=(action, _Changes(root, at, failure), sender))
    child.start()
    sender.close()
    ended: Ended | None = None
    if receiver.poll(SECONDS):
        with contextlib.suppress(EOFError):  # it has died
            ended = receiver.recv()
    child.join(SECONDS)
    assert child.exitcode == (DIED if ended is None else 0), f"the child ended with {child.exitcode}"
    return ended


def _child(action: Callable[[], object], changes: _Changes, sender: Connection[Any, Any]) -> None:
    try:
        changes.install()
        error = ""
        try:
            action()
        except (SettingsError, ResultsError, OSError) as told:
            if changes.failure is None:
                raise
            error = str(told) or repr(told)
        sender.send(Ended(changes.moments, error))
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


class _Changes:
    """Counts what this process changes below a folder; the k-th change ends it, in the middle too, or fails.

    It stands in front of the operating system's calls, so that it does not matter which of our functions makes them.
    What a death after a change leaves is what one before the next change leaves.
    """

    def __init__(self, root: Path, at: int | None, failure: Failure | None) -> None:
        self._root, self._at, self.failure = str(root), at, failure
        self.moments: list[str] = []

    def install(self) -> None:
        """Only in a child process: nothing is put back."""
        for name in ("replace", "rename", "link", "symlink", "unlink", "remove", "mkdir", "rmdir"):
            setattr(os, name, self._watched(name, getattr(os, name)))
        fsync, os_open = os.fsync, os.open

        def watched_fsync(fd: int) -> None:
            with self._moment("fsync", _path_of(fd)):
                fsync(fd)

        def watched_os_open(path: Any, flags: int, *args: Any, **named: Any) -> int:
            if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return os_open(path, flags, *args, **named)
            with self._moment("open", os.fspath(path)):
                return os_open(path, flags, *args, **named)

        os.fsync, os.open = watched_fsync, watched_os_open  # type: ignore[assignment]
        io.open = builtins.open = self._watched_open(io.open)

    @contextlib.contextmanager
    def _moment(self, call: str, path: str) -> Iterator[None]:
        """Count the change that is made in this context, and have it fail if it is its turn."""
        if not path.startswith(self._root):
            yield
            return
        name = re.sub(r"\.\d+(\.[0-9a-f]+)?\.tmp$", ".tmp", path.removeprefix(self._root))
        self.moments.append(f"{call} {name}")
        if len(self.moments) != self._at:
            yield
            return
        if self.failure is None:
            os._exit(DIED)
        if self.failure.disk is Disk.LOSES_ANSWERS:
            yield
        raise OSError(self.failure.number, os.strerror(self.failure.number), path)

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(path: Any, *args: Any, **named: Any) -> Any:
            folder = named.get("dir_fd")  # shutil.rmtree gives names relative to one
            place = Path("" if folder is None else _path_of(folder), os.fspath(path))
            with self._moment(name, str(place)):
                return call(path, *args, **named)

        return watched

    def _watched_open(self, real_open: Callable[..., Any]) -> Callable[..., Any]:
        def watched(path: Any, mode: str = "r", *args: Any, **named: Any) -> Any:
            if isinstance(path, int) or not set("wxa+") & set(mode):
                return real_open(path, mode, *args, **named)
            with self._moment("open", os.fspath(path)):
                file = real_open(path, mode, *args, **named)
            return _HalfWritten(file, lambda: self._moment("write", os.fspath(path)))

        return watched


def _path_of(file_descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{file_descriptor}").readlink())


class _HalfWritten:
    """A file whose every write has a moment in its middle."""

    def __init__(self, file: Any, moment: Callable[[], AbstractContextManager[None]]) -> None:
        self._file, self._moment = file, moment

    def write(self, data: Any) -> int:
        self._file.write(data[: len(data) // 2])
        self._file.flush()
        with self._moment():
            self._file.write(data[len(data) // 2 :])
            self._file.flush()
        return len(data)

    def __enter__(self) -> _HalfWritten:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
