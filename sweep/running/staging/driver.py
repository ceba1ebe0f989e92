"""What a driver does for data and weights: fetches what it lacks itself, and offers the nodes what they may lack."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from sweep.errors import OtherDataError, SettingsError
from sweep.running.connection.address import cluster_address
from sweep.running.staging.fetching import FETCHED, fetch_data_set, fetch_weights, file_of_weights, manifest_at
from sweep.settings.settings import Settings
from wae_core.data.manifest import IMAGES, MANIFEST, read_manifest
from wae_core.evaluation.inception import WEIGHTS_NAME
from wae_core.protocol import Protocol
from wae_core.storage.files import Location, read, size, write_atomically
from wae_core.storage.transfer import Say, in_words, upload

OFFERED = ".data"  # in a results folder; no study has such a name


def fetch_missing(settings: Settings, protocol: Protocol, identity: str | None, say: Say) -> Settings:
    """Fetch to this machine what the driver itself lacks; returns the settings, which name weights that were fetched.

    Nothing is asked of the source where nobody will fetch from it: all is here, and no cluster is joined.

    Args:
        identity: the sha256 of the study's data, where that is known before.

    Raises:
        SettingsError: it lacks something that cannot be fetched, or the nodes would fetch other data than it has.
    """
    source = settings.data_source
    if source is None:
        return settings
    try:
        if protocol.dataset != "digits":
            _fetch_or_compare(protocol.dataset, settings, source, identity, say)
        given, fetched = settings.inception, settings.data / FETCHED / WEIGHTS_NAME
        if protocol.fid_features != "inception" or (given is not None and given.exists()):
            return settings
        if file_of_weights(fetched) is None:
            fetch_weights(source / WEIGHTS_NAME, fetched, say)
        return replace(settings, inception=fetched)
    except OtherDataError as error:
        raise SettingsError(f"data_source: {error}") from error
    except OSError as error:
        reason = error.strerror or str(error).partition("\n")[0]
        raise SettingsError(f"data_source is {str(source)!r}, from where nothing can be fetched: {reason}") from error


def offer(settings: Settings, protocol: Protocol, identity: str, results: Location, say: Say) -> Location | None:
    """Return where nodes fetch what they lack; None where all is on this machine.

    On a cluster for which nobody has named a source, that is a folder of the results, named by the data's identity,
    into which the driver has put what is not there yet. What it puts there was compared with its own hashes.

    Raises:
        SettingsError: the driver's own data set is damaged.
        OSError: the results cannot be written.
    """
    if settings.data_source is not None:
        return settings.data_source.absolute()
    is_packed, has_weights = protocol.dataset != "digits", protocol.fid_features == "inception"
    if settings.cluster.executor != "ray" or cluster_address() is None or not (is_packed or has_weights):
        return None
    place = results / OFFERED / identity
    try:
        if is_packed:
            _offer_data_set(protocol.dataset, settings.data, identity, place, say)
        if has_weights and settings.inception is not None:
            _offer_weights(settings.inception, place / WEIGHTS_NAME, say)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    return place


def _fetch_or_compare(name: str, settings: Settings, source: Location, identity: str | None, say: Say) -> None:
    if not os.path.lexists(settings.data / name):
        fetch_data_set(name, identity, source, settings.data, say)
    elif settings.cluster.executor == "ray" and cluster_address() is not None:
        there, here = manifest_at(name, source), read_manifest(settings.data / name)
        if here is not None and here.sha256 != there.sha256:
            raise OtherDataError(
                f"data set {name} in {source} is another one than here, in {settings.data}: their sha256 are "
                f"{there.sha256} and {here.sha256}"
            )


def _offer_data_set(name: str, folder: Path, identity: str, place: Location, say: Say) -> None:
    if isinstance(place, Path):
        fetch_data_set(name, identity, folder, place, say, is_ours=True)
        return
    images = folder / name / IMAGES
    try:
        # The manifest comes last, and makes the set valid.
        if manifest_at(name, place).sha256 == identity and size(place / name / IMAGES) == size(images):
            return
    except (OtherDataError, FileNotFoundError):
        pass
    from wae_core.data.preparing import check  # Pillow: only who uploads pays for that

    check(name, folder)
    _say_upload(f"data set {name}", images, place, say)
    upload(images, place / name / IMAGES)
    write_atomically(place / name / MANIFEST, read(folder / name / MANIFEST))


def _offer_weights(file: Path, target: Location, say: Say) -> None:
    if isinstance(target, Path):
        fetch_weights(file, target, say)
        return
    try:
        if size(target) == size(file):
            return
    except FileNotFoundError:
        pass
    _say_upload("Inception's weights", file, target.parent, say)
    upload(file, target)


def _say_upload(what: str, file: Path, place: Location, say: Say) -> None:
    say(f"{what} ({in_words(size(file))}) is put into {place}, from where nodes that lack it fetch it")
