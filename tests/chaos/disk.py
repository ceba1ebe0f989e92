"""A small disk of its own for the results, which a ballast fills for some seconds."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEGABYTES = 256
SECONDS_FULL = 8.0


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """Mount a tmpfs at `path`.

    Raises:
        PermissionError: this process may not mount.
    """
    path.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m,mode=700", "tmpfs", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise PermissionError(done.stderr.strip())
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(path: Path) -> bool:
    """Leave no byte free on the disk for some seconds."""
    ballast = path / "ballast"
    until = time.monotonic() + SECONDS_FULL
    with ballast.open("ab", buffering=0) as file:
        while time.monotonic() < until:
            for size in (2**20, 2**12):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass
            time.sleep(0.05)  # what others delete meanwhile is taken too
    ballast.unlink()
    return True
