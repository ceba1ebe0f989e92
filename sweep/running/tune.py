"""The executor on Ray Tune, the one module that imports Ray: workers train tasks, and tell events."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sweep.running.connection.environment import for_ray

os.environ.update(for_ray())  # read by Ray and Tune when they are imported

import ray
import torch
from ray import tune
from ray._private import services
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.exceptions import AuthenticationError, RayError
from ray.experimental import internal_kv
from ray.tune import TuneError
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher

from sweep.errors import WorkersLost
from sweep.events import Search, Started, Task, WorkerContext
from sweep.running.connection import joining, token
from sweep.running.connection.address import cluster_address
from sweep.running.executor import KEYS, Say, Tell, Work, check_fit, cores, may_grow, resources, workers_that_fit
from sweep.running.handout import Handout, NotPickled, Shared, last_line, last_line_of
from sweep.running.scratch import scratch_folder
from sweep.running.watch import Family, Server, watching
from sweep.running.worker import pack_rates, run_task
from sweep.settings.settings import Cluster
from wae_core.run import Run
from wae_core.training.throughput import Packing

AUTOSCALING_STATUS = "__autoscaling_status"  # where a cluster's monitor writes what it sees
OBJECT_STORE_BYTES = 200 * 2**20  # tasks and events are small
SECONDS_BETWEEN_LINES = 60.0  # that say what is waited for
SECONDS_TO_SHUT_DOWN = 5.0
# Seconds without an answer of a server of Ray's. A cluster's head may be started anew; after a minute Ray aborts.
PATIENCE = {"here": 2.0, "cluster": 40.0}


class TaskSearcher(NotPickled, Searcher):
    """Tune's view of a `Handout`: each task is one trial."""

    def __init__(self, handout: Handout) -> None:
        super().__init__()
        self._handout = handout

    def suggest(self, trial_id: str) -> Any:
        """Return the next task; None while others run, since one of them may come again or lead to more."""
        task = self._handout.next(trial_id)
        if task is None:
            return Searcher.FINISHED if self._handout.is_idle else None
        return {"task": Shared(task)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if not error:  # else the listener is told why
            self._handout.end(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the plan and the records say what is missing."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: to launch again is to continue."""


class _InOrder(NotPickled, FIFOScheduler):
    """Leaves it to Tune which trial starts; its own scheduler hurts where packs are shorter than a worker's start.

    That one gives a worker that has become free to the trial that waits for a new worker, and ends the new worker
    while it starts: the next trial asks for another, and one worker trains all packs while the others start for ever.
    Without its choice, the free worker gets the next trial.
    """

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """None in particular."""


class TaskTrainable(tune.Trainable):
    """One worker process; it is reused for task after task, and each step ends with the next event."""

    def setup(self, config: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        task: Task = new_config["task"].value
        self._runs_left = len(task.runs)
        self._events = new_config["work"].value(task, new_config["context"].value)
        return True

    def get_auto_filled_metrics(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Nothing: Tune asks twice per trial and keeps the answers, and would send the task back in each result."""
        return {}

    def step(self) -> dict[str, Any]:
        event = next(self._events)
        self._runs_left -= event.is_last
        return {"event": event, "done": self._runs_left == 0}


class _Listener(NotPickled, tune.Callback):
    def __init__(self, handout: Handout, say: Say, wanted: str) -> None:
        """`wanted` is what a worker takes, in words."""
        self._handout, self._say, self._wanted = handout, say, wanted
        self._has_trained = time.monotonic()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Called some times a second, whatever happens."""
        now = time.monotonic()
        if not self._handout.waits_for_workers:
            self._has_trained = now
        elif now - self._has_trained > SECONDS_BETWEEN_LINES:
            self._has_trained = now
            self._say(f"waiting for a worker, which takes {self._wanted}; {_free()}")

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        for run in trial.config["task"].value.runs:
            self._handout.note(Started(run))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._handout.end(trial.trial_id, death=last_line_of(Path(trial.error_file)) or "its process ended")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._handout.note(result["event"])
        # Tune would keep all of it until the sweep ends, with six statistics of every number; it prints where `done`
        # is not there.
        for key in result.keys() - {"done", "trial_id"}:
            del result[key]


def _free() -> str:
    """What the cluster has, and how much of it is free, for a sentence."""
    there, free = ray.cluster_resources(), ray.available_resources()  # type: ignore[no-untyped-call]
    words = [f"{free.get(name, 0):g} of {there[name]:g} {name}" for name in KEYS if name in there]
    return f"free are {', '.join(words)}"


@contextlib.contextmanager
def session(cluster: Cluster, say: Say) -> Iterator[TuneExecutor]:
    """Start Ray here, or join the cluster of RAY_ADDRESS; yields its executor.

    Raises:
        SettingsError: not one worker fits, on nodes that will not become more.
        WorkersLost: Ray cannot be started or reached, or has ended meanwhile.
    """
    address = cluster_address()
    family = Family()
    with scratch_folder() as scratch, _ray(cluster, address, scratch, family):
        nodes, wanted = [node["Resources"] for node in _nodes()], resources(cluster)
        if address is None or not may_grow(internal_kv._internal_kv_get(AUTOSCALING_STATUS)):
            check_fit(nodes, wanted, cluster.accelerators_per_run)
        workers = cluster.workers or max(1, workers_that_fit(nodes, wanted) // cluster.accelerators_per_run)
        with watching(_servers(), family, PATIENCE["here" if address is None else "cluster"]):
            yield TuneExecutor([wanted] * cluster.accelerators_per_run, workers, scratch / "tune", say)


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
        ray.init(address=address, **quiet)
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


def _nodes() -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def _servers() -> list[Server]:
    """What the session cannot do without: the cluster's head, and the raylet of this node."""
    here = ray.get_runtime_context()
    (node,) = [node for node in _nodes() if node["NodeID"] == here.get_node_id()]
    return [
        Server("Ray's head (its GCS)", here.gcs_address),
        Server("Ray's raylet on this machine", f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"),
    ]


class TuneExecutor:
    """The workers of a Ray session; it implements `Executor`. Each task is a trial of one Tune experiment."""

    def __init__(self, bundles: Sequence[dict[str, float]], workers: int, storage: Path, say: Say) -> None:
        """Start nothing.

        Args:
            bundles: what the equal processes that train a run together take, by Ray's names.
            storage: a folder for what Tune writes, which nobody reads.
        """
        self._bundles, self.workers, self._storage, self._say = bundles, workers, storage, say
        self._wanted = ", ".join(f"{amount * len(bundles):g} {name}" for name, amount in bundles[0].items())

    def measure(self, run: Run, sizes: Sequence[int], context: WorkerContext) -> dict[Packing, float]:
        task: Any = ray.remote(pack_rates)
        (wanted,) = self._bundles
        others = {name: amount for name, amount in wanted.items() if name not in ("CPU", "GPU")}
        counts = {"num_cpus": wanted.get("CPU", 0), "num_gpus": wanted.get("GPU", 0)}
        reference = task.options(**counts, resources=others or None).remote(run, sizes, context)
        while not ray.wait([reference], timeout=SECONDS_BETWEEN_LINES)[0]:
            self._say(f"waiting for pack sizes, which a worker measures; it takes {self._wanted}; {_free()}")
        rates: dict[Packing, float] = ray.get(reference)
        return rates

    def train(
        self, search: Search, context: WorkerContext, deaths_allowed: int, on_event: Tell, work: Work = run_task
    ) -> None:
        handout = Handout(search, deaths_allowed, on_event)
        tuner = tune.Tuner(
            tune.with_resources(TaskTrainable, tune.PlacementGroupFactory(list(self._bundles))),
            param_space={"context": Shared(context), "work": Shared(work)},
            tune_config=tune.TuneConfig(
                search_alg=ConcurrencyLimiter(TaskSearcher(handout), max_concurrent=self.workers),
                scheduler=_InOrder(),  # type: ignore[no-untyped-call]
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.trial_id,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                storage_path=str(self._storage),
                name="tasks",
                callbacks=[_Listener(handout, self._say, self._wanted)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        except (TuneError, RayError, OSError) as error:  # not ours: the handout keeps those
            raise WorkersLost(f"Ray Tune cannot go on: {last_line(str(error))}") from error
        if handout.error is not None:
            raise handout.error
        if handout.has_more:
            raise WorkersLost("Ray Tune ended before its tasks")
