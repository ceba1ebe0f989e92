"""Large files, a piece at a time: brought from a disk, a store or the web, once for all processes here; and sent."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from wae_core.storage.files import FULL, ROOM, Location, NotAFile, check_room, size
from wae_core.storage.objects import PIECE, ObjectPath, StorageError

TRIES = 5  # in a row that bring not a byte
SECONDS_TO_PAUSE = 1.0  # after the first of them; twice as long after each further one
SECONDS_BEFORE_A_LINE = 60.0  # that says how far it is; after each of them twice as long, since some are told late

Answer = TypeVar("Answer")
Say = Callable[[str], None]  # tells a person a sentence


class _BrokenOff(Exception):
    """What is brought cannot be read on, for the reason in the message; a later try may succeed."""


def pieces(path: Location, start: int = 0) -> Iterator[bytes]:
    """Yield a file or an object from the byte `start` on, a piece at a time; raises as `size` does."""
    if isinstance(path, ObjectPath):
        yield from path.pieces(start)
        return
    with path.open("rb") as file:
        file.seek(start)
        while piece := file.read(PIECE):
            yield piece


def sha256(path: Location) -> str:
    """Return the sha256 of a file or an object, in hexadecimal digits; raises as `size` does."""
    digest = hashlib.sha256()
    for piece in pieces(path):
        digest.update(piece)
    return digest.hexdigest()


def in_words(count: int) -> str:
    """Return a number of bytes as a person reads it."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} bytes"


@contextlib.contextmanager
def alone(folder: Path, key: str, say: Say) -> Iterator[Path]:
    """Wait until no other process brings what `key` names; yields a folder of its own to bring it to.

    What lies there after an error is kept, so that the next one goes on with it, but for a disk that is full. The
    kernel releases the lock when the process dies, however it dies; its file stays, since others may wait for it.

    Raises:
        OSError: the folder cannot be written, or its disk knows no locks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{key}.lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process here brings something to {folder}: it is waited for")
            fcntl.flock(lock, fcntl.LOCK_EX)
        part = folder / f"{key}.part"
        part.mkdir(exist_ok=True)
        try:
            yield part
        except OSError as error:
            if error.errno in FULL:
                shutil.rmtree(part, ignore_errors=True)
            raise
        shutil.rmtree(part, ignore_errors=True)


def download(source: Location, part: Path, say: Say) -> None:
    """Bring a file to the path `part`, going on where an earlier call ended; the caller checks what has come.

    Where it breaks off it goes on, until `TRIES` in a row have brought nothing.

    Raises:
        FileNotFoundError, NotAFile: as `size` does.
        StorageError: the source does not answer, or breaks off again and again.
        OSError: this machine's disk has no room, or cannot be written.
    """
    failures = total = 0
    while True:
        there = _length(part)
        try:
            total = _read(lambda: size(source))
            if there > total:
                there = 0
            check_room(part.parent, total - there + ROOM)
            _append(source, part, there, total, say)
            came = _length(part)
            if came == total:
                return
            reason = f"it has sent {came:,} bytes of {total:,}"
        except _BrokenOff as error:
            came, reason = _length(part), str(error)
        failures = 0 if there < came <= total else failures + 1
        if failures == TRIES:
            raise StorageError(f"{source} breaks off: {reason}")
        time.sleep(SECONDS_TO_PAUSE * 2**failures)


def upload(file: Path, target: ObjectPath) -> None:
    """Write an object from a file, whole or not at all, and read it back.

    Raises:
        StorageError: the store did not take it, or holds something else now.
    """
    error: StorageError | None = None
    try:
        target.send(file)
    except StorageError as refusal:  # its answer may be what was lost
        error = refusal
    try:
        if sha256(target) == sha256(file):
            return
    except FileNotFoundError:
        pass
    raise error or StorageError(f"{target} is not what was written")


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _append(source: Location, part: Path, start: int, total: int, say: Say) -> None:
    began, pause = time.monotonic(), SECONDS_BEFORE_A_LINE
    with part.open("ab") as file:
        file.truncate(start)
        stream = pieces(source, start) if start < total else iter(())
        while piece := _read(lambda: next(stream, b"")):
            file.write(piece)
            if time.monotonic() - began > pause:
                began, pause = time.monotonic(), 2 * pause
                say(f"{in_words(file.tell())} of {in_words(total)} have come from {source}")
        file.flush()
        os.fsync(file.fileno())


def _read(ask: Callable[[], Answer]) -> Answer:
    """What the source answers; its errors are told from those of this machine's disk."""
    try:
        return ask()
    except (FileNotFoundError, NotAFile):
        raise
    except OSError as error:
        raise _BrokenOff(str(error)) from error
