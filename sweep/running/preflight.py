"""Whether the runs of a study could start: asked before anything is written."""

from __future__ import annotations

import os

import torch

from sweep.errors import SettingsError
from sweep.running.executor import check_fit, cluster_address, resources
from sweep.settings.settings import Cluster, Settings
from wae_core.data.images import load_dataset
from wae_core.device import select_device
from wae_core.evaluation.features import load_features
from wae_core.networks import ARCHITECTURES


def check_trainable(settings: Settings) -> None:
    """Refuse, before anything is written, a study whose runs could not start.

    Raises:
        SettingsError: data, feature weights, device or an architecture that is not there, or more images asked for
            than the data set has.
    """
    study = settings.study
    try:
        data = load_dataset(study.protocol.dataset, settings.data)
        if settings.cluster.executor == "inprocess" or cluster_address() is None:
            _check_machine(settings.cluster)
        features = load_features(study.protocol.fid_features, torch.device("cpu"), settings.inception)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    if study.protocol.vae_likelihood == "bernoulli" and data.pixel_range[0] < 0:
        raise SettingsError(
            f"study.vae_likelihood is 'bernoulli', but {data.name} is in colour, with pixels in [−1, 1]"
        )
    try:
        features(data.held_out[:1])
    except ValueError as error:
        raise SettingsError(f"study.fid_features is {study.protocol.fid_features!r}, but {error}") from error
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


def _check_machine(cluster: Cluster) -> None:
    """Refuse what this machine has not; what a Ray cluster has is known when it has been joined."""
    select_device(cluster.device)
    if cluster.executor == "ray":
        wanted = resources(cluster)
        machine = {"CPU": os.cpu_count() or 1, "GPU": torch.cuda.device_count()}
        if cluster.workers:  # so many are started, on however few cores
            wanted.pop("CPU", None)
        check_fit([machine], {name: amount for name, amount in wanted.items() if name in machine})
