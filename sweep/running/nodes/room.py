"""What a worker takes of a node, how many a node holds, and whether a cluster can become larger."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from joblib import cpu_count

from sweep.errors import SettingsError
from sweep.settings.settings import Cluster

KEYS = {"CPU": "cpus_per_worker", "GPU": "gpus_per_worker", "TPU": "tpus_per_worker"}  # by Ray's names


def resources(cluster: Cluster) -> dict[str, float]:
    """Return what one worker takes, by Ray's names."""
    return {name: amount for name, key in KEYS.items() if (amount := getattr(cluster, key))}


def in_words(bundles: Sequence[Mapping[str, float]]) -> str:
    """Return what equal processes take together, for a sentence."""
    return ", ".join(f"{amount * len(bundles):g} {name}" for name, amount in bundles[0].items())


def cpus_here() -> int:
    """Return how many cores this process may use: of a batch system's or a container's share, not of the machine."""
    return int(cpu_count())


def cores(cluster: Cluster) -> int:
    """Return how many cores a Ray of this machine alone is to have for the workers, however few there are."""
    a_run = cluster.accelerators_per_run * max(1, cluster.cpus_per_worker)
    return cluster.workers * a_run if cluster.workers else cpus_here()


def workers_that_fit(nodes: Sequence[Mapping[str, float]], wanted: Mapping[str, float]) -> int:
    """Return how many workers the nodes hold, each of which takes `wanted` of one of them."""
    return sum(int(min(round(node.get(name, 0) / amount, 6) for name, amount in wanted.items())) for node in nodes)


def check_fit(nodes: Sequence[Mapping[str, float]], wanted: Mapping[str, float], at_least: int = 1) -> None:
    """Refuse workers that are larger than every node, or so many that share a model.

    Raises:
        SettingsError: not so many fit.
    """
    if not wanted:
        return
    fitting = workers_that_fit(nodes, wanted)
    if fitting >= at_least:
        return
    if fitting:
        each = ", ".join(f"{amount:g} {name}" for name, amount in wanted.items())
        raise SettingsError(
            f"cluster.accelerators_per_run is {at_least}, but there is room for {fitting} workers, "
            f"each of which takes {each}"
        )
    most = {name: max((node.get(name, 0) for node in nodes), default=0) for name in wanted}
    asked = ", ".join(f"cluster.{KEYS[name]} is {amount:g}" for name, amount in wanted.items())
    there = ", ".join(f"{amount:g} {name}" for name, amount in most.items())
    raise SettingsError(f"not one worker fits: {asked}, but a node has at most {there}")


def may_grow(autoscaling_status: bytes | None) -> bool:
    """Say whether the cluster has an autoscaler, by its monitor's words: without one a node's type is its own id."""
    report = json.loads(autoscaling_status or b"{}").get("autoscaler_report", {})
    return not all(name.startswith("node_") for name in report.get("active_nodes", {}))
