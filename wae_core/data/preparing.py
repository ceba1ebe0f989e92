"""Pack the images of a source into one memory-mapped file with a manifest: split, written once, checked."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray

from wae_core.data.decoding import FILTER, Preprocessing, decode, decoded_images, remove_working_files
from wae_core.data.manifest import IMAGES, MANIFEST, Manifest, images_sha256, read_manifest
from wae_core.data.mnist import read_mnist
from wae_core.data.sources import REPOSITORIES, ImageSource, download, open_source

CELEBA_CROP = 140  # paper, Appendix C
DEFAULT_SIZE = 64
HELD_OUT_LIMIT = 20_000  # CelebA's held-out set (paper, Appendix C); the tenth of smaller sets is ours (O)
SPLIT_RULE = f"the last images of a random permutation: a tenth, at most {HELD_OUT_LIMIT}, at least 1"
SPLIT_SEED = 0
TEMPORARY, LOCK = f".{IMAGES}.tmp", ".lock"


def pack(
    dataset: str, name: str, data: Path, source: Path | None, size: int | None = None, processes: int = 1
) -> Manifest | None:
    """Pack `source` (None: the hub's copy) into data/name; None where that is done already.

    Args:
        dataset: mnist | celeba | folder.
        size: height and width of the packed images, 64 if None; MNIST's is its own.

    Raises:
        ValueError: bad input; nothing is written.
        OSError: the source cannot be read or the files not written; the same call goes on.
    """
    if processes < 1:
        raise ValueError(f"processes is {processes}: at least 1 is needed")
    if size is not None and dataset == "mnist":
        raise ValueError(f"size is {size}: mnist keeps its 28×28, leave it out")
    if size is not None and not 8 <= size <= 1024:
        raise ValueError(f"size is {size}: it goes from 8 to 1024")
    if source is None and dataset not in REPOSITORIES:
        raise ValueError(f"{dataset} needs a source: give SOURCE=<zip or folder>")
    if source is not None and not source.exists():
        raise ValueError(f"source {source} does not exist")
    folder, origin = data / name, {}
    if source is None:
        packed = read_manifest(folder)
        if packed is not None and size in (None, packed.shape[-1]):
            return None
        source = download(dataset)
        origin = {"repository": REPOSITORIES[dataset], "revision": source.name}
    if dataset == "mnist":
        return _pack_mnist(name, folder, source, origin)
    preprocessing = Preprocessing(CELEBA_CROP if dataset == "celeba" else None, size or DEFAULT_SIZE)
    return _pack_images(name, folder, open_source(source), origin, preprocessing, processes)


def check(name: str, data: Path) -> str:
    """Compare every byte of data/name with its manifest; returns a sentence.

    Raises:
        ValueError: it is not there, or damaged.
    """
    from wae_core.data.images import load_dataset  # imports torch, which the decoding processes do without

    load_dataset(name, data)
    folder = data / name
    manifest = read_manifest(folder)
    assert manifest is not None
    images = np.lib.format.open_memmap(folder / IMAGES, mode="r")
    if images_sha256(images, manifest.train_count) != manifest.sha256:
        raise ValueError(f"{folder / IMAGES} is damaged (its sha256 is not the manifest's): delete {folder}")
    return f"{folder}: {manifest.count:,} images, sha256 as in the manifest"


def split_order(count: int, skipped: Collection[int]) -> tuple[NDArray[np.int64], int]:
    """The order of a packed set by SPLIT_RULE: (indices without the skipped ones, how many of them train).

    A function of its arguments alone. RandomState's stream is frozen (NumPy NEP 19), so the split is for ever.
    """
    order = np.random.RandomState(SPLIT_SEED).permutation(count).astype(np.int64)
    order = order[~np.isin(order, list(skipped))]
    held_out = max(1, min(HELD_OUT_LIMIT, len(order) // 10))
    return order, len(order) - held_out


def write_images(images: NDArray[np.uint8], order: NDArray[np.int64], train_count: int, folder: Path) -> str:
    """Write images[order] as folder/images.npy, whole or not at all; returns the data set's `images_sha256`."""
    temporary = folder / TEMPORARY
    packed = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=(len(order), *images.shape[1:]))
    for start in range(0, len(order), 1024):
        packed[start : start + 1024] = images[order[start : start + 1024]]
    packed.flush()
    digest = images_sha256(packed, train_count)
    temporary.replace(folder / IMAGES)
    return digest


