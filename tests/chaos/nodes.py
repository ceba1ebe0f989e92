"""Ray nodes on this machine, by `ray start`, of which each may see other files than the rest."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import psutil

FEWEST, MOST = 1, 3  # nodes of a cluster that breathes
OBJECT_STORE_BYTES = 80 * 2**20
SECONDS_TO_START = 60.0
HEAD_ID = "f" * 51 + "00000"  # as the autoscaler's provider for tests has it
SETTINGS = {
    **{"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "120"},
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",  # Ray's default here, where a session of ours may have set another
}
RAY = Path(sys.executable).parent / "ray"


class RayNodes:
    """A head without cores, which trains nothing, and nodes that come and go.

    Attributes:
        environment: what a driver needs in its environment to join.
        folder: where Ray's own files are.
    """

    def __init__(self, folder: Path, autoscaled: int = 0) -> None:
        """Start the head, which keeps its sockets and logs in `folder`, whose path is to be short.

        Args:
            autoscaled: how many nodes of one core Ray's autoscaler may start, of its provider for tests.
        """
        self.folder, self._token = folder, {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}
        self._numbers = itertools.count(1)
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.address = f"127.0.0.1:{server.getsockname()[1]}"
        self.environment = {"RAY_ADDRESS": self.address} | self._token
        words, environment = ["--port", self.address.rpartition(":")[2], "--include-dashboard=false"], {}
        if autoscaled:
            file = folder / "autoscaler.yaml"
            file.write_text(json.dumps(_autoscaler(self.address, autoscaled)))
            words += ["--autoscaling-config", str(file)]
            environment = {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
            environment["RAY_OVERRIDE_NODE_ID_FOR_TESTING"] = HEAD_ID
        self.add("head", "--head", *words, cpus=0, environment=environment)

    def add(
        self,
        name: str,
        *words: str,
        cpus: int = 1,
        over: Mapping[Path, Path] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start a node; returns once it is there.

        Args:
            words: further ones of `ray start`.
            over: folders that the node sees in the place of others.
        """
        joins = [] if "--head" in words else ["--address", self.address]
        command = [
            str(RAY),
            "start",
            "--block",
            "--node-name",
            name,
            "--node-ip-address",
            "127.0.0.1",
            *joins,
            *words,
        ]
        command += ["--num-cpus", str(cpus), "--object-store-memory", str(OBJECT_STORE_BYTES)]
        if "--head" in words:
            command += ["--temp-dir", str(self.folder / "ray")]
        if over:
            mounts = [f"mount --bind {shlex.quote(str(new))} {shlex.quote(str(old))}" for old, new in over.items()]
            command = ["unshare", "-rm", "sh", "-c", " && ".join([*mounts, "exec " + shlex.join(command)])]
        log = self.folder / f"{name}.log"
        with log.open("wb") as file:
            self._nodes[name] = subprocess.Popen(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ
                | SETTINGS
                | {"RAY_AUTH_TOKEN": self.environment["RAY_AUTH_TOKEN"]}
                | dict(environment or {}),
            )
        until = time.monotonic() + SECONDS_TO_START
        while b"Ray runtime started" not in log.read_bytes():
            assert self._nodes[name].poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.1)

    def remove(self, name: str) -> None:
        """SIGKILL to all processes of a node, as if the machine had lost its power."""
        process = self._nodes.pop(name)
        with contextlib.suppress(psutil.NoSuchProcess):
            family = psutil.Process(process.pid).children(recursive=True)
            for one in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.send_signal(signal.SIGKILL)
        process.kill()
        process.wait()

    def breathe(self, random: Random) -> bool:
        """Lose a node, or get one more; of one to three, beside the head, there is always one."""
        others = [name for name in self._nodes if name != "head"]
        if len(others) <= FEWEST or (len(others) < MOST and random.random() < 0.5):
            self.add(f"node-{next(self._numbers)}")
        else:
            self.remove(random.choice(others))
        return True

    def close(self) -> None:
        """End every process of the cluster."""
        for name in reversed(list(self._nodes)):
            self.remove(name)


@contextlib.contextmanager
def ray_nodes(autoscaled: int = 0) -> Iterator[RayNodes]:
    """A cluster whose nodes are added by the test, or by its autoscaler; none of its processes is left."""
    with tempfile.TemporaryDirectory(prefix="rn", dir="/tmp") as folder:
        nodes = RayNodes(Path(folder), autoscaled)
        try:
            yield nodes
        finally:
            nodes.close()


def _autoscaler(address: str, most: int) -> dict[str, Any]:
    """The configuration of an autoscaler whose nodes are processes of this machine."""
    empty_lists = (
        "initialization_commands setup_commands head_setup_commands worker_setup_commands head_start_ray_commands "
        "worker_start_ray_commands cluster_synced_files rsync_exclude rsync_filter"
    )
    core = {"CPU": 1, "object_store_memory": OBJECT_STORE_BYTES}
    switches = ("use_node_id_as_ip", "disable_node_updaters", "disable_launch_config_check")
    provider = {"type": "fake_multinode"} | dict.fromkeys(switches, True)
    return {
        **{name: [] for name in empty_lists.split()},
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        "cluster_name": "autoscaled",
        "max_workers": most,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 5,
        "file_mounts_sync_continuously": False,
        "provider": {
            **provider,
            "disable_launch_config_check": True,
            "head_node_id": HEAD_ID,
            "gcs_address": address,
        },
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "core": {"resources": core, "node_config": {}, "min_workers": 0, "max_workers": most},
        },
    }


def can_see_others() -> bool:
    """Say whether a node can be given other files than the rest: a mount namespace of its own."""
    try:
        return subprocess.run(["unshare", "-rm", "true"], capture_output=True, timeout=10).returncode == 0
    except OSError:
        return False
