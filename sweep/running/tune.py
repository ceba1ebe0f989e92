"""Ray Tune: the one module that imports Ray. It trains packs on workers and hands on what they report."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
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

from sweep.running.attempt import Progress, WorkerContext
from sweep.running.worker import pack_rates, run_pack
from sweep.search.plan import Pack
from sweep.settings.settings import Cluster
from wae_core.run import Run

# Ours alone: in Ray's own folder the sessions of a living cluster cannot be told from dead ones.
SCRATCH = Path(tempfile.gettempdir()) / f"bigwae-{os.getuid()}"
OBJECT_STORE_BYTES = 200 * 2**20  # packs and results are small


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


class PackSearcher(_NotPickled, Searcher):
    """Hands Tune the packs in order, then those that are proposed.

    A pack whose worker died comes again, until it has died too often, which is `deaths_allowed` times without a new
    checkpoint in between. Since it may be the pack's size that kills (the kernel's out-of-memory killer), it comes
    again in halves after the second time.

    Attributes:
        error: what went wrong in proposing; then no more is proposed.
    """

    def __init__(
        self,
        packs: Sequence[Pack],
        deaths_allowed: int,
        on_lost: Callable[[Run], None],
        propose: Callable[[], Sequence[Pack]] = tuple,
    ) -> None:
        super().__init__()
        self.error: Exception | None = None
        self._propose = propose
        self._waiting = deque(packs)
        self._running: dict[str, Pack] = {}
        self._deaths_allowed = deaths_allowed
        self._deaths: Counter[str] = Counter()  # by run_id, since the run's last checkpoint
        self._done: set[str] = set()  # run_ids of those, in the packs that run, that their workers are done with
        self._on_lost = on_lost

    def suggest(self, trial_id: str) -> Any:
        """The next pack; None while the last ones run, since one of them may come back."""
        if not self._waiting and self.error is None:
            try:
                self._waiting.extend(self._propose())
            except Exception as error:  # raised into Tune, it would end the packs that run
                self.error = error
        if not self._waiting:
            return None if self._running else Searcher.FINISHED
        pack = self._running[trial_id] = self._waiting.popleft()
        self._done.difference_update(run.run_id for run in pack.runs)  # paused, and comes again
        return {"pack": _Shared(pack)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        pack = self._running.pop(trial_id)
        if not error:
            return
        left = [run for run in pack.runs if run.run_id not in self._done]
        self._deaths.update(run.run_id for run in left)
        for run in left:
            if self._deaths[run.run_id] >= self._deaths_allowed:
                self._on_lost(run)
        left = [run for run in left if self._deaths[run.run_id] < self._deaths_allowed]
        half = -(-len(left) // 2) if any(self._deaths[run.run_id] > 1 for run in left) else len(left)
        for part in (left[half:], left[:half]):
            if part:
                self._waiting.appendleft(replace(pack, runs=tuple(part)))

    def note(self, progress: Progress) -> None:
        """A run that has its row or pauses does not come again; a new checkpoint may lose workers again."""
        if progress.is_last:
            self._done.add(progress.run.run_id)
        elif progress.problem is None:
            del self._deaths[progress.run.run_id]

    @property
    def has_more(self) -> bool:
        """Whether packs wait or run."""
        return bool(self._waiting or self._running)

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


class PackTrainable(tune.Trainable):
    """One worker process; it is reused for pack after pack, and each step ends with the next thing to report."""

    def setup(self, config: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        pack: Pack = new_config["pack"].value
        self._runs_left = len(pack.runs)
        self._progress = run_pack(pack, new_config["context"].value)
        return True

    def get_auto_filled_metrics(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Nothing: Tune asks twice per trial and keeps the answers, and would send the pack back in each result."""
        return {}

    def step(self) -> dict[str, Any]:
        progress = next(self._progress)
        self._runs_left -= progress.is_last
        return {"progress": progress, "done": self._runs_left == 0}


class _Listener(_NotPickled, tune.Callback):
    def __init__(self, on_progress: Callable[[Progress], None]) -> None:
        self._on_progress = on_progress

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._on_progress(result["progress"])
        # Tune would keep all of it until the sweep ends, with six statistics of every number; it prints where `done`
        # is not there.
        for key in result.keys() - {"done", "trial_id"}:
            del result[key]


@contextlib.contextmanager
def ray_session(cluster: Cluster) -> Iterator[int]:
    """Ray, on the cluster of RAY_ADDRESS or started here; yields how many workers it can hold."""
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
        yield cluster.workers or _capacity(cluster)
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


def _capacity(cluster: Cluster) -> int:
    available: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    wanted = _resources(cluster)
    return max(1, int(min(available.get(name, 0) // amount for name, amount in wanted.items())))


def _resources(cluster: Cluster) -> dict[str, float]:
    wanted = {"CPU": cluster.cpus_per_worker, "GPU": cluster.gpus_per_worker, "TPU": cluster.tpus_per_worker}
    return {name: amount for name, amount in wanted.items() if amount}


def measure_pack(run: Run, sizes: Sequence[int], context: WorkerContext, cluster: Cluster) -> dict[int, float]:
    """Models per hour by pack size, measured on one worker inside a Ray session."""
    task: Any = ray.remote(pack_rates)
    rates: dict[int, float] = ray.get(
        task.options(
            num_cpus=cluster.cpus_per_worker,
            num_gpus=cluster.gpus_per_worker,
            resources={"TPU": cluster.tpus_per_worker} if cluster.tpus_per_worker else None,
        ).remote(run, sizes, context)
    )
    return rates


def train_packs(
    packs: Sequence[Pack],
    context: WorkerContext,
    cluster: Cluster,
    workers: int,
    deaths_allowed: int,
    on_progress: Callable[[Progress], None],
    on_lost: Callable[[Run], None],
    propose: Callable[[], Sequence[Pack]] = tuple,
) -> None:
    """Train all packs as the trials of one Tune experiment, `workers` at a time, inside a Ray session.

    `on_progress` is called here, in the driver, for each report of a worker; `on_lost` for a run whose worker died
    too often; `propose` for more packs where a worker is free and none waits.

    Raises:
        Exception: what `propose` raised, once the packs that ran have ended.
        KeyboardInterrupt: Ctrl-C; Tune takes the signal for itself, and ends with packs left over.
    """
    searcher = PackSearcher(packs, deaths_allowed, on_lost, propose)

    def report(progress: Progress) -> None:
        searcher.note(progress)
        on_progress(progress)

    storage = SCRATCH / f"tune_{os.getpid()}"
    try:
        tune.Tuner(
            tune.with_resources(PackTrainable, _resources(cluster)),
            param_space={"context": _Shared(context)},
            tune_config=tune.TuneConfig(
                search_alg=ConcurrencyLimiter(searcher, max_concurrent=workers),
                scheduler=_InOrder(),  # type: ignore[no-untyped-call]
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.trial_id,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                storage_path=str(storage),
                name="packs",
                callbacks=[_Listener(report)],
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                verbose=0,
            ),
        ).fit()
    finally:
        shutil.rmtree(storage, ignore_errors=True)
    if searcher.error is not None:
        raise searcher.error
    if searcher.has_more:
        raise KeyboardInterrupt
