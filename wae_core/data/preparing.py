"""Pack the images of a source into one memory-mapped file with a manifest: split, written once, checked."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray

from wae_core.data.decoding import decode, decoded_images, remove_working_files
from wae_core.data.interface import ImageSource
from wae_core.data.manifest import IMAGES, LARGEST_SIDE, MANIFEST, Manifest, images_sha256, read_manifest
from wae_core.data.mnist import read_mnist
from wae_core.data.pixels import BACKGROUND, FILTER, Preprocessing
from wae_core.data.sources import REPOSITORIES, download, open_source

CELEBA_CROP = 140  # paper, Appendix C
SMALLEST_SIZE, DEFAULT_SIZE = 8, 64
MOST_PROCESSES = 1024
HELD_OUT_LIMIT = 20_000  # CelebA's held-out set (paper, Appendix C); the tenth of smaller sets is ours (O)
LEAST_HELD_OUT = LEAST_TRAINED = 2  # the Fréchet distance takes their covariance; a batch has two images
SPLIT_RULE = f"the last images of a random permutation: a tenth, at most {HELD_OUT_LIMIT}, at least {LEAST_HELD_OUT}"
SPLIT_SEED = 0
OFFICIAL_SPLIT = "the official test files"
SAME = "the same picture as another"
TEMPORARY, LOCK = f".{IMAGES}.tmp", ".lock"


def pack(
    dataset: str,
    name: str,
    data: Path,
    source: Path | None,
    size: int | None = None,
    processes: int = 1,
    held_out: int | None = None,
) -> Manifest | None:
    """Pack `source` (None: the hub's copy) into data/name; None where that is done already.

    Args:
        dataset: mnist | celeba | folder.
        size: height and width of the packed images, 64 if None; MNIST's is its own.
        held_out: how many images are held out, a tenth if None; MNIST's are its own.

    Raises:
        ValueError: bad input; nothing is written.
        OSError: the source cannot be read or the files not written; the same call goes on.
    """
    if not 1 <= processes <= MOST_PROCESSES:
        raise ValueError(f"processes is {processes}: at least 1 and at most {MOST_PROCESSES} are allowed")
    if size is not None and dataset == "mnist":
        raise ValueError(f"size is {size}: mnist keeps its 28×28, leave it out")
    if held_out is not None and dataset == "mnist":
        raise ValueError(f"held-out is {held_out}: mnist keeps its official test images, leave it out")
    if held_out is not None and held_out < LEAST_HELD_OUT:
        raise ValueError(f"held-out is {held_out}: it is at least {LEAST_HELD_OUT}")
    if size is not None and not SMALLEST_SIZE <= size <= LARGEST_SIDE:
        raise ValueError(f"size is {size}: it goes from {SMALLEST_SIZE} to {LARGEST_SIDE}")
    if source is None and dataset not in REPOSITORIES:
        raise ValueError(f"{dataset} needs a source: give SOURCE=<zip or folder>")
    if source is not None and not source.exists():
        raise ValueError(f"source {source} does not exist")
    folder, origin = data / name, {}
    if source is None:
        packed = read_manifest(folder)
        split = OFFICIAL_SPLIT if dataset == "mnist" else _split_rule(held_out)
        if packed is not None and size in (None, packed.shape[-1]) and packed.split == split:
            return None
        source = download(dataset)
        origin = {"repository": REPOSITORIES[dataset], "revision": source.name}
    if dataset == "mnist":
        return _pack_mnist(name, folder, source, origin)
    preprocessing = Preprocessing(CELEBA_CROP if dataset == "celeba" else None, size or DEFAULT_SIZE)
    return _pack_images(name, folder, open_source(source), origin, preprocessing, processes, held_out)


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


def split_order(count: int, skipped: Collection[int], held_out: int | None = None) -> tuple[NDArray[np.int64], int]:
    """The order of a packed set: (indices without the skipped ones, how many of them train).

    The last ones are held out: `held_out` of them or, where that is None, as many as SPLIT_RULE says.

    A function of its arguments alone. RandomState's stream is frozen (NumPy NEP 19), so the split is for ever.
    """
    order = np.random.RandomState(SPLIT_SEED).permutation(count).astype(np.int64)
    order = order[~np.isin(order, list(skipped))]
    if held_out is None:
        held_out = max(LEAST_HELD_OUT, min(HELD_OUT_LIMIT, len(order) // 10))
    return order, len(order) - held_out


def same_pictures(images: NDArray[np.uint8], skipped: Collection[int] = ()) -> dict[int, int]:
    """Return the index of each image that is, pixel for pixel, an earlier one → that one's index.

    Were they kept, images that are held out would stand among those that are trained on.
    """
    first: dict[bytes, int] = {}
    same = {}
    for index in range(len(images)):
        if index not in skipped:
            earlier = first.setdefault(hashlib.sha256(images[index].data).digest(), index)
            if earlier != index:
                same[index] = earlier
    return same


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
    if _is_packed(folder, fingerprint, images.shape[-1], None, OFFICIAL_SPLIT):
        return None
    same = same_pictures(images)
    order = np.array([index for index in range(len(images)) if index not in same])
    train_count = int((order < len(train)).sum())
    _require_enough(source, len(images), train_count, len(order) - train_count, "")
    names = [f"{part}:{row}" for part, rows in (("train", train), ("test", test)) for row in range(len(rows))]
    with _working_in(folder):
        manifest = Manifest(
            name=name,
            source={"kind": kind, "fingerprint": fingerprint, **origin},
            count=len(order),
            train_count=train_count,
            shape=(len(order), *images.shape[1:]),
            sha256=write_images(images, order, train_count, folder),
            crop=None,
            filter=None,
            pillow=PIL.__version__ if kind == "parquet" else None,
            split=OFFICIAL_SPLIT,
            split_seed=None,
            skipped=_skipped(names, {}, same),
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
    held_out: int | None,
) -> Manifest | None:
    size, seen = preprocessing.size, len(source.names)
    if _is_packed(folder, source.fingerprint, size, preprocessing.crop_name, _split_rule(held_out)):
        return None
    with _working_in(folder):
        bad = decode(source, preprocessing, folder, processes)
        images = decoded_images(folder, seen, size)
        same = same_pictures(images, bad)
        skipped = _skipped(source.names, bad, same)
        order, train_count = split_order(seen, bad.keys() | same.keys(), held_out)
        example = f"; {skipped[0]['name']}: {skipped[0]['reason']}" if skipped else ""
        _require_enough(source.path, seen, train_count, len(order) - train_count, example)
        manifest = Manifest(
            name=name,
            source={"kind": source.kind, "fingerprint": source.fingerprint, **origin},
            count=len(order),
            train_count=train_count,
            shape=(len(order), 3, size, size),
            sha256=write_images(images, order, train_count, folder),
            crop=preprocessing.crop_name,
            filter=FILTER,
            pillow=PIL.__version__,
            split=_split_rule(held_out),
            split_seed=SPLIT_SEED,
            skipped=skipped,
            background=BACKGROUND,
            ignored=dict(sorted(source.ignored.items())),
        )
        manifest.write(folder)
    return manifest


def _skipped(names: Sequence[str], bad: Mapping[int, str], same: Mapping[int, int]) -> list[dict[str, str]]:
    reasons = {**bad, **{index: f"{SAME}: {names[earlier]}" for index, earlier in same.items()}}
    return [{"name": names[index], "reason": reason} for index, reason in sorted(reasons.items())]


def _require_enough(source: Path, seen: int, train_count: int, held_out: int, example: str) -> None:
    if train_count < LEAST_TRAINED or held_out < LEAST_HELD_OUT:
        raise ValueError(
            f"{source} has {train_count + held_out} usable images of {seen}, but {LEAST_TRAINED} to train on and "
            f"{LEAST_HELD_OUT} to hold out are needed{example}"
        )


def _split_rule(held_out: int | None) -> str:
    return SPLIT_RULE if held_out is None else f"the last {held_out} images of a random permutation"


def _is_packed(folder: Path, fingerprint: str, size: int, crop: str | None, split: str) -> bool:
    """Whether `folder` holds just this.

    Raises:
        ValueError: it holds another source, size, crop or split, or its manifest is damaged.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return False
    found = (manifest.source["fingerprint"], manifest.shape[-1], manifest.crop, manifest.split)
    if found != (fingerprint, size, crop, split):
        raise ValueError(f"{folder} holds another source, size, crop or split: delete it, or give another NAME")
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
