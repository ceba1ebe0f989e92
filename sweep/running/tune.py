"""The executor on Ray Tune, the one module that imports Ray: workers train tasks, and tell events."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# Read by Ray and Tune when they are imported.
os.environ.update(
    RAY_USAGE_STATS_ENABLED="0",
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
    TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",  # our records take the place of Tune's four files per trial
    TUNE_GLOBAL_CHECKPOINT_S="1000000",  # a killed driver resumes from our records, not from Tune's snapshots
    RAY_AIR_NEW_OUTPUT="0",  # the newer console output prints a table even when verbose is 0
)
if "RAY_ADDRESS" not in os.environ:  # a cluster of this machine alone: then its servers listen on 127.0.0.1
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"

import psutil
import ray
import torch
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher

from sweep.events import Event, Search, Started, Task, WorkerContext
from sweep.running.handout import Handout
from sweep.running.worker import pack_rates, run_task
from sweep.settings.settings import Cluster
from wae_core.run import Run

# Ours alone: in Ray's own folder the sessions of a living cluster cannot be told from dead ones.
SCRATCH = Path(tempfile.gettempdir()) / f"bigwae-{os.getuid()}"
OBJECT_STORE_BYTES = 200 * 2**20  # tasks and events are small


class _Shared:
    """A value on its way to the workers: Tune copies a trial's configuration thrice, and prints it into a tag."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __deepcopy__(self, memo: object) -> _Shared:
        return self

    def __repr__(self) -> str:
        return ""


class _NotPickled:
    """Tuner pickles what it is given, for a restore that is never made here; closures cannot be pickled."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class TaskSearcher(_NotPickled, Searcher):
    """Tune's view of a `Handout`: each task is one trial."""

    def __init__(self, handout: Handout) -> None:
        super().__init__()
        self._handout = handout

    def suggest(self, trial_id: str) -> Any:
        """Return the next task; None while others run, since one of them may come again or lead to more."""
        task = self._handout.next(trial_id)
        if task is None:
            return Searcher.FINISHED if self._handout.is_idle else None
        return {"task": _Shared(task)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        self._handout.end(trial_id, has_died=error)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the plan and the records say what is missing."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: to launch again is to continue."""


class _InOrder(_NotPickled, FIFOScheduler):
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
        self._events = run_task(task, new_config["context"].value)
        return True

    def get_auto_filled_metrics(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Nothing: Tune asks twice per trial and keeps the answers, and would send the task back in each result."""
        return {}

    def step(self) -> dict[str, Any]:
        event = next(self._events)
        self._runs_left -= event.is_last
        return {"event": event, "done": self._runs_left == 0}


class _Listener(_NotPickled, tune.Callback):
    def __init__(self, handout: Handout) -> None:
        self._handout = handout

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        for run in trial.config["task"].value.runs:
            self._handout.note(Started(run))

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._handout.note(result["event"])
        # Tune would keep all of it until the sweep ends, with six statistics of every number; it prints where `done`
        # is not there.
        for key in result.keys() - {"done", "trial_id"}:
            del result[key]


@contextlib.contextmanager
def session(cluster: Cluster) -> Iterator[TuneExecutor]:
    """Start Ray here, or join the cluster of RAY_ADDRESS; yields its executor."""
    address = os.environ.get("RAY_ADDRESS")
    _delete_dead_sessions()
    ray.init(
        address=address or "local",
        _temp_dir=None if address else str(SCRATCH),
        num_cpus=None if address or not cluster.workers else cluster.workers * max(1, cluster.cpus_per_worker),
        object_store_memory=None if address else OBJECT_STORE_BYTES,
        include_dashboard=None if address else False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    if not address:
        SCRATCH.chmod(0o700)  # Ray opens its temporary folder to everybody
    try:
        wanted = resources(cluster)
        available: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        yield TuneExecutor(wanted, cluster.workers or workers_that_fit(available, wanted))
    finally:
        ray.shutdown()
        for session in SCRATCH.glob(f"session_*_{os.getpid()}"):
            shutil.rmtree(session, ignore_errors=True)


def _delete_dead_sessions() -> None:
    """Remove what killed drivers of ours left: Ray's session folders and Tune's storage end in the driver's pid."""
    SCRATCH.mkdir(mode=0o700, exist_ok=True)
    for path in SCRATCH.glob("*_*"):
        pid = path.name.rpartition("_")[2]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def workers_that_fit(available: Mapping[str, float], wanted: Mapping[str, float]) -> int:
    """Return how many workers, each of which takes `wanted`, the resources are enough for; 1 at the least."""
    return max(1, int(min(available.get(name, 0) // amount for name, amount in wanted.items())))


def resources(cluster: Cluster) -> dict[str, float]:
    """Return what one worker takes, by Ray's names."""
    wanted = {"CPU": cluster.cpus_per_worker, "GPU": cluster.gpus_per_worker, "TPU": cluster.tpus_per_worker}
    return {name: amount for name, amount in wanted.items() if amount}


class TuneExecutor:
    """The workers of a Ray session; it implements `Executor`. Each task is a trial of one Tune experiment."""

    def __init__(self, resources: dict[str, float], workers: int) -> None:
        """`resources` are those of one worker, by Ray's names."""
        self._resources, self.workers = resources, workers

    def measure(self, run: Run, sizes: Sequence[int], context: WorkerContext) -> dict[int, float]:
        task: Any = ray.remote(pack_rates)
        others = {name: amount for name, amount in self._resources.items() if name not in ("CPU", "GPU")}
        rates: dict[int, float] = ray.get(
            task.options(
                num_cpus=self._resources.get("CPU", 0),
                num_gpus=self._resources.get("GPU", 0),
                resources=others or None,
            ).remote(run, sizes, context)
        )
        return rates

    def train(
        self, search: Search, context: WorkerContext, deaths_allowed: int, on_event: Callable[[Event], None]
    ) -> None:
        handout = Handout(search, deaths_allowed, on_event)
        storage = SCRATCH / f"tune_{os.getpid()}"
        try:
            tune.Tuner(
                tune.with_resources(TaskTrainable, self._resources),
                param_space={"context": _Shared(context)},
                tune_config=tune.TuneConfig(
                    search_alg=ConcurrencyLimiter(TaskSearcher(handout), max_concurrent=self.workers),
                    scheduler=_InOrder(),  # type: ignore[no-untyped-call]
                    num_samples=-1,
                    reuse_actors=True,
                    trial_name_creator=lambda trial: trial.trial_id,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    storage_path=str(storage),
                    name="tasks",
                    callbacks=[_Listener(handout)],
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                    verbose=0,
                ),
            ).fit()
        finally:
            shutil.rmtree(storage, ignore_errors=True)
        if handout.error is not None:
            raise handout.error
        if handout.has_more:  # Tune takes Ctrl-C for itself, and ends with tasks left over
            raise KeyboardInterrupt
