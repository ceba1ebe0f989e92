"""Whether the runs of a study could start: asked before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from sweep.errors import SettingsError
from sweep.running.connection.address import cluster_address
from sweep.running.connection.joining import check_reachable
from sweep.running.nodes.room import check_fit, cpus_here, resources
from sweep.settings.settings import Cluster, Settings
from wae_core.data.images import SHAPES, ImageData, load_dataset
from wae_core.device import require_device, select_device
from wae_core.evaluation.features import load_features, network_for, networks_for
from wae_core.names import REFERENCES
from wae_core.networks import ARCHITECTURES
from wae_core.protocol import Protocol


def check_trainable(settings: Settings) -> None:
    """Refuse, before anything is written, a study whose runs could not start.

    Raises:
        SettingsError: data, feature weights, device or an architecture that is not there, or more images asked for
            than the data set has.
    """
    study = settings.study
    try:
        data = load_dataset(study.protocol.dataset, settings.data)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    check_cluster(settings.cluster)
    if study.protocol.vae_likelihood == "bernoulli" and data.pixel_range[0] < 0:
        raise SettingsError(
            f"study.vae_likelihood is 'bernoulli', but {data.name} is in colour, with pixels in [−1, 1]"
        )
    check_scorable(study.protocol, data, settings.inception)
    support = {h.name: h.distribution.support for h in study.space.hyperparameters}
    for architecture in support["architecture"]:
        if architecture not in ARCHITECTURES:
            raise SettingsError(
                f"space {study.space.name}: architecture {architecture!r} is none of {', '.join(ARCHITECTURES)}"
            )
    largest_batch = max(int(size) for size in support["batch_size"])
    if largest_batch > len(data.train):
        raise SettingsError(
            f"space {study.space.name}: batch_size goes up to {largest_batch}, "
            f"but {data.name} has {len(data.train)} training images"
        )
    for key, limit in (("evaluation_images", len(data.held_out)), ("pretraining_images", len(data.train))):
        if getattr(study.protocol, key) > limit:
            raise SettingsError(
                f"study.{key} is {getattr(study.protocol, key)}, but {data.name} has {limit} such images"
            )


def as_word(name: str, value: object) -> str:
    """Return the word of a launch that gives a study's protocol a value."""
    return f"study.{name}={str(value).lower()}"


def check_scorable(
    protocol: Protocol, data: ImageData, inception: Path | None, given: Callable[[str, object], str] = as_word
) -> None:
    """Refuse an FID that cannot be measured, or one of too few reference images that no word accepts.

    Args:
        given: returns how a person gives a value to one of the protocol's names.

    Raises:
        SettingsError: feature weights that are not there, a network that does not take the images, or too few images;
            the sentence says what would do.
    """
    try:
        known = network_for(protocol.fid_features, data.image_shape)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    split, wanted = protocol.fid_reference, protocol.fid_reference_images
    there = len(data.split(split))
    if wanted is not None and wanted > there:
        raise SettingsError(
            f"{given('fid_reference_images', wanted)}, but {data.name}/{split} has {there:,} images in all"
        )
    count = there if wanted is None else wanted
    if count < known.dim and not protocol.accept_few_images:
        cures = [*_cures(data, known.dim, split, count, given), given("accept_few_images", True)]
        raise SettingsError(
            f"{given('fid_features', protocol.fid_features)} has {known.dim:,} dimensions, and {data.name}/{split} "
            f"gives {count:,} reference images: an FID of fewer images than dimensions is far too high and ranks "
            f"poorly; give {', or '.join(cures)}, which has it with a warning"
        )
    try:
        load_features(protocol.fid_features, torch.device("cpu"), inception)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _cures(data: ImageData, dim: int, split: str, count: int, given: Callable[[str, object], str]) -> Iterator[str]:
    """What would do in the place of `count` reference images for `dim` dimensions."""
    for name, known in networks_for(data.image_shape).items():
        if known.dim <= count:
            yield f"{given('fid_features', name)} ({known.words})"
    if len(data.split(split)) >= dim:
        yield given("fid_reference_images", dim)
    for other in REFERENCES:
        if other != split and len(data.split(other)) >= dim:
            yield f"{given('fid_reference', other)} ({len(data.split(other)):,} images)"
    if data.name not in SHAPES and len(data.train) + len(data.held_out) >= 2 * dim:
        yield f"the set packed anew with more held out (make data … HELD_OUT={dim})"


def check_cluster(cluster: Cluster) -> None:
    """Refuse what this machine has not; what a Ray cluster has is known when it has been joined.

    Raises:
        SettingsError: the device is not there, not one worker fits, or the cluster's head cannot be reached.
    """
    if cluster.executor == "ray" and (address := cluster_address()) is not None:
        if address != "auto":
            check_reachable(address)
        return
    try:
        # Only who trains opens the device.
        (require_device if cluster.executor == "ray" else select_device)(cluster.device)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    if cluster.executor == "ray":
        wanted = resources(cluster)
        machine = {"CPU": cpus_here(), "GPU": torch.cuda.device_count()}
        if cluster.workers:  # so many are started, on however few cores
            wanted.pop("CPU", None)
        here = {name: amount for name, amount in wanted.items() if name in machine}
        check_fit([machine], here, cluster.accelerators_per_run)
