"""What is trained next: configurations go on or stop at their rungs, and new ones begin while the budget lasts."""

from __future__ import annotations

import itertools
import math
from bisect import insort
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sweep.events import Ended, Event, Paused, Task
from sweep.results.belonging import fids_by_run
from sweep.results.folder import StudyFolder
from sweep.results.schema import COMPLETED, DIVERGED, FAILED, RunRow
from sweep.results.work.history import Owner
from sweep.results.work.run_folder import RunFolder
from sweep.search.asha import is_promoted, rungs_of
from sweep.search.interface import Pack, Proposer
from sweep.settings.settings import Study
from wae_core.run import Run


@dataclass(frozen=True)
class Standing:
    """How far a run has come, by its row or by its newest checkpoint.

    Attributes:
        fids: by evaluation step.
        status: of its row; None while it has none.
    """

    step: int = 0
    fids: dict[int, float] = field(default_factory=dict)
    status: str | None = None

    def has_come(self, rung: int) -> bool:
        """Whether it has come to the rung, or ended before."""
        return self.step >= rung or self.status in (DIVERGED, FAILED)

    def has_failed(self, rung: int) -> bool:
        """Whether it failed before the rung or at it, so that it says nothing of its configuration there."""
        return self.status == FAILED and self.step <= rung

    def score(self, rung: int) -> float:
        """Return the best FID up to the rung: infinite of a run that had diverged by then."""
        if self.status == DIVERGED and self.step <= rung:
            return math.inf
        return min((fid for step, fid in self.fids.items() if step <= rung and math.isfinite(fid)), default=math.inf)


@dataclass
class _AtRung:
    """Which seeds of a configuration have come to its rung: with which score, or failed."""

    scores: dict[int, float] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, standings: Mapping[Run, Standing], rung: int) -> _AtRung:
        there = cls()
        for run, standing in standings.items():
            if standing.has_failed(rung):
                there.failed.add(run.seed)
            elif standing.has_come(rung):
                there.scores[run.seed] = standing.score(rung)
        return there

    def has(self, seed: int) -> bool:
        return seed in self.scores or seed in self.failed

    def has_all(self, runs: Sequence[Run]) -> bool:
        return all(self.has(run.seed) for run in runs)

    @property
    def mean(self) -> float:
        """Over the seeds that have not failed; infinite where all have."""
        return math.fsum(self.scores.values()) / len(self.scores) if self.scores else math.inf


@dataclass
class _Configuration:
    """One that has begun.

    until: the rung to which its runs are on their way, or their last step.
    left: run_ids without a row.
    """

    runs: list[Run]
    until: int
    at_rung: _AtRung
    left: set[str]
    is_stopped: bool = False


