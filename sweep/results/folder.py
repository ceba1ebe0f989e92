"""The results folder of one study: its paths, the record that a run publishes, and reading of all that ended."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from sweep.errors import ResultsError
from sweep.results.layout import (
    EVALUATION_TABLE,
    RECORD_FILE,
    RESCORE_TABLE,
    RUN_TABLE,
    Layout,
    rows_of,
    rows_without,
    split_records,
)
from sweep.results.parquet import read_table, serialise
from sweep.results.schema import NULLABLE_INTEGERS, RECORD, RESCORES, EvaluationRow, RescoreRow, RunRow
from wae_core.run import ALGORITHMS, RUN_ID, config_id_of
from wae_core.storage.files import TEMPORARIES, Location, create, listed, location, read

TABLES: Mapping[str, Layout] = {"runs": RUN_TABLE, "evaluations": EVALUATION_TABLE}  # a folder each, by its name
FOLDERS = ("records", "damaged", "work", "rescores", *TABLES)
FILES = ("study.yaml", "plan.parquet", "attempts.parquet", "real_images.json", "pack_sizes.json", "optuna.journal")

# What reading study.yaml may raise. Beside YAMLError, PyYAML lets bare errors through: for a date like 2018-02-30,
# !!bool maybe, endless nesting.
STUDY_FILE_ERRORS = (OSError, yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError, RecursionError)

if TYPE_CHECKING:
    import pandas as pd  # a second: workers read no frames


class StudyFolder:
    """Where a study's results lie; see the README for the layout."""

    def __init__(self, results: str | Location, study: str) -> None:
        """Touch nothing.

        Raises:
            ResultsError: the study's name is not that of a folder inside `results`.
        """
        if not study or Path(study).name != study or study.startswith(".") or "\0" in study:
            raise ResultsError(f"study is {study!r}, but it is the name of a folder in {results}")
        self.root = location(results) / study
        self.study_file = self.root / "study.yaml"
        self.plan_file = self.root / "plan.parquet"
        self.real_images_file = self.root / "real_images.json"
        self.attempts_file = self.root / "attempts.parquet"
        self.nodes_file = self.root / "nodes.json"  # of a launch on a cluster
        self.records = self.root / "records"
        self.damaged = self.root / "damaged"  # records that could not be read

    def check_kinds(self) -> None:
        """Make sure that what should be a folder here is none of the other kinds of file, and the other way round.

        Raises:
            ResultsError: it is; else a folder would seem empty, and a pipe would never end.
        """
        if not isinstance(self.root, Path):
            return  # a store has objects only
        for path in (self.root, *(self.root / name for name in FOLDERS)):
            if path.exists() and not path.is_dir():
                raise ResultsError(f"{path} cannot be used: it is not a folder; move it away")
        for path in (self.root / name for name in (*FILES, self.nodes_file.name)):
            if path.exists() and not path.is_file():
                raise ResultsError(f"{path} cannot be used: it is not a file; move it away")

    def work(self, run_id: str) -> Location:
        """Return the run's own folder: its pictures, its best checkpoint, and its attempts while it runs.

        Raises:
            ResultsError: it is no run_id, and could lead out of the folder.
        """
        if not RUN_ID.fullmatch(run_id):
            raise ResultsError(f"run_id is {run_id!r}, but it is of the form wae-mmd-00012-s2")
        return self.root / "work" / run_id

    def holds(self) -> Location | None:
        """Return a file of results or of a plan that is in the folder; None where there is none."""
        tables = [path for name in TABLES for path in listed(self.root / name, "*.parquet")]
        plan = [self.plan_file] if self.plan_file.exists() else []
        return next(iter([*tables, *plan, *listed(self.records, "*.parquet")]), None)

    def table_file(self, name: str, algorithm: str) -> Location:
        """Return the file of one of TABLES that holds an algorithm's rows."""
        return self.root / name / f"{algorithm}.parquet"

    def rescore_file(self, kind: str) -> Location:
        """Return the file of the models that were scored again in one way, a `RescoreRow.kind`."""
        return self.root / "rescores" / f"{kind}.parquet"

    def publish(self, row: RunRow, evaluations: Sequence[EvaluationRow]) -> bool:
        """Create the run's record, if there is none: its row and evaluations appear whole or not at all.

        It is idempotent: a second result of the same run, of a worker that was thought dead, changes nothing.
        Returns whether this call created the record.

        Raises:
            OSError: it cannot be written.
        """
        record = asdict(row) | {"evaluations": [asdict(evaluation) for evaluation in evaluations]}
        target = self.records / f"{self.work(row.run_id).name}.parquet"
        self.records.mkdir(exist_ok=True)  # never the study's folder: where that is gone, nothing is to come back
        return create(target, serialise(pa.Table.from_pylist([record], schema=RECORD)))

    def delete_temporaries(self) -> None:
        """Remove what processes that died in the middle of a write have left; only the results lock's holder may."""
        for folder in (self.root, self.records, *(self.root / name for name in TABLES)):
            for path in folder.glob(TEMPORARIES):
                if not path.is_dir():
                    path.unlink(missing_ok=True)

    def read_records(self, config_ids: Container[str] | None = None) -> dict[str, pa.Table]:
        """Read what the records that are not compacted yet will add to the two tables, by the tables' names.

        Args:
            config_ids: of these configurations alone; None for all.

        Raises:
            ResultsError: a record is damaged, or of another version.
        """
        self.check_kinds()
        paths = listed(self.records, "*.parquet")
        wanted = [path for path in paths if config_ids is None or config_id_of(path.stem) in config_ids]
        return split_records([self.read_record(path) for path in wanted])

    def read_table(self, name: str, records: dict[str, pa.Table] | None = None) -> pa.Table:
        """Read `runs` or `evaluations` of all algorithms, with the records that are not compacted yet.

        Args:
            name: one of TABLES.
            records: what `read_records` has returned, for a caller who reads both tables; read now if left out.

        Raises:
            ResultsError: a table or a record is damaged, or of another version.
        """
        # Read in the order opposite to that of writing: a result that is compacted meanwhile is found twice, and not
        # left out.
        new = (self.read_records() if records is None else records)[name]
        runs = self.tables("runs")
        table = runs if name == "runs" else self.tables(name)
        for known in (runs, table):  # the table wins
            new = rows_without(new, rows_of(known, new["run_id"])["run_id"])
        return pa.concat_tables([table, new])

    def read_rescores(self) -> pa.Table:
        """Read all that was scored again, in whatever way.

        Raises:
            ResultsError: a file is damaged, of another version, or not of the kind that its name says.
        """
        tables = [read_rescore_table(path) for path in listed(self.root / "rescores", "*.parquet")]
        return pa.concat_tables([RESCORES.empty_table(), *tables])

    def read_record(self, path: Location) -> pa.Table:
        """Read the record in `path`; no rows if it was compacted and deleted meanwhile.

        Raises:
            ResultsError: it is damaged, of another version, or not of the run that its name says.
        """
        advice = f"a launch moves it to {self.damaged} and trains its run again"
        try:
            record = read_table(path, RECORD_FILE, advice)
        except FileNotFoundError:
            return RECORD.empty_table()
        if record["run_id"].to_pylist() != [path.stem]:
            raise ResultsError(f"{path} cannot be used: it is not the record of run {path.stem}; {advice}")
        return record

    def check_pairs(self) -> None:
        """Look for a table whose other half has gone, which would be taken for empty.

        Raises:
            ResultsError: of an algorithm, the runs or the evaluations are missing, and not both.
        """
        for algorithm in ALGORITHMS:
            files = {name: self.table_file(name, algorithm) for name in TABLES}
            there = [name for name, file in files.items() if file.exists()]
            if len(there) == 1 and len(read_algorithms_table(files[there[0]], TABLES[there[0]])):
                (gone,) = set(TABLES) - set(there)
                raise ResultsError(
                    f"{files[gone]} is missing beside {files[there[0]]}: put it back, or move that one away as well: "
                    "then their runs are trained again"
                )

    def tables(self, name: str) -> pa.Table:
        """Read the rows that one of TABLES has of all algorithms; records are not among them."""
        layout = TABLES[name]
        # Whatever lies there: pandas, given the folder, reads files of any suffix.
        tables = [read_algorithms_table(path, layout) for path in listed(self.root / name, "*")]
        return pa.concat_tables([layout.schema.empty_table(), *tables])


