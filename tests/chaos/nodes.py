"""Three Ray nodes on this machine, of which one is lost now and then, and replaced."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

OBJECT_STORE_BYTES = 100 * 2**20


class Nodes:
    """A cluster of a head, to which drivers connect, and two more nodes; each has one core.

    All is done in the thread that made it: the kernel ends a node's processes with the thread that started them.
    """

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self._cluster: Any = Cluster()
        self._add(temp_dir=str(folder), include_dashboard=False)
        self._others = [self._add(), self._add()]

    @property
    def address(self) -> str:
        """What RAY_ADDRESS is to be."""
        return str(self._cluster.address)

    def lose_one(self, random: Random) -> bool:
        """SIGKILL to the raylet of a node that is not the head; the rest of the node follows, and a new one comes."""
        node = self._others.pop(random.randrange(len(self._others)))
        os.kill(node.all_processes["raylet"][0].process.pid, signal.SIGKILL)
        self._cluster.remove_node(node, allow_graceful=False)
        self._others.append(self._add())
        return True

    def _add(self, **settings: Any) -> Any:
        return self._cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES, **settings)

    def close(self) -> None:
        """End every process of the cluster."""
        self._cluster.shutdown()


@contextmanager
def three_nodes(folder: Path) -> Iterator[Nodes]:
    """A cluster that keeps its sockets and logs in `folder`, whose path is to be short; RAY_ADDRESS names it."""
    # Read by Ray when it is imported; RAY_TMPDIR keeps the cluster's address out of the folder of other clusters.
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_TMPDIR=str(folder), RAY_raylet_start_wait_time_s="120")
    (folder / "ray").mkdir()  # what Ray makes of RAY_TMPDIR
    nodes = Nodes(folder / "ray")
    os.environ["RAY_ADDRESS"] = nodes.address
    try:
        yield nodes
    finally:
        del os.environ["RAY_ADDRESS"]
        nodes.close()
