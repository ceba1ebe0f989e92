"""A session's own folder among the temporary files: private, short enough for sockets, gone when its process is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from sweep.errors import SettingsError

PREFIX = "bigwae-ray-"
MARK = "of_bigwae"  # a file in each folder that is ours to delete, whatever else may have such a name
SHORT = Path("/tmp")  # where TMPDIR is too long
LONGEST_SOCKET = 103 if sys.platform == "darwin" else 107  # bytes of its path
SOCKET = f"{PREFIX}12345678/ray/session_2026-01-02_03-04-05_678901_1234567/sockets/plasma_store"  # Ray's longest


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder that nobody else may enter, and delete it at the end; those of dead processes are deleted first.

    Its owner holds a lock on it for as long as it lives, which the kernel releases: a pid would say nothing to
    another container that shares the temporary files. systemd's cleaner of such files respects the lock as well.

    Raises:
        SettingsError: there is no place for it.
        OSError: it cannot be made.
    """
    place = _place()
    _delete_abandoned(place)
    new = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=place))  # 0700, a name that nobody can foresee
    # A folder without the dot that is not locked is taken for a dead process's.
    with _locked(new):
        (new / MARK).touch()
        folder = new.rename(place / new.name[1:])
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _place() -> Path:
    """The folder of temporary files, or a shorter one."""
    given = Path(tempfile.gettempdir()).absolute()
    for place in (given, SHORT):
        if len(os.fsencode(place / SOCKET)) <= LONGEST_SOCKET and os.access(place, os.W_OK | os.X_OK):
            return place
    raise SettingsError(
        f"temporary files go to {given}, whose path is too long for Ray's sockets, and {SHORT} cannot be written: "
        f"set TMPDIR to a path of at most {LONGEST_SOCKET - len(SOCKET) - 1} bytes"
    )


def _delete_abandoned(place: Path) -> None:
    """Remove the folders of dead processes: our own, which nobody else could enter, and whose locks are free."""
    for folder in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # it is gone, or in use
            status = folder.lstat()
            is_private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
            if is_private and status.st_uid == os.getuid() and (folder / MARK).exists():
                with _locked(folder):
                    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
