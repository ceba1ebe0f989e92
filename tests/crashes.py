"""A process that dies before, in the middle of, or after any change that it makes below a folder."""

from __future__ import annotations

import builtins
import contextlib
import io
import multiprocessing
import os
import re
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

FORK = multiprocessing.get_context("fork")  # a child starts at once, with this process's patches and fixtures
SECONDS = 60  # for one child
DIED = 17  # exit code


def run(action: Callable[[], object], root: Path, die_at: int | None = None) -> list[str] | None:
    """Run `action` in a child process that dies at the `die_at`-th moment, from 1, of its changes below `root`.

    Returns all moments, each as "<call> <path below root>"; None if it died.

    Raises:
        AssertionError: the action raised, or took too long.
    """
    receiver, sender = FORK.Pipe(duplex=False)
    child = FORK.Process(target=_child, args=(action, root, die_at, sender))
    child.start()
    sender.close()
    moments: list[str] | None = None
    if receiver.poll(SECONDS):
        with contextlib.suppress(EOFError):  # it has died
            moments = receiver.recv()
    child.join(SECONDS)
    assert child.exitcode == (DIED if moments is None else 0), f"the child ended with {child.exitcode}"
    return moments


def _child(action: Callable[[], object], root: Path, die_at: int | None, sender: Connection[Any, Any]) -> None:
    try:
        changes = _Changes(root, die_at)
        changes.install()
        action()
        sender.send(changes.moments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


class _Changes:
    """Counts what this process changes below a folder, and ends it before the k-th change or in the middle of it.

    It stands in front of the operating system's calls, so that it does not matter which of our functions makes them.
    What a death after a change leaves is what one before the next change leaves.
    """

    def __init__(self, root: Path, die_at: int | None) -> None:
        self._root, self._die_at = str(root), die_at
        self.moments: list[str] = []

    def install(self) -> None:
        """Only in a child process: nothing is put back."""
        for name in ("replace", "rename", "link", "unlink", "remove", "mkdir", "rmdir"):
            setattr(os, name, self._watched(name, getattr(os, name)))
        fsync = os.fsync

        def watched_fsync(fd: int) -> None:
            self._moment("fsync", _path_of(fd))
            fsync(fd)

        os.fsync = watched_fsync  # type: ignore[assignment]
        io.open = builtins.open = self._watched_open(io.open)

    def _moment(self, call: str, path: str) -> None:
        if not path.startswith(self._root):
            return
        name = re.sub(r"\.\d+\.tmp$", ".tmp", path.removeprefix(self._root))
        self.moments.append(f"{call} {name}")
        if len(self.moments) == self._die_at:
            os._exit(DIED)

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(path: Any, *args: Any, **named: Any) -> Any:
            folder = named.get("dir_fd")  # shutil.rmtree gives names relative to one
            place = Path("" if folder is None else _path_of(folder), os.fspath(path))
            self._moment(name, str(place))
            return call(path, *args, **named)

        return watched

    def _watched_open(self, real_open: Callable[..., Any]) -> Callable[..., Any]:
        def watched(path: Any, mode: str = "r", *args: Any, **named: Any) -> Any:
            if isinstance(path, int) or not set("wxa+") & set(mode):
                return real_open(path, mode, *args, **named)
            self._moment("open", os.fspath(path))
            return _HalfWritten(real_open(path, mode, *args, **named), lambda: self._moment("write", os.fspath(path)))

        return watched


def _path_of(file_descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{file_descriptor}").readlink())


class _HalfWritten:
    """A file whose every write has a moment in its middle."""

    def __init__(self, file: Any, moment: Callable[[], None]) -> None:
        self._file, self._moment = file, moment

    def write(self, data: Any) -> int:
        self._file.write(data[: len(data) // 2])
        self._file.flush()
        self._moment()
        self._file.write(data[len(data) // 2 :])
        return len(data)

    def __enter__(self) -> _HalfWritten:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
