"""What is trained next: configurations go on or stop at their rungs, and new ones begin while the budget lasts."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from sweep.results.folder import StudyFolder
from sweep.results.run_folder import RunFolder
from sweep.results.schema import COMPLETED, DIVERGED, FAILED, RunRow
from sweep.running.attempt import Progress
from sweep.search.asha import is_promoted, rungs
from sweep.settings.settings import Study
from wae_core.run import Run

Propose = Callable[[str, int], list[Run]]  # of an algorithm and an index, the runs of a new configuration


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

    def has_score(self, rung: int) -> bool:
        """Whether it has come to the rung, or ended before."""
        return self.step >= rung or self.status in (DIVERGED, FAILED)

    def score(self, rung: int) -> float | None:
        """The best FID up to the rung: infinite of a run that had diverged by then, None of one that had failed."""
        if self.step < rung or (self.step == rung and self.status in (DIVERGED, FAILED)):
            return None if self.status == FAILED else math.inf
        return min((fid for step, fid in self.fids.items() if step <= rung and math.isfinite(fid)), default=math.inf)


@dataclass(frozen=True)
class Task:
    """Runs of one configuration, and how far they are to be trained.

    Attributes:
        until: the step at which they pause for a decision, or end.
        stopped_because: the reason for which they end there, short of their last step.
        is_new: whether the configuration is to be planned first.
    """

    runs: list[Run]
    until: int
    stopped_because: str | None = None
    is_new: bool = False


@dataclass
class _Configuration:
    """One that has begun.

    until: the rung to which its runs are on their way, or their last step.
    scores: of the seeds that have come so far, by seed; None of one that failed.
    left: run_ids without a row.
    """

    runs: list[Run]
    until: int
    scores: dict[int, float | None]
    left: set[str]
    is_stopped: bool = False


class Schedule:
    """The work of a launch whose configurations are proposed one by one, with ASHA or without.

    The budget of an algorithm is counted in steps: those of `budget` models in whole configurations. A configuration
    takes the steps of all its seeds when it begins, and gives back those behind its rung when it is stopped there; so
    the budget is never exceeded, and what is left of it at the end is less than one configuration's.

    It is decided, per configuration, when the last of its seeds has reached the rung, on the mean over the seeds of
    the best FID so far. Nothing of it is stored: rows and checkpoints say what has been decided.

    Attributes:
        runs: those of the budget that are planned.
    """

    def __init__(
        self,
        study: Study,
        algorithms: Sequence[str],
        budget: int,
        propose: Propose,
        planned: Iterable[Run],
        standing: Callable[[Run], Standing],
    ) -> None:
        """Find out how far everything planned has come.

        Args:
            propose: what makes a new configuration; it is called when a worker is free.
            planned: the runs of plan.parquet, in its order.
        """
        self._study, self._propose = study, propose
        self._rungs = [] if study.asha is None else rungs(study.protocol.evaluation_steps, study.asha)
        self._share = study.seeds * study.protocol.steps
        self._budget = budget // study.seeds * self._share  # of each algorithm, in steps
        self._spent = dict.fromkeys(algorithms, 0)
        self._count = dict.fromkeys(algorithms, 0)  # of planned configurations
        self._means: defaultdict[tuple[str, int], list[float]] = defaultdict(list)  # of all at a rung, by algorithm
        self._tasks: deque[Task] = deque()
        self._configurations: dict[str, _Configuration] = {}
        self._beyond: dict[str, deque[list[Run]]] = {name: deque() for name in algorithms}  # a smaller budget
        self.runs: list[Run] = []
        self._standing = standing
        grouped: defaultdict[str, list[Run]] = defaultdict(list)
        for run in planned:
            if run.algorithm in self._spent:
                grouped[run.config_id].append(run)
        found = []
        for runs in grouped.values():
            algorithm = runs[0].algorithm
            self._count[algorithm] += 1
            if self._beyond[algorithm] or not self._can_begin(algorithm):
                self._beyond[algorithm].append(runs)
            else:
                found.append(self._begin(runs))
        for configuration in found:  # once all are known that have reached a rung
            self._go_on(configuration)

    @property
    def has_more(self) -> bool:
        """Whether there is something to train beside what is being trained."""
        return bool(self._tasks) or any(map(self._can_begin, self._spent))

    def next(self) -> Task | None:
        """What is to be trained next; None where nothing is, at least until something has ended.

        A new configuration is to be planned durably before the first of its runs starts.
        """
        is_new = False
        while not self._tasks:
            open_to = [algorithm for algorithm in self._spent if self._can_begin(algorithm)]
            if not open_to:
                return None
            algorithm = min(open_to, key=self._spent.__getitem__)
            is_new = not self._beyond[algorithm]
            if is_new:
                runs = self._propose(algorithm, self._count[algorithm])
                self._count[algorithm] += 1
            else:
                runs = self._beyond[algorithm].popleft()
            self._go_on(self._begin(runs))
        return replace(self._tasks.popleft(), is_new=is_new)

    def note(self, progress: Progress) -> None:
        """Take in a run that pauses at its rung, or has ended; the last seed of a configuration decides it."""
        run, row = progress.run, progress.row
        if row is None and progress.rung_fid is None:
            return
        configuration = self._configurations[run.config_id]
        configuration.scores[run.seed] = progress.rung_fid
        if row is not None:
            configuration.left.discard(run.run_id)
            configuration.scores[run.seed] = None if row.status == FAILED else math.inf
        if configuration.until in self._rungs and not configuration.is_stopped:
            mean = _mean(configuration.scores, configuration.runs)
            if mean is not None:
                self._means[run.algorithm, configuration.until].append(mean)
                self._decide(configuration, mean)

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
            mean = _mean(_scores(standings, rung), runs)
            if rung <= until and mean is not None:
                self._means[runs[0].algorithm, rung].append(mean)
        left = {run.run_id for run, standing in standings.items() if standing.status is None}
        there = _scores(standings, until) if until in self._rungs else {}
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
        mean = _mean(configuration.scores, configuration.runs)
        if mean is not None:
            self._decide(configuration, mean)
        else:
            runs = [run for run in _left(configuration) if run.seed not in configuration.scores]
            self._tasks.append(Task(runs, configuration.until))

    def _decide(self, configuration: _Configuration, mean: float) -> None:
        """Let a configuration go on whose seeds have all come to its rung, or stop it there."""
        assert self._study.asha is not None
        if not is_promoted(mean, self._means[configuration.runs[0].algorithm, configuration.until], self._study.asha):
            self._stop(configuration)
            return
        configuration.until = next(
            (rung for rung in self._rungs if rung > configuration.until), self._study.protocol.steps
        )
        configuration.scores = {seed: None for seed, score in configuration.scores.items() if score is None}
        self._tasks.append(Task(_left(configuration), configuration.until))

    def _stop(self, configuration: _Configuration) -> None:
        """End it at its rung, and give back to the budget what it does not spend."""
        configuration.is_stopped = True
        self._spent[configuration.runs[0].algorithm] -= self._share - len(configuration.runs) * configuration.until
        if configuration.left:
            reason = f"stopped by asha at step {configuration.until} of {self._study.protocol.steps}"
            self._tasks.append(Task(_left(configuration), configuration.until, reason))


def standings(folder: StudyFolder, rows: Iterable[RunRow]) -> Callable[[Run], Standing]:
    """Where a run of the folder stands: by its row, or by the newest checkpoint of its attempts."""
    fids: defaultdict[str, dict[int, float]] = defaultdict(dict)
    for evaluation in folder.read_table("evaluations").select(["run_id", "step", "fid"]).to_pylist():
        fids[evaluation["run_id"]][evaluation["step"]] = evaluation["fid"]
    ended = {row.run_id: Standing(row.steps_done, fids[row.run_id], row.status) for row in rows}

    def standing(run: Run) -> Standing:
        if run.run_id in ended:
            return ended[run.run_id]
        history = RunFolder(folder.work(run.run_id)).newest()
        if history is None:
            return Standing()
        return Standing(history.step, {evaluation.step: evaluation.fid for evaluation in history.evaluations})

    return standing


def _left(configuration: _Configuration) -> list[Run]:
    return [run for run in configuration.runs if run.run_id in configuration.left]


def _scores(standings: dict[Run, Standing], rung: int) -> dict[int, float | None]:
    """Of the seeds that have come to the rung, or never will."""
    return {run.seed: standing.score(rung) for run, standing in standings.items() if standing.has_score(rung)}


def _mean(scores: dict[int, float | None], runs: Sequence[Run]) -> float | None:
    """Over the seeds that have not failed, infinite where all have; None before all seeds have come."""
    if len(scores) < len(runs):
        return None
    values = [score for score in scores.values() if score is not None]
    return math.fsum(values) / len(values) if values else math.inf
