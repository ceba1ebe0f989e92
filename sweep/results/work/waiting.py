"""Writes to a study's folder that is full, cannot be reached, or is gone: they wait, and nothing is lost."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from wae_core.storage.files import FULL, Location, check_room, probe, storage_unavailable

T = TypeVar("T")
SECONDS_TO_WAIT = 5.0  # until an unavailable storage is tried again
FALSE_ALARMS = 20  # after so many in a row, each of a storage that works, it is the work's own error


def patiently(root: Location, write: Callable[[], T], say: Callable[[str], None]) -> T:
    """Return what `write` returns, which is called again and again while the study's folder is unavailable.

    Args:
        say: is told what is waited for.

    Raises:
        Exception: what `write` has raised, where that does not come from the folder.
    """
    alarms = 0
    while True:
        try:
            return write()
        except Exception as error:
            if not is_away(root, error) or alarms >= FALSE_ALARMS:
                raise
            say(why_waiting(root, error))
            alarms += wait_for_storage(root, error)


def is_away(root: Location, error: Exception) -> bool:
    """Say whether an error comes from the study's folder: it is unavailable now, or was deleted or renamed."""
    return storage_unavailable(error) or (isinstance(root, Path) and not root.is_dir())


def why_waiting(root: Location, error: Exception) -> str:
    """Return what is waited for, as a sentence."""
    if isinstance(root, Path) and not root.is_dir():
        return f"{root} is gone; workers wait until it is back"
    said = (isinstance(error, OSError) and error.strerror) or error
    return f"{root} cannot be written now ({said}); workers wait until it can, nothing is lost"


def wait_for_storage(root: Location, error: Exception) -> bool:
    """Wait until the study's folder takes files; returns whether it does at once though it was not full.

    An error that lies in one file, as where a disk has a bad sector, must not be waited for for ever.
    """
    is_full = isinstance(error, OSError) and error.errno in FULL
    naps = 0
    while True:
        time.sleep(SECONDS_TO_WAIT)
        naps += 1
        with contextlib.suppress(OSError):
            probe(root)
            if is_full:
                check_room(root)
            return naps == 1 and not is_full
