"""Decode many images in parallel into one file; an interrupted run goes on, and the result does not show it."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Collection
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import PIL

from wae_core.data.interface import BadImage, ImageSource
from wae_core.data.pixels import BACKGROUND, FILTER, Images, Preprocessing

CHUNK = 64  # images that one process decodes at a time
RECORD_SECONDS = 0.25  # a killed run loses at most this much work
REPORT_SECONDS = 3.0
PARTIAL, PROGRESS, TEMPORARY = "images.partial", "progress.json", ".progress.json.tmp"  # working files


@dataclass
class _Progress:
    """What is finished, kept in a file; `key` names the source and the preprocessing that it belongs to."""

    key: str
    done: list[int] = field(default_factory=list)  # chunks
    skipped: dict[str, str] = field(default_factory=dict)  # index of the image → reason

    def save(self, folder: Path) -> None:
        # What is called done must be on the disk first.
        with (folder / PARTIAL).open("r+b") as file:
            os.fsync(file.fileno())
        temporary = folder / TEMPORARY
        temporary.write_text(json.dumps(asdict(self)))
        temporary.replace(folder / PROGRESS)


def decode(source: ImageSource, preprocessing: Preprocessing, folder: Path, processes: int) -> dict[int, str]:
    """Decode all images of `source` into folder/PARTIAL, at their index; returns index → reason of those left out.

    Goes on where an interrupted call for the same source and preprocessing stopped. Progress goes to stderr.

    Raises:
        OSError: the source cannot be read or the file not written; what is done stays.
    """
    count = len(source.names)
    progress = _resume(source, preprocessing, folder)
    waiting = sorted(set(range(-(-count // CHUNK))) - set(progress.done))
    if progress.done:
        print(f"goes on: {_images_in(progress.done, count):,} of {count:,} images are there", file=sys.stderr)
    if not waiting:
        return {int(index): reason for index, reason in progress.skipped.items()}
    before = _images_in(progress.done, count)
    began = recorded = reported = time.monotonic()
    pool = ProcessPoolExecutor(
        min(processes, len(waiting)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(source, preprocessing, folder / PARTIAL),
    )
    try:
        futures = {pool.submit(_decode_chunk, chunk): chunk for chunk in waiting}
        for future in as_completed(futures):
            progress.skipped |= {str(index): reason for index, reason in future.result().items()}
            progress.done.append(futures[future])
            now = time.monotonic()
            if now - recorded > RECORD_SECONDS:
                progress.save(folder)
                recorded = now
            if now - reported > REPORT_SECONDS:
                done = _images_in(progress.done, count)
                print(_progress_line(done, count, (done - before) / (now - began), progress), file=sys.stderr)
                reported = now
    except BrokenProcessPool as error:
        raise OSError("a decoding process was killed (out of memory?): the same command goes on") from error
    finally:
        pool.shutdown(cancel_futures=True)
        progress.save(folder)
    return {int(index): reason for index, reason in progress.skipped.items()}


def decoded_images(folder: Path, count: int, size: int) -> Images:
    """folder/PARTIAL as an array [count, 3, size, size], memory-mapped."""
    return np.memmap(folder / PARTIAL, np.uint8, mode="r", shape=(count, 3, size, size))


def remove_working_files(folder: Path) -> None:
    """Forget what `decode` has done in `folder`."""
    for name in (PROGRESS, PARTIAL, TEMPORARY):
        (folder / name).unlink(missing_ok=True)


def _resume(source: ImageSource, preprocessing: Preprocessing, folder: Path) -> _Progress:
    """The progress of an interrupted call, or that of a fresh one with an empty file."""
    settings = [source.fingerprint, asdict(preprocessing), FILTER, BACKGROUND, PIL.__version__, CHUNK]
    key = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
    size = len(source.names) * 3 * preprocessing.size**2
    partial = folder / PARTIAL
    try:
        progress = _Progress(**json.loads((folder / PROGRESS).read_bytes()))
        if progress.key == key and partial.stat().st_size == size:
            return progress
    except (OSError, ValueError, TypeError):
        pass
    remove_working_files(folder)
    with partial.open("wb") as file:
        file.truncate(size)
    return _Progress(key)


def _images_in(chunks: Collection[int], count: int) -> int:
    """Images in `chunks`: the last one may be short."""
    return sum(min(CHUNK, count - chunk * CHUNK) for chunk in chunks)


def _progress_line(done: int, count: int, rate: float, progress: _Progress) -> str:
    minutes, seconds = divmod(round((count - done) / rate), 60)
    left = f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
    return f"{done:,} of {count:,} images, {rate:,.0f} images/s, {left} left, {len(progress.skipped)} skipped"


# --- what runs in a decoding process

_task: tuple[ImageSource, Preprocessing, Path]  # of this process; sent once, as it may name 200,000 images


def _start_worker(source: ImageSource, preprocessing: Preprocessing, partial: Path) -> None:
    global _task
    _task = source, preprocessing, partial
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its pool
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """A pool's processes outlive a killed parent, and would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _decode_chunk(chunk: int) -> dict[int, str]:
    """Write one chunk's images into the file at their place; returns index → reason of the damaged ones."""
    source, preprocessing, partial = _task
    indices = range(chunk * CHUNK, min((chunk + 1) * CHUNK, len(source.names)))
    images = np.zeros((len(indices), 3, preprocessing.size, preprocessing.size), np.uint8)
    skipped = {}
    for position, index in enumerate(indices):
        try:
            encoded = source.read(index)
            images[position] = preprocessing.pixels(encoded)
        except BadImage as error:
            skipped[index] = str(error)
    with partial.open("r+b") as file:
        file.seek(indices.start * images[0].nbytes)
        file.write(images.data)
    return skipped
