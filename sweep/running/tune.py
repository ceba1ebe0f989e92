"""The executor on Ray Tune: workers train tasks where the census of the nodes has a place, and tell events."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sweep.running.connection.environment import for_ray

os.environ.update(for_ray())  # read by Ray and Tune when they are imported

import ray
import torch
from ray import tune
from ray.exceptions import RayError
from ray.tune import TuneError
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from sweep.errors import WorkersLost
from sweep.events import Search, Started, Task, WorkerContext
from sweep.running.executor import Say, Tell, Work
from sweep.running.handout import Handout, NotPickled, Shared, last_line, text_of
from sweep.running.nodes.census import Census, Place
from sweep.running.nodes.looking import SECONDS_BETWEEN_LINES, Lookout
from sweep.running.worker import pack_rates, run_task
from sweep.settings.settings import FailurePolicy
from wae_core.run import Run
from wae_core.training.throughput import Packing

NODE_GONE = "its node has died"  # in what Ray says of an actor
NODE_ID = "ray.io/node-id"  # a label that each node has


class TaskSearcher(NotPickled, Searcher):
    """Tune's view of a `Handout`: each task is one trial, at a place that the census of the nodes has free."""

    def __init__(self, handout: Handout, census: Census, lookout: Lookout, say: Say) -> None:
        super().__init__()
        self._handout, self._census, self._lookout, self._say = handout, census, lookout, say
        self._has_trained = time.monotonic()

    def suggest(self, trial_id: str) -> Any:
        """Return the next task; None while others run, since one of them may come again or lead to more."""
        self.look()
        places = list(self._census.places())
        task = self._handout.next(trial_id, places)
        if task is not None:
            return {"task": Shared(task), "place": Shared(self._census.place_of(trial_id))}
        is_over = self._handout.is_over or (bool(places) and self._handout.is_idle)
        return Searcher.FINISHED if is_over else None

    def look(self) -> None:
        """Look after the nodes, and say what is waited for; called some times a second, whatever happens."""
        self._lookout.look(self._handout.has_waiting)
        now = time.monotonic()
        if not self._handout.waits_for_workers:
            self._has_trained = now
        elif now - self._has_trained > SECONDS_BETWEEN_LINES:
            self._has_trained = now
            self._say(self._lookout.waiting_words)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if not error:  # else the listener is told why
            never_began = result is None
            self._handout.end(trial_id, "its node has gone" if never_began else None, is_node_gone=never_began)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the plan and the records say what is missing."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: to launch again is to continue."""


class _InOrder(NotPickled, FIFOScheduler):
    """Leaves it to Tune which trial starts; its own scheduler hurts where packs are shorter than a worker's start.

    That one gives a worker that has become free to the trial that waits for a new worker, and ends the new worker
    while it starts: the next trial asks for another, and one worker trains all packs while the others start for ever.
    Without its choice, the free worker gets the next trial.

    It stops trials that wait for a node which has gone: no other may take them.
    """

    def __init__(self, census: Census) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._census = census

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """None in particular."""
        if gone := self._census.gone_workers():
            for trial in list(tune_controller.get_live_trials()):
                if trial.trial_id in gone and trial.status == Trial.PENDING:
                    tune_controller.stop_trial(trial)


class TaskTrainable(tune.Trainable):
    """One worker process; it is reused for task after task, and each step ends with the next event."""

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """Return what a trial takes, and of which nodes; a worker serves trials whose requests are equal."""
        place: Place = config["place"].value
        bundles = [config["wanted"].value] * len(place)
        return tune.PlacementGroupFactory(bundles, bundle_label_selector=[{NODE_ID: node.id} for node in place])

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
    def __init__(self, handout: Handout, searcher: TaskSearcher) -> None:
        self._handout, self._searcher = handout, searcher

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._searcher.look()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        for run in trial.config["task"].value.runs:
            self._handout.note(trial.trial_id, Started(run))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        text = text_of(Path(trial.error_file))
        self._handout.end(trial.trial_id, last_line(text) or "its process ended", is_node_gone=NODE_GONE in text)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._handout.note(trial.trial_id, result["event"])
        # Tune would keep all of it until the sweep ends, with six statistics of every number; it prints where `done`
        # is not there.
        for key in result.keys() - {"done", "trial_id"}:
            del result[key]


class TuneExecutor:
    """The workers of a Ray session; it implements `Executor`. Each task is a trial of one Tune experiment."""

    def __init__(
        self, wanted: Mapping[str, float], census: Census, lookout: Lookout, storage: Path, say: Say
    ) -> None:
        """Start nothing.

        Args:
            wanted: what each of the equal processes that train a run together takes, by Ray's names.
            storage: a folder for what Tune writes, which nobody reads.
        """
        self._wanted, self._census, self._lookout = dict(wanted), census, lookout
        self._storage, self._say = storage, say

    @property
    def has_several(self) -> bool:
        return self._census.limit != 1 and (self._lookout.is_of_cluster or self._census.workers > 1)

    @property
    def device(self) -> str:
        return next(iter(self._census.devices), "")

    def measure(self, run: Run, sizes: Sequence[int], context: WorkerContext) -> dict[Packing, float]:
        task: Any = ray.remote(pack_rates)
        others = {name: amount for name, amount in self._wanted.items() if name not in ("CPU", "GPU")}
        reference = task.options(
            num_cpus=self._wanted.get("CPU", 0),
            num_gpus=self._wanted.get("GPU", 0),
            resources=others or None,
            label_selector={NODE_ID: f"in({','.join(self._census.devices[self.device])})"},
        ).remote(run, sizes, context)
        while not ray.wait([reference], timeout=SECONDS_BETWEEN_LINES)[0]:
            self._say(f"waiting for pack sizes, which a worker measures; {self._lookout.waiting_words}")
        rates: dict[Packing, float] = ray.get(reference)
        return rates

    def train(
        self, search: Search, context: WorkerContext, failures: FailurePolicy, on_event: Tell, work: Work = run_task
    ) -> None:
        handout = Handout(search, failures, self._census, on_event)
        searcher = TaskSearcher(handout, self._census, self._lookout, self._say)
        tuner = tune.Tuner(
            TaskTrainable,
            param_space={"context": Shared(context), "work": Shared(work), "wanted": Shared(self._wanted)},
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=_InOrder(self._census),
                num_samples=-1,
                reuse_actors=True,
                trial_name_creator=lambda trial: trial.trial_id,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                storage_path=str(self._storage),
                name="tasks",
                callbacks=[_Listener(handout, searcher)],
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
