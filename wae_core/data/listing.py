"""Which files are taken as images, and why each other one is not: nothing is left out in silence."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
PARQUET = ".parquet"


def files_below(folder: Path) -> tuple[list[str], Counter[str]]:
    """Return the files in a folder and its subfolders, linked ones too, by their sorted names relative to it.

    Beside them, what is no file to read: why → how often. A folder that two ways lead to is gone through once, by
    the way without links if there is one.

    Raises:
        OSError: a folder cannot be read.
    """
    files: list[str] = []
    ignored: Counter[str] = Counter()
    seen: set[tuple[int, int]] = set()
    folders, linked = [""], list[str]()
    while folders or linked:
        name = folders.pop() if folders else linked.pop(0)
        status = (folder / name).stat()
        if (status.st_dev, status.st_ino) in seen:
            ignored["link to a folder that is taken already"] += 1
            continue
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(folder / name) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = Path(entry.path)  # whose answers, unlike the entry's, outlive a link to itself
                if _is_hidden(entry.name):
                    ignored["hidden"] += 1
                elif path.is_dir():
                    (linked if entry.is_symlink() else folders).append(f"{name}{entry.name}/")
                elif path.is_file():
                    files.append(name + entry.name)
                else:
                    ignored["broken link, pipe or device"] += 1
    return sorted(files), ignored


def sort_out(names: Iterable[str], suffixes: Sequence[str]) -> tuple[list[str], Counter[str]]:
    """Return the names that have one of the suffixes, sorted, and why the others are left out → how often."""
    taken, ignored = list[str](), Counter[str]()
    for name in names:
        path = PurePosixPath(name)
        if any(_is_hidden(part) for part in path.parts):
            ignored["hidden"] += 1
        elif path.suffix.lower() in suffixes:
            taken.append(name)
        else:
            ignored[f"the ending {path.suffix.lower()}" if path.suffix else "a name without an ending"] += 1
    return sorted(taken), ignored


def count_in_words(ignored: Counter[str]) -> str:
    """Return "3 hidden, 1 broken link …", the most frequent first; "nothing" where there is nothing."""
    return ", ".join(f"{count:,} {why}" for why, count in ignored.most_common(5)) or "nothing"


def _is_hidden(part: str) -> bool:
    """Whether it begins as hidden files do, the Mac's resource forks among them, or leads out of a zip: `..`."""
    return part.startswith(".") or part == "__MACOSX"
