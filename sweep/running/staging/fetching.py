"""Fetch to a folder what it lacks of packed data sets and Inception's weights; every byte is checked first."""

from __future__ import annotations

import errno
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sweep.errors import OtherDataError
from wae_core.data.images import data_sha256, load_dataset
from wae_core.data.manifest import IMAGES, MANIFEST, Manifest, images_sha256, parse_manifest
from wae_core.evaluation.inception import WEIGHTS_NAME, WEIGHTS_SHA256
from wae_core.storage.files import Location, read, size
from wae_core.storage.transfer import Say, alone, download, in_words, sha256

# In a folder of data sets, for what is fetched where a person has something else under the name.
FETCHED = ".fetched"
# What a rename to a name answers that is a folder's with something in it, a file's, or where a disk is mounted.
TAKEN = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EBUSY}


def folder_with(name: str, identity: str, folder: Path) -> Path | None:
    """Return where the packed set of this identity lies: in `folder`, or among what was fetched to it; else None."""
    return next((place for place in (folder, folder / FETCHED / identity) if _holds(place, name, identity)), None)


def file_of_weights(*paths: Path | None) -> Path | None:
    """Return the first path that holds Inception's weights, byte for byte; None where none does."""
    return next((path for path in paths if path and path.is_file() and sha256(path) == WEIGHTS_SHA256), None)


def manifest_at(name: str, source: Location) -> Manifest:
    """Return the manifest of the data set in a source.

    Raises:
        OtherDataError: there is none that can be used.
        OSError: the source cannot be read.
    """
    try:
        return parse_manifest(read(source / name / MANIFEST))
    except FileNotFoundError as error:
        raise OtherDataError(f"data set {name} is not in {source}: there is no {name}/{MANIFEST}") from error
    except ValueError as error:
        raise OtherDataError(f"{source / name / MANIFEST} cannot be used: {error}") from error


def fetch_data_set(
    name: str, identity: str | None, source: Location, folder: Path, say: Say, is_ours: bool = False
) -> Path:
    """Fetch a packed set to `folder`; returns below which folder it lies.

    That is `folder` itself where nothing has its name there. Else it is one below FETCHED that is named by the
    identity: what a person has packed is neither replaced nor used in its place. However many processes ask at a
    time, one fetches; where it is killed, the next one goes on. Nothing is found under the set's name before all of
    it has come and was checked.

    Args:
        identity: its sha256 by `images_sha256`; None: whichever the source's manifest names.
        is_ours: whether nobody packs to that folder, so that what has the name there, and is not whole, is replaced.

    Raises:
        OtherDataError: the source has another set, or what comes from there is not what its manifest says.
        OSError: the source cannot be read, or the folder cannot be written or has no room.
    """
    manifest = manifest_at(name, source)
    if identity not in (None, manifest.sha256):
        raise OtherDataError(
            f"data set {name} in {source} is another one than that of this sweep: its sha256 is {manifest.sha256}, "
            f"and not {identity}"
        )
    with alone(folder / FETCHED, manifest.sha256, say) as part:
        if (there := folder_with(name, manifest.sha256, folder)) is not None:
            return there

        def identity_of(images: Path) -> str:
            return _identity_of(images, manifest.train_count)

        say(_announcement(f"data set {name}", source / name / IMAGES, folder))
        _bring(source / name / IMAGES, part / IMAGES, manifest.sha256, identity_of, say)
        manifest.write(part)
        if is_ours:
            shutil.rmtree(folder / name, ignore_errors=True)
        return _put_in_place(part, name, folder, manifest.sha256)


def fetch_weights(source: Location, target: Path, say: Say) -> None:
    """Fetch the file of Inception's weights to the path `target`, as a data set is fetched.

    Raises:
        OtherDataError: there is another file at `source`.
        OSError: as `fetch_data_set` does.
    """
    with alone(target.parent, WEIGHTS_SHA256, say) as part:
        if file_of_weights(target) is None:
            say(_announcement("Inception's weights", source, target.parent))
            _bring(source, part / WEIGHTS_NAME, WEIGHTS_SHA256, sha256, say)
            (part / WEIGHTS_NAME).replace(target)


def _announcement(what: str, source: Location, place: Path) -> str:
    return f"{socket.gethostname()} fetches {what} ({in_words(size(source))}) from {source} to {place}"


def _bring(source: Location, part: Path, wanted: str, identify: Callable[[Path], str], say: Say) -> None:
    """Download a file and compare it with its sha256; what an earlier process has left of another one is given up."""
    while True:
        is_new = not part.exists()
        download(source, part, say)
        found = identify(part)
        if found == wanted:
            return
        part.unlink()
        if is_new:
            raise OtherDataError(f"what comes from {source} is damaged: its sha256 is {found}, and not {wanted}")


def _identity_of(file: Path, train_count: int) -> str:
    """The identity of images of which the first so many are to train on, or why they have none."""
    try:
        images = np.lib.format.open_memmap(file, mode="r")
    except Exception as error:  # numpy reads a header as Python's source, and raises what comes of that
        return f"none ({error})"
    if images.dtype != np.uint8 or images.offset + images.nbytes != file.stat().st_size:
        return f"none ({images.dtype} {images.shape} in a file of {file.stat().st_size:,} bytes)"
    return images_sha256(images, train_count)


def _holds(folder: Path, name: str, identity: str) -> bool:
    """Whether the set lies there, as far as its manifest and the sizes say: to read it all takes seconds."""
    try:
        return data_sha256(name, folder) == identity and load_dataset(name, folder) is not None
    except ValueError:
        return False


def _put_in_place(part: Path, name: str, folder: Path, identity: str) -> Path:
    try:
        part.rename(folder / name)  # which replaces an empty folder at most
        return folder
    except OSError as error:
        if error.errno not in TAKEN:
            raise
    own = folder / FETCHED / identity
    shutil.rmtree(own, ignore_errors=True)  # else it would have been found to be whole
    own.mkdir()
    part.rename(own / name)
    return own
