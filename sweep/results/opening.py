"""A study's results folder as a launch has it: locked, claimed, its tables read, what others left settled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from rich.console import Console

from sweep.errors import ResultsError, SettingsError
from sweep.results import study_file
from sweep.results.belonging import Rules
from sweep.results.compaction import TableKeeper, clean_up
from sweep.results.folder import StudyFolder
from sweep.results.lock import Check, results_lock
from sweep.results.plan_file import PlanFile, read_plan
from sweep.results.schema import FAILED, RunRow, run_of
from sweep.results.tables import HeldFolder, Tables
from sweep.results.work.attempt_log import note_dropped_rows
from sweep.results.work.run_folder import runs_with_attempts
from sweep.settings.settings import Settings, Study
from wae_core.data.images import data_sha256, image_shape
from wae_core.evaluation.evaluator import reference_of
from wae_core.run import Hyperparameters, Run
from wae_core.storage.files import probe, probe_creation


@dataclass(frozen=True)
class OpenStudy:
    """The folder of a study whose lock this process holds.

    Attributes:
        data_sha256: the identity of the study's data.
        check: raises LockLost where another driver may hold the lock.
    """

    folder: StudyFolder
    data_sha256: str
    plan_file: PlanFile
    rules: Rules
    tables: Tables
    check: Check
    keep_best: int | None
    console: Console

    def plan(self, runs: Sequence[Run]) -> None:
        """Make new runs durable, before the first of them is handed out.

        Raises:
            OSError: plan.parquet cannot be written.
        """
        self.plan_file.extend(runs)
        self.rules.plan(runs)

    def rows(self) -> list[RunRow]:
        """Return the ended runs."""
        return self.tables.rows()

    def held(self) -> HeldFolder:
        """Return the folder for who reads it again and again while the sweep goes on."""
        return HeldFolder(self.folder, self.tables)

    def keep_tables(self) -> TableKeeper:
        """Return a context in which records become rows of the tables again and again."""

        def say(problem: str) -> None:
            self.console.print(problem, style="yellow")

        return TableKeeper(self.folder, self.tables, self.keep_best, self.check, say)


@contextmanager
def open_study(settings: Settings, drawn: Sequence[Run], console: Console) -> Iterator[OpenStudy]:
    """Lock the study's folder, and bring it into the state from which a launch goes on.

    Args:
        drawn: the runs of this launch's budget, which enter the plan unless they are proposed later.

    Raises:
        SettingsError: the folder cannot be written, is another driver's, of another version of the study, or of other
            data.
        ResultsError: the plan or a table is damaged, of another version, or of another study.
    """
    study, folder = settings.study, _make_folder(settings)
    with results_lock(folder.root / "lock") as check:
        dataset, data = study.protocol.dataset, settings.data
        identity = data_sha256(dataset, data)
        reference, warning = reference_of(study.protocol, data)
        if warning:
            console.print(f"warning: {warning}", style="yellow")
        for difference in study_file.claim(
            folder, study, settings.failures, image_shape(dataset, data), identity, reference, warning
        ):
            console.print(f"the search space is wider than this folder's was: {difference}")
        plan_file = PlanFile(folder)
        plan_file.extend(drawn if study.is_planned_ahead else [])
        rules = _rules(study, identity, reference, folder, drawn)
        tables = Tables(folder, rules, check)
        if again := _planned_again(folder, plan_file, study, rules, tables):
            console.print(f"{folder.plan_file} lacked {len(again)} runs of configurations with rows: planned again")
        clean_up(folder, tables, tables.run_ids() & runs_with_attempts(folder.root / "work"), settings.keep_best)
        note_dropped_rows(folder, tables.dropped)
        if settings.retry_failed:
            failed = [row.run_id for row in tables.rows() if row.status == FAILED]
            console.print(f"failed runs that are tried again: {tables.drop_failed()}")
            note_dropped_rows(folder, failed)
        _say(tables, console)
        yield OpenStudy(folder, identity, plan_file, rules, tables, check, settings.keep_best, console)
        _say(tables, console)


def _say(tables: Tables, console: Console) -> None:
    while tables.problems:
        console.print(tables.problems.pop(0), style="yellow")


def _rules(study: Study, data: str, reference: str, folder: StudyFolder, drawn: Sequence[Run]) -> Rules:
    """The study's rules, after its plan was found to obey them; what is beyond `drawn` is drawn here."""

    def draw(algorithm: str, index: int) -> Hyperparameters:
        return Hyperparameters(**study.space.sample(algorithm, index, study.seed))  # type: ignore[arg-type]

    rules = Rules(
        study.name,
        study.seed_numbers,
        study.protocol,
        data,
        stops_early=study.asha is not None,
        draw=None if study.optuna else draw,
        fid_reference=reference,
    )
    known = {} if rules.draw is None else {run.config_id: run.hyperparameters for run in drawn}
    for row in read_plan(folder).to_pylist():
        planned = Hyperparameters.pick(row)
        config_id = row["config_id"]
        if rules.draw is not None and config_id not in known:
            known[config_id] = rules.draw(row["algorithm"], row["config_index"])
        if row["steps_planned"] != study.protocol.steps or known.get(config_id, planned) != planned:
            raise ResultsError(
                f"{folder.plan_file} cannot be used: {row['run_id']} is planned otherwise than in this study; put "
                "the study's own plan back, or move it away: then a launch plans again what has a row"
            )
        rules.planned[row["run_id"]] = planned
    return rules


def _planned_again(folder: StudyFolder, plan_file: PlanFile, study: Study, rules: Rules, tables: Tables) -> list[Run]:
    """Plan configurations that have rows, and are in no plan since that was lost; returns their runs.

    Raises:
        ResultsError: the rows of one configuration differ in its hyperparameters.
    """
    if tables.run_ids() <= rules.planned.keys():
        return []
    unplanned = [row for row in tables.rows() if row.run_id not in rules.planned]
    runs: dict[str, Run] = {}
    for row in sorted(unplanned, key=lambda row: (row.algorithm, row.config_index)):
        run = run_of(vars(row), study.name, study.seed, study.protocol)
        runs |= {each.run_id: each for each in (replace(run, seed=seed) for seed in study.seed_numbers)}
    again = [run for run_id, run in runs.items() if run_id not in rules.planned]
    rules.plan(again)
    for row in unplanned:
        if reason := rules.foreign(vars(row)):
            raise ResultsError(
                f"{folder.table_file('runs', row.algorithm)} cannot be used: {row.run_id} is not as the other seeds "
                f"of {row.config_id}: {reason}; put the study's own table back, or give another results folder "
                "(RESULTS=)"
            )
    plan_file.extend(again)
    return again


def _make_folder(settings: Settings) -> StudyFolder:
    folder = StudyFolder(settings.results.absolute(), settings.study.name)
    folder.check_kinds()
    try:
        folder.records.mkdir(parents=True, exist_ok=True)
        probe(folder.root)
        probe_creation(folder.records)
    except OSError as error:
        reason = error.strerror or error
        raise SettingsError(f"results folder {settings.results} cannot be written: {reason}") from error
    return folder
