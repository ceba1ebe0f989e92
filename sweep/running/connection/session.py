"""A session of Ray: started on this machine, or a cluster that is joined; and none of its processes afterwards."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import textwrap
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sweep.running.connection.environment import for_ray

os.environ.update(for_ray())  # read by Ray and Tune when they are imported

import ray
from ray._private import services
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.exceptions import AuthenticationError
from ray.experimental import internal_kv

from sweep.commit import PACKAGES, SOURCE
from sweep.errors import WorkersLost
from sweep.events import WorkerContext
from sweep.results.nodes.book import LeftOut, NodeBook
from sweep.running.connection import joining, token
from sweep.running.connection.address import cluster_address
from sweep.running.executor import Say
from sweep.running.nodes.census import Census
from sweep.running.nodes.examination import demands_of
from sweep.running.nodes.looking import Lookout, nodes
from sweep.running.nodes.room import KEYS, check_fit, cores, may_grow, resources
from sweep.running.scratch import scratch_folder
from sweep.running.tune import TuneExecutor
from sweep.running.watch import Family, Server, watching
from sweep.settings.settings import Cluster
from wae_core.protocol import Protocol

AUTOSCALING_STATUS = "__autoscaling_status"  # where a cluster's monitor writes what it sees
OBJECT_STORE_BYTES = 200 * 2**20  # tasks and events are small
SECONDS_TO_SHUT_DOWN = 5.0
# Seconds without an answer of a server of Ray's. A cluster's head may be started anew; after a minute Ray aborts.
PATIENCE = {"here": 2.0, "cluster": 40.0}


@contextlib.contextmanager
def session(
    cluster: Cluster, context: WorkerContext, protocol: Protocol, book: NodeBook, say: Say
) -> Iterator[TuneExecutor]:
    """Start Ray here, or join the cluster of RAY_ADDRESS; yields its executor.

    Args:
        context, protocol: name what each node of a cluster that is joined must have.
        book: is told which of them are left out.
        say: is told who trains, and what is waited for.

    Raises:
        SettingsError: not one worker fits, on nodes that will not become more, or every node is left out.
        WorkersLost: Ray cannot be started or reached, or has ended meanwhile.
    """
    address = cluster_address()
    family = Family()
    with scratch_folder() as scratch, _ray(cluster, address, scratch, family):
        wanted = resources(cluster)
        _check_room(cluster, address)
        with watching(_servers(), family, PATIENCE["here" if address is None else "cluster"]):
            per_run = cluster.accelerators_per_run

            def write_down(left_out: Sequence[LeftOut]) -> None:
                with contextlib.suppress(OSError):  # the storage may be away; the next change is written again
                    book.write(left_out)

            census = Census(wanted, per_run, cluster.workers, say, write_down)
            demands = None if address is None else demands_of(context, protocol, book)
            lookout = Lookout(census, demands, cluster.device, [wanted] * per_run, _may_grow(address), say)
            if address is None:
                book.forget()
            else:
                book.begin()
            try:
                lookout.wait_for_workers()
                yield TuneExecutor(wanted, census, lookout, scratch / "tune", say)
            finally:
                with contextlib.suppress(Exception):  # the head may be gone
                    lookout.stop()


@contextlib.contextmanager
def _ray(cluster: Cluster, address: str | None, scratch: Path, family: Family) -> Iterator[None]:
    """Ray, and none of its processes afterwards."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if address is not None:
            _join(address)
        try:
            _start(cluster, address, scratch)
        except Exception as error:  # of any type
            reason = textwrap.shorten(str(error) or repr(error), 300, placeholder=" …")
            what = "Ray cannot be started" if address is None else f"the Ray cluster {address} cannot be joined"
            raise WorkersLost(f"{what}: {reason}") from error
        for number, handler in handlers.items():  # Ray has put its own in their place
            signal.signal(number, handler)
        yield
    finally:
        _shut_down()
        family.end()


def _start(cluster: Cluster, address: str | None, scratch: Path) -> None:
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is not None:
        # As the working directory, the packages stand before any others on the workers' path.
        others = [f"/{path.name}" for path in SOURCE.iterdir() if path.name not in PACKAGES]
        sent = {"working_dir": str(SOURCE), "excludes": others} if cluster.send_code else None
        ray.init(address=address, runtime_env=sent, **quiet)
        return
    token.guard_token()
    ray.init(
        address="local",
        _temp_dir=str(scratch / "ray"),  # Ray opens it to everybody, again and again
        num_cpus=cores(cluster),
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        **quiet,
    )


def _check_room(cluster: Cluster, address: str | None) -> None:
    """Refuse workers that no node holds, unless nodes may come: there is an autoscaler, or no more than a head."""
    there = [node.resources for node in nodes()]
    if _may_grow(address):
        return
    if address is None or any(amount for resources in there for name, amount in resources.items() if name in KEYS):
        check_fit(there, resources(cluster), cluster.accelerators_per_run)


def _may_grow(address: str | None) -> bool:
    """Whether there is an autoscaler."""
    return address is not None and may_grow(internal_kv._internal_kv_get(AUTOSCALING_STATUS))


def _join(address: str) -> None:
    """Be admitted to the cluster, before Ray tries."""
    head = services.canonicalize_bootstrap_address(address)
    logging.getLogger("ray").setLevel(logging.ERROR)  # it warns of tokens, whether there are any or none

    def ids() -> set[str]:
        return {node.hex() for node in GcsClient(address=head).get_all_node_info()}

    joining.join(head, ids, services.find_node_ids, AuthenticationError, maybe_enable_token_auth_if_token_available)


def _shut_down() -> None:
    """Leave Ray; where its head does not answer any more, that never ends."""
    thread = threading.Thread(target=ray.shutdown, name="shutdown", daemon=True)
    thread.start()
    thread.join(SECONDS_TO_SHUT_DOWN)
    if thread.is_alive():
        atexit.unregister(ray.shutdown)


def _servers() -> list[Server]:
    """What the session cannot do without: the cluster's head, and the raylet of this node."""
    here = ray.get_runtime_context()
    table: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    (node,) = [node for node in table if node["Alive"] and node["NodeID"] == here.get_node_id()]
    return [
        Server("Ray's head (its GCS)", here.gcs_address),
        Server("Ray's raylet on this machine", f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"),
    ]
