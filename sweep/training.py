"""The training part of a launch: packs to the driver, and what workers report to everything that wants to know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.console import Console

from sweep.reports.cost import CostModel
from sweep.reports.progress_display import ProgressDisplay
from sweep.results import study_file
from sweep.results.compaction import TableKeeper
from sweep.results.folder import StudyFolder
from sweep.results.lock import Check
from sweep.results.plan_file import extend_plan
from sweep.results.schema import RunRow
from sweep.results.tables import Tables
from sweep.running.attempt import Progress, WorkerContext, publish_failure
from sweep.running.pack_size import pack_sizes
from sweep.search.plan import Pack, pack_runs
from sweep.search.schedule import Schedule
from sweep.settings.settings import Settings, Study
from sweep.tracking.mirror import Mirror
from wae_core.run import Run

if TYPE_CHECKING:
    from sweep.search.optuna_search import OptunaSearch

SECONDS_FOR_MIRROR = 60.0


@dataclass(frozen=True)
class Sweep:
    """What the callbacks of a sweep need."""

    settings: Settings
    folder: StudyFolder
    tables: Tables
    mirror: Mirror
    cost: CostModel
    console: Console
    check: Check
    search: OptunaSearch | None
    schedule: Schedule | None

    def train(self, drawn: Sequence[Run], missing: Sequence[Run], ended: Sequence[RunRow]) -> None:
        """Train what is missing, or what the schedule says; `drawn` stands for what is not planned yet."""
        # Imported here: bad input, and a launch with nothing to do, need not wait for Ray.
        from sweep.running.tune import measure_pack, ray_session, train_packs

        search, schedule = self.search, self.schedule
        planned = {run.run_id: run for run in [*drawn, *(schedule.runs if schedule else [])]}
        display = ProgressDisplay(
            self.console, list(planned.values()), [row for row in ended if row.run_id in planned], self.cost
        )
        cluster = self.settings.cluster
        data, inception = self.settings.data.absolute(), self.settings.inception
        context = WorkerContext(
            results=self.folder.root.parent,
            data=data,
            inception=inception.absolute() if inception else None,
            device=cluster.device,
            git_commit=study_file.git_commit(),
            checkpoint_steps=self.settings.checkpoint_steps,
            tries=self.settings.failures.tries,
        )

        def on_progress(progress: Progress) -> None:
            if progress.row is not None:
                self.cost.learn(progress.row)
                if search is not None:
                    search.note(progress.row)
            if schedule is not None:
                schedule.note(progress)
            display.update(progress)
            if progress.evaluation is not None:
                self.mirror.evaluation(progress.run, progress.evaluation)
            if progress.row is not None:
                self.mirror.ended(progress.run, progress.row)

        def on_lost(run: Run) -> None:
            deaths = self.settings.failures.worker_deaths
            reason = f"its worker process died {deaths} times without a new checkpoint"
            on_progress(Progress(run, row=publish_failure(run, 1, context, reason)))

        def propose() -> list[Pack]:
            task = None if schedule is None else schedule.next()
            if task is None:
                return []
            if task.is_new:
                extend_plan(self.folder, task.runs)  # before the first of them starts
                display.plan(task.runs)
            packs = pack_runs(task.runs, self.cost.seconds, sizes)
            return [replace(pack, until=task.until, stopped_because=task.stopped_because) for pack in packs]

        with ray_session(cluster) as workers:
            if schedule is not None and workers > 1:
                what = "what asha stops" if search is None else "what Optuna proposes"
                self.console.print(
                    f"with {workers} workers, {what} depends on which run ends first: it is not reproducible "
                    "(with cluster.workers=1 it is)"
                )
            sizes = pack_sizes(
                self.folder,
                missing if schedule is None else [*missing, *_one_of_each_architecture(self.settings.study, drawn)],
                self.cost.seconds,
                cluster,
                lambda run, sizes: measure_pack(run, sizes, context, cluster),
                self.console,
            )
            packs = pack_runs(missing, self.cost.seconds, sizes) if schedule is None else []
            self.mirror.wait_ready(SECONDS_FOR_MIRROR)
            keep_best, deaths = self.settings.keep_best, self.settings.failures.worker_deaths

            def on_problem(sentence: str) -> None:
                self.console.print(sentence, style="yellow")

            with TableKeeper(self.folder, self.tables, keep_best, self.check, on_problem), display:
                train_packs(packs, context, cluster, workers, deaths, on_progress, on_lost, propose)


def _one_of_each_architecture(study: Study, drawn: Sequence[Run]) -> list[Run]:
    """A run of every architecture that may be proposed."""
    (line,) = [line for line in study.space.hyperparameters if line.name == "architecture"]
    return [
        replace(drawn[0], hyperparameters=replace(drawn[0].hyperparameters, architecture=str(architecture)))
        for architecture in line.distribution.support
    ]