def _pack_mnist(name: str, folder: Path, source: Path, origin: dict[str, str]) -> Manifest | None:
    train, test, kind = read_mnist(source)
    images = np.concatenate([train, test])
    fingerprint = hashlib.sha256(images.data).hexdigest()
    if _is_packed(folder, fingerprint, images.shape[-1], None):
        return None
    with _working_in(folder):
        manifest = Manifest(
            name=name,
            source={"kind": kind, "fingerprint": fingerprint, **origin},
            count=len(images),
            train_count=len(train),
            shape=images.shape,
            sha256=write_images(images, np.arange(len(images)), len(train), folder),
            crop=None,
            filter=None,
            pillow=PIL.__version__ if kind == "parquet" else None,
            split="the official test files",
            split_seed=None,
            skipped=[],
        )
        manifest.write(folder)
    return manifest


def _pack_images(
    name: str,
    folder: Path,
    source: ImageSource,
    origin: dict[str, str],
    preprocessing: Preprocessing,
    processes: int,
) -> Manifest | None:
    size = preprocessing.size
    if _is_packed(folder, source.fingerprint, size, preprocessing.crop_name):
        return None
    with _working_in(folder):
        skipped = decode(source, preprocessing, folder, processes)
        usable = len(source.names) - len(skipped)
        if usable < 2:
            examples = "".join(f"; {source.names[i]}: {reason}" for i, reason in list(skipped.items())[:1])
            raise ValueError(
                f"{source.path} has {usable} usable images of {len(source.names)}, two are needed{examples}"
            )
        order, train_count = split_order(len(source.names), skipped)
        manifest = Manifest(
            name=name,
            source={"kind": source.kind, "fingerprint": source.fingerprint, **origin},
            count=usable,
            train_count=train_count,
            shape=(usable, 3, size, size),
            sha256=write_images(decoded_images(folder, len(source.names), size), order, train_count, folder),
            crop=preprocessing.crop_name,
            filter=FILTER,
            pillow=PIL.__version__,
            split=SPLIT_RULE,
            split_seed=SPLIT_SEED,
            skipped=[{"name": source.names[i], "reason": reason} for i, reason in sorted(skipped.items())],
        )
        manifest.write(folder)
    return manifest


def _is_packed(folder: Path, fingerprint: str, size: int, crop: str | None) -> bool:
    """Whether `folder` holds just this.

    Raises:
        ValueError: it holds another source, size or crop, or its manifest is damaged.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return False
    if (manifest.source["fingerprint"], manifest.shape[-1], manifest.crop) != (fingerprint, size, crop):
        raise ValueError(f"{folder} holds another source, size or crop: delete it, or give another NAME")
    _remove_temporaries(folder)  # left by a kill right after the manifest
    return True


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    """Hold `folder` against a second packer. Refused input leaves nothing behind; success leaves the data set alone.

    Raises:
        ValueError: another process packs into it.
    """
    is_new_parent = not folder.parent.exists()
    folder.mkdir(parents=True, exist_ok=True)
    # The kernel releases the lock when the process dies, however it dies.
    with (folder / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"another process is packing into {folder}") from error
        try:
            yield
        except ValueError:
            _remove_temporaries(folder)
            with suppress(OSError):  # not empty: something else lies there
                folder.rmdir()
                if is_new_parent:
                    folder.parent.rmdir()
            raise
        _remove_temporaries(folder)


def _remove_temporaries(folder: Path) -> None:
    remove_working_files(folder)
    for path in (folder / TEMPORARY, folder / LOCK, *folder.glob(f".{MANIFEST}.*.tmp")):
        path.unlink(missing_ok=True)
