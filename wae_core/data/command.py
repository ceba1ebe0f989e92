"""`bigwae data mnist|celeba|folder`: the command that packs a data set, once, or checks it."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from wae_core.data.manifest import Manifest
from wae_core.data.preparing import DEFAULT_SIZE, check, pack
from wae_core.data.sources import REPOSITORIES

WHOLE = {"mnist": 70_000, "celeba": 202_599}  # images of the complete data sets
SKIPPED_SHOWN = 10
ROWS_SHOWN = 15


def main(words: Sequence[str]) -> None:
    """Run the command; launched again after it was stopped, it continues.

    Raises:
        ValueError: the source, or another word, is not usable.
        OSError: a disk or a process failed.
    """
    arguments = _parser().parse_args(words)
    name = _name(arguments.dataset, arguments.name)
    if arguments.check:
        print(check(name, arguments.data))
        return
    began, folder = time.monotonic(), arguments.data / name
    manifest = pack(
        arguments.dataset,
        name,
        arguments.data,
        arguments.source,
        arguments.size,
        arguments.processes,
        arguments.held_out,
    )
    if manifest is None:
        print(f"{folder} is packed already; to pack it again, delete it")
    else:
        _print_summary(arguments.dataset, folder, manifest, time.monotonic() - began)


def _name(dataset: str, name: str | None) -> str:
    if name is None and dataset == "folder":
        raise ValueError("a folder needs a name for its data set: give NAME=<name>")
    name = name or dataset
    if not re.fullmatch("[a-z0-9][a-z0-9_-]*", name):
        raise ValueError(f"name is {name!r}: it must be of a-z, 0-9, _ and -, and begin with a letter or digit")
    if name in {"digits", *REPOSITORIES} - {dataset}:
        raise ValueError(f"name is {name!r}: that is another data set's")
    return name


def _print_summary(dataset: str, folder: Path, manifest: Manifest, seconds: float) -> None:
    for entry in manifest.skipped[:SKIPPED_SHOWN]:
        print(f"skipped {ascii(entry['name'])[1:-1]}: {ascii(entry['reason'])[1:-1]}", file=sys.stderr)
    if len(manifest.skipped) > SKIPPED_SHOWN:
        print(f"… and {len(manifest.skipped) - SKIPPED_SHOWN:,} more: see its manifest.json", file=sys.stderr)
    seen = manifest.count + len(manifest.skipped)
    if seen != WHOLE.get(dataset, seen):
        print(f"note: the whole {dataset} has {WHOLE[dataset]:,} images, this source {seen:,}", file=sys.stderr)
    count, *shape = manifest.shape
    print(
        f"{folder}: {count:,} images of {'×'.join(map(str, shape))}, {manifest.train_count:,} to train on and "
        f"{count - manifest.train_count:,} held out, {len(manifest.skipped):,} skipped, in {seconds:.0f} s"
    )
    for number, what in _taken_and_left_out(manifest):
        print(f"{number:>12,}  {what}")


def _taken_and_left_out(manifest: Manifest) -> list[tuple[int, str]]:
    """How many images, or files that are none, were taken or left out, and why: each of them is in one row.

    Reasons that differ in names or numbers alone share a row; the rarest of many reasons share the last one.
    """
    skipped = Counter(f"left out: {_kind(entry['reason'])}" for entry in manifest.skipped)
    ignored = Counter({f"no image: {why}": number for why, number in manifest.ignored.items()})
    rows = [(number, what) for reasons in (skipped, ignored) for what, number in reasons.most_common()]
    rest = sum(number for number, _ in rows[ROWS_SHOWN:])
    return [
        (manifest.train_count, "taken: to train on"),
        (manifest.count - manifest.train_count, "taken: held out"),
        *rows[:ROWS_SHOWN],
        *([(rest, "left out for other reasons: see its manifest.json")] if rest else []),
    ]


def _kind(reason: str) -> str:
    return ascii(re.sub(r"\d+", "N", reason.partition(": ")[0].partition(" (")[0]))[1:-1]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bigwae data", description=__doc__)
    parser.add_argument(
        "dataset",
        choices=("mnist", "celeba", "folder"),
        metavar="DATA",
        help="mnist: 28×28 grey; celeba: centre crop of 140×140; folder: any images, largest centred square",
    )
    parser.add_argument(
        "--source",
        type=Path,
        help="mnist: folder of IDX files (plain or .gz); celeba, folder: zip or folder of images; each: folder of "
        "Parquet files with a column image. Without it, mnist and celeba come from the Hugging Face hub",
    )
    parser.add_argument("--data", type=Path, default=Path("data"), help="where data sets lie (default: %(default)s)")
    parser.add_argument("--name", help="what the data set is called (default: mnist, celeba)")
    parser.add_argument("--size", type=int, help=f"height and width of the packed images (default: {DEFAULT_SIZE})")
    parser.add_argument(
        "--held-out",
        type=int,
        help="images that are not trained on, against which FIDs are measured: as many as the feature network has "
        "dimensions, at least (default: a tenth)",
    )
    parser.add_argument(
        "--processes", type=int, default=os.cpu_count() or 1, help="decoding processes (default: one per core)"
    )
    parser.add_argument("--check", action="store_true", help="compare every byte of a packed data set with its hash")
    return parser