def confirmation_of(study: str) -> str:
    """Return the name of the study that confirms this one."""
    return f"{study}-confirm"


def confirmed_study(folder: StudyFolder) -> str | None:
    """Return the name of the study that this one confirms; None where it is none's confirmation."""
    if not folder.study_file.exists():
        return None
    try:
        confirms = yaml.safe_load(read(folder.study_file)).get("confirms")
        return None if confirms is None else str(confirms["study"])
    except STUDY_FILE_ERRORS:  # of a file that was edited: nobody can tell
        return None


def read_runs(results: str | Location, study: str) -> pd.DataFrame:
    """Read one row per ended run of the study; the columns are those of `sweep.results.schema.RunRow`.

    Raises:
        FileNotFoundError: there is no such study.
        ResultsError: one of its files is damaged, or of another version.
    """
    return _frame(results, study, "runs")


def read_evaluations(results: str | Location, study: str) -> pd.DataFrame:
    """Read one row per (ended run, evaluation step); the columns are those of `sweep.results.schema.EvaluationRow`.

    Raises:
        FileNotFoundError: there is no such study.
        ResultsError: one of its files is damaged, or of another version.
    """
    return _frame(results, study, "evaluations")


def read_rescores(results: str | Location, study: str) -> pd.DataFrame:
    """Read one row per (model, way in which it was scored again); the columns are those of `RescoreRow`.

    Raises:
        FileNotFoundError: there is no such study.
        ResultsError: one of its files is damaged, or of another version.
    """
    frame: pd.DataFrame = _existing(results, study).read_rescores().to_pandas()
    return frame