class Schedule:
    """The work of a launch whose configurations are proposed one by one, with ASHA or without.

    The budget of an algorithm is counted in steps: those of `budget` models in whole configurations. A configuration
    takes the steps of all its seeds when it begins, and gives back those behind its rung when it is stopped there; so
    the budget is never exceeded, and what is left of it at the end is less than one configuration's.

    It is decided, per configuration, when the last of its seeds has reached the rung, on the mean over the seeds of
    the best FID so far. Nothing of it is stored: rows and checkpoints say what has been decided.

    It implements `Search`.
    """

    def __init__(
        self,
        study: Study,
        algorithms: Sequence[str],
        budget: int,
        proposer: Proposer,
        planned: Iterable[Run],
        standing: Callable[[Run], Standing],
        pack: Pack,
        plan: Callable[[list[Run]], None],
    ) -> None:
        """Find out how far everything planned has come.

        Args:
            proposer: asked for a new configuration when a worker is free.
            planned: the runs of plan.parquet, in its order.
            plan: makes a new configuration durable, before the first of its runs is handed out.
        """
        self._study, self._proposer, self._pack, self._plan = study, proposer, pack, plan
        self._rungs = rungs_of(study)
        self._share = study.seeds * study.protocol.steps
        self._budget = budget // study.seeds * self._share  # of each algorithm, in steps
        self._spent = dict.fromkeys(algorithms, 0)
        planned_indexes: dict[str, set[int]] = {name: set() for name in algorithms}
        # The first that are free: a plan that was lost is known again by its rows alone, which leave gaps.
        self._free_indexes = {
            name: itertools.filterfalse(indexes.__contains__, itertools.count())
            for name, indexes in planned_indexes.items()
        }
        self._means: defaultdict[tuple[str, int], list[float]] = defaultdict(list)  # of all at a rung, ascending
        self._tasks: deque[Task] = deque()  # the runs of a configuration each
        self._packs: deque[Task] = deque()  # what the first of them was split into
        self._configurations: dict[str, _Configuration] = {}
        self._beyond: dict[str, deque[list[Run]]] = {name: deque() for name in algorithms}  # a smaller budget
        self.runs: list[Run] = []
        self.depends_on_order: str | None = "what asha stops" if study.optuna is None else "what Optuna proposes"
        self._standing = standing
        grouped: defaultdict[str, list[Run]] = defaultdict(list)
        for run in planned:
            if run.algorithm in self._spent:
                grouped[run.config_id].append(run)
        found = []
        for runs in grouped.values():
            algorithm = runs[0].algorithm
            planned_indexes[algorithm].add(runs[0].config_index)
            if self._beyond[algorithm] or not self._can_begin(algorithm):
                self._beyond[algorithm].append(runs)
            else:
                found.append(self._begin(runs))
        for configuration in found:  # once all are known that have reached a rung
            self._go_on(configuration)

    @property
    def has_more(self) -> bool:
        return bool(self._packs or self._tasks) or any(map(self._can_begin, self._spent))

    def next(self) -> Task | None:
        if not self._packs:
            task = self._next_task()
            if task is None:
                return None
            for pack in self._pack(task.runs):
                self._packs.append(replace(pack, until=task.until, stopped_because=task.stopped_because))
        return self._packs.popleft()

    def note(self, event: Event) -> None:
        """Take in a run that pauses at its rung, or has ended; the last seed of a configuration decides it."""
        if isinstance(event, Ended):
            self._proposer.note(event.row)
        if not event.is_last:
            return
        run, configuration = event.run, self._configurations[event.run.config_id]
        there = configuration.at_rung
        if isinstance(event, Paused):
            there.scores[run.seed] = event.best_fid
        elif isinstance(event, Ended):
            configuration.left.discard(run.run_id)
            there.scores.pop(run.seed, None)
            if event.row.status == FAILED:
                there.failed.add(run.seed)
            else:
                there.scores[run.seed] = math.inf
        if configuration.until in self._rungs and not configuration.is_stopped and there.has_all(configuration.runs):
            insort(self._means[run.algorithm, configuration.until], there.mean)
            self._decide(configuration)

    def _next_task(self) -> Task | None:
        while not self._tasks:
            open_to = [algorithm for algorithm in self._spent if self._can_begin(algorithm)]
            if not open_to:
                return None
            algorithm = min(open_to, key=self._spent.__getitem__)
            if self._beyond[algorithm]:
                runs = self._beyond[algorithm].popleft()
            else:
                runs = self._proposer.propose(algorithm, next(self._free_indexes[algorithm]))
                self._plan(runs)
            self._go_on(self._begin(runs))
        return self._tasks.popleft()

    def _can_begin(self, algorithm: str) -> bool:
        return self._spent[algorithm] + self._share <= self._budget

    def _begin(self, runs: list[Run]) -> _Configuration:
        """Enter a configuration as its runs stand."""
        standings = {run: self._standing(run) for run in runs}
        steps = self._study.protocol.steps
        farthest = max(standing.step for standing in standings.values())
        stops = [s.step for s in standings.values() if s.status == COMPLETED and s.step < steps]
        until = stops[0] if stops else next((rung for rung in self._rungs if rung >= farthest), steps)
        for rung in self._rungs:
            there = _AtRung.of(standings, rung)
            if rung <= until and there.has_all(runs):
                insort(self._means[runs[0].algorithm, rung], there.mean)
        left = {run.run_id for run, standing in standings.items() if standing.status is None}
        there = _AtRung.of(standings, until) if until in self._rungs else _AtRung()
        configuration = _Configuration(runs, until, there, left)
        self._configurations[runs[0].config_id] = configuration
        self.runs += runs
        self._spent[runs[0].algorithm] += self._share
        if stops or not left:
            self._stop(configuration)
        return configuration

    def _go_on(self, configuration: _Configuration) -> None:
        """Have what has begun trained further, as far as it is decided or can be."""
        if configuration.is_stopped:
            return
        there = configuration.at_rung
        if there.has_all(configuration.runs):
            self._decide(configuration)
        else:
            runs = tuple(run for run in _left(configuration) if not there.has(run.seed))
            self._tasks.append(Task(runs, configuration.until))

    def _decide(self, configuration: _Configuration) -> None:
        """Let a configuration go on whose seeds have all come to its rung, or stop it there."""
        assert self._study.asha is not None
        mean, means = configuration.at_rung.mean, self._means[configuration.runs[0].algorithm, configuration.until]
        if not is_promoted(mean, means, self._study.asha):
            self._stop(configuration)
            return
        configuration.until = next(
            (rung for rung in self._rungs if rung > configuration.until), self._study.protocol.steps
        )
        configuration.at_rung.scores.clear()  # who has failed has failed there as well
        self._tasks.append(Task(_left(configuration), configuration.until))

    def _stop(self, configuration: _Configuration) -> None:
        """End it at its rung, and give back to the budget what it does not spend."""
        configuration.is_stopped = True
        self._spent[configuration.runs[0].algorithm] -= self._share - len(configuration.runs) * configuration.until
        if configuration.left:
            reason = f"stopped by asha at step {configuration.until} of {self._study.protocol.steps}"
            self._tasks.append(Task(_left(configuration), configuration.until, reason))


def standings(folder: StudyFolder, data_sha256: str, rows: Iterable[RunRow]) -> Callable[[Run], Standing]:
    """Where a run of the study stands: by its row, or by the newest checkpoint of its attempts."""
    fids = fids_by_run(folder.read_table("evaluations"))
    ended = {row.run_id: Standing(row.steps_done, fids.get(row.run_id, {}), row.status) for row in rows}

    def standing(run: Run) -> Standing:
        if run.run_id in ended:
            return ended[run.run_id]
        history = RunFolder(folder.work(run.run_id), Owner.of(run, data_sha256)).newest()
        if history is None:
            return Standing()
        return Standing(history.step, {evaluation.step: evaluation.fid for evaluation in history.evaluations})

    return standing


def _left(configuration: _Configuration) -> tuple[Run, ...]:
    return tuple(run for run in configuration.runs if run.run_id in configuration.left)
