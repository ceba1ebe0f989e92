"""plan.parquet: one row per planned run, with its coordinates and hyperparameters."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from sweep.results.folder import StudyFolder
from sweep.results.layout import Layout, rows_of, rows_without
from sweep.results.parquet import read_table, write_table
from sweep.results.schema import arrow_schema, run_of
from sweep.settings.settings import Study
from wae_core.hyperparameters import Hyperparameters
from wae_core.run import Run

PLAN = pa.schema(
    [
        ("run_id", pa.string()),
        ("algorithm", pa.string()),
        ("config_index", pa.int64()),
        ("config_id", pa.string()),
        ("seed", pa.int64()),
        ("steps_planned", pa.int64()),
        *arrow_schema(Hyperparameters),
    ]
)
PLAN_FILE = Layout(PLAN, key=("run_id",))


def plan_table(runs: Sequence[Run]) -> pa.Table:
    """Return the plan's rows of these runs."""
    rows = [
        {
            "run_id": run.run_id,
            "algorithm": run.algorithm,
            "config_index": run.config_index,
            "config_id": run.config_id,
            "seed": run.seed,
            "steps_planned": run.protocol.steps,
            **vars(run.hyperparameters),
        }
        for run in runs
    ]
    return pa.Table.from_pylist(rows, schema=PLAN)


def read_plan(folder: StudyFolder) -> pa.Table:
    """Read all that was ever planned in the folder.

    Raises:
        FileNotFoundError: there is no plan.
        ResultsError: it is damaged, or of another version.
    """
    return read_table(folder.plan_file, PLAN_FILE, "move it away: then a launch plans again what has a row")


class PlanFile:
    """plan.parquet as the results lock's holder extends it, again and again where configurations are proposed."""

    def __init__(self, folder: StudyFolder) -> None:
        """Read it, if it is there.

        Raises:
            ResultsError: as `read_plan` does.
        """
        self._path = folder.plan_file
        self._table = read_plan(folder) if folder.plan_file.exists() else None  # as it was written last

    def extend(self, runs: Sequence[Run]) -> None:
        """Add runs, and write them; what is planned stays.

        Raises:
            OSError: the file cannot be written.
        """
        table = plan_table(runs)
        if self._table is not None:
            new = rows_without(table, rows_of(self._table, table["run_id"])["run_id"])
            if not len(new):
                return
            table = pa.concat_tables([self._table, new]).combine_chunks()
        write_table(self._path, table)
        self._table = table


def planned_runs(folder: StudyFolder, study: Study) -> list[Run]:
    """Return the runs of plan.parquet, in the order in which they were planned.

    Raises:
        ResultsError: as `read_plan` does.
    """
    if not folder.plan_file.exists():
        return []
    return [run_of(row, study.name, study.seed, study.protocol) for row in read_plan(folder).to_pylist()]