def _frame(results: str | Location, study: str, name: str) -> pd.DataFrame:
    frame: pd.DataFrame = _existing(results, study).read_table(name).to_pandas(integer_object_nulls=True)
    return frame.astype({column: "Int64" for column in NULLABLE_INTEGERS if column in frame})


def _existing(results: str | Location, study: str) -> StudyFolder:
    folder = StudyFolder(results, study)
    if not folder.root.is_dir():
        raise FileNotFoundError(f"there is no study {study!r} in the results folder {results}")
    return folder


def read_rescore_table(path: Location) -> pa.Table:
    """Read the models that were scored again in the way that the file's name says.

    Raises:
        FileNotFoundError: there is no such file.
        ResultsError: it is damaged, of another version, or of another kind: a second copy, say.
    """
    advice = f"move it out of {path.parent}: bigwae rescore scores its models again"
    table = read_table(path, RESCORE_TABLE, advice)
    if any(RescoreRow(**row).kind != path.stem for row in table.to_pylist()):
        raise ResultsError(f"{path} cannot be used: it is not the table of its name; {advice}")
    return table


def read_algorithms_table(path: Location, layout: Layout) -> pa.Table:
    """Read the file of a table that holds the rows of the algorithm of its name.

    Raises:
        ResultsError: it is damaged, of another version, has rows of another algorithm, or another name.
    """
    refuse_stranger(path)
    advice = f"move {path.name} out of runs/ and evaluations/: then a launch trains its runs again"
    table = read_table(path, layout, advice)
    if not pc.all(pc.equal(table["algorithm"], path.stem), min_count=0).as_py():
        raise ResultsError(f"{path} cannot be used: it is not the table of one algorithm; {advice}")
    return table


def refuse_stranger(path: Location) -> None:
    """Make sure that a file of a table's folder has the name of an algorithm's table.

    Raises:
        ResultsError: it has another, like the second copies that programs which synchronise folders make.
    """
    if path.name not in {f"{algorithm}.parquet" for algorithm in ALGORITHMS}:
        raise ResultsError(
            f"{path} cannot be used: it is not the table of one algorithm; move it out of {path.parent}, where every "
            "file counts as results"
        )
