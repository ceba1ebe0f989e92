"""The results folder of one study: records that are created once, and the two tables derived from them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from sweep.errors import ResultsError
from sweep.results.parquet import flat_evaluations, read_table, serialise, write_table
from sweep.results.schema import EVALUATIONS, FAILED, RECORD, RUNS, EvaluationRow, RunRow
from wae_core.run import ALGORITHMS, RUN_ID
from wae_core.storage.files import TEMPORARIES, Location, ObjectPath, OwnObject, create, listed, location

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
        self.records = self.root / "records"
        self.damaged = self.root / "damaged"  # records that could not be read

    def work(self, run_id: str) -> Location:
        """The run's own folder: samples.png, the best checkpoint, and its attempts while it runs.

        Raises:
            ResultsError: it is no run_id, and could lead out of the folder.
        """
        if not RUN_ID.fullmatch(run_id):
            raise ResultsError(f"run_id is {run_id!r}, but it is of the form wae-mmd-00012-s2")
        return self.root / "work" / run_id

    def publish(self, row: RunRow, evaluations: Sequence[EvaluationRow]) -> bool:
        """Create the run's record, if there is none: its row and evaluations appear whole or not at all.

        Returns whether this call created it. A second result of the same run, of a worker that was thought dead,
        changes nothing.
        """
        record = asdict(row) | {"evaluations": [asdict(evaluation) for evaluation in evaluations]}
        target = self.records / f"{self.work(row.run_id).name}.parquet"
        return create(target, serialise(pa.Table.from_pylist([record], schema=RECORD)))

    def delete_temporaries(self) -> None:
        """Remove what processes that died in the middle of a write have left; only the results lock's holder may."""
        for folder in (self.root, self.records, self.root / "runs", self.root / "evaluations"):
            for path in folder.glob(TEMPORARIES):
                path.unlink(missing_ok=True)

    def read_records(self) -> dict[str, pa.Table]:
        """What the records that no table has absorbed yet will add to the two tables.

        Raises:
            ResultsError: a record is damaged, or of another version.
        """
        return _split([self.read_record(path) for path in listed(self.records, "*.parquet")])

    def read_table(self, name: str, records: dict[str, pa.Table] | None = None) -> pa.Table:
        """`runs` or `evaluations` of all algorithms, the records that no table has absorbed yet included.

        Args:
            records: what `read_records` has returned, for a caller who reads both tables; read now if left out.

        Raises:
            ResultsError: a table or a record is damaged, or of another version.
        """
        # Read in the order opposite to that of writing: a result that is absorbed meanwhile is found twice, and not
        # left out.
        records = self.read_records() if records is None else records
        runs = self._read_tables("runs", RUNS)
        table = runs if name == "runs" else self._read_tables("evaluations", EVALUATIONS)
        return pa.concat_tables([table, _without(records[name], runs, table)])

    def _read_tables(self, name: str, schema: pa.Schema) -> pa.Table:
        tables = [_read(path, schema) for path in listed(self.root / name, "*.parquet")]
        return pa.concat_tables([schema.empty_table(), *tables])

    def read_record(self, path: Location) -> pa.Table:
        """The record in `path`; no rows if it was absorbed and deleted meanwhile.

        Raises:
            ResultsError: it is damaged, of another version, or not of the run that its name says.
        """
        advice = f"a launch moves it to {self.damaged} and trains its run again"
        try:
            record = read_table(path, RECORD, advice)
        except FileNotFoundError:
            return RECORD.empty_table()
        if record["run_id"].to_pylist() != [path.stem]:
            raise ResultsError(f"{path} cannot be used: it is not the record of run {path.stem}; {advice}")
        return record


class Tables:
    """The two tables, a file per algorithm, in memory and on disk. Only the results lock's holder has one.

    Attributes:
        problems: a sentence for each record that could not be read.
    """

    def __init__(self, folder: StudyFolder) -> None:
        """Read the tables, or create them typed and empty, and absorb what an earlier driver left.

        Raises:
            ResultsError: a table is damaged, or of another version.
        """
        self._folder = folder
        self.problems: list[str] = []
        folder.delete_temporaries()
        self._tables: dict[tuple[str, str], pa.Table] = {}
        self._objects: dict[Location, OwnObject] = {}  # the tables that lie in an object store
        for name, schema in (("runs", RUNS), ("evaluations", EVALUATIONS)):
            (folder.root / name).mkdir(parents=True, exist_ok=True)
            for algorithm in ALGORITHMS:
                path = self._path(name, algorithm)
                exists = path.exists()
                if isinstance(path, ObjectPath):
                    self._objects[path] = OwnObject(path)
                    if exists:
                        self._objects[path].read()
                table = _read(path, schema) if exists else schema.empty_table()
                self._tables[name, algorithm] = table
                # In a store it is written anew: a driver that was cut off, and goes on, has the older version.
                if not exists or isinstance(path, ObjectPath):
                    self._write(name, algorithm, table)
        self._drop_evaluations_without_row()
        self.absorb()

    def run_ids(self) -> set[str]:
        """The runs that have a row."""
        return {
            run_id
            for (name, _), table in self._tables.items()
            if name == "runs"
            for run_id in table["run_id"].to_pylist()
        }

    def rows(self) -> list[RunRow]:
        """The ended runs."""
        return [
            RunRow(**row) for (name, _), table in self._tables.items() if name == "runs" for row in table.to_pylist()
        ]

    def absorb(self) -> list[str]:
        """Move finished records into the tables, then delete them; returns the run_ids that became rows.

        Evaluations are written before runs, and records are deleted last: a crash or a failed write at any point
        leaves either the record, which is absorbed again by run_id, or both tables with it. A record that cannot be
        read is set aside: it holds up no other, nor a new result of its run.

        Raises:
            OSError: a table could not be written; its records stay, and the next call tries again.
        """
        paths = listed(self._folder.records, "*.parquet")
        if not paths:
            return []
        records = []
        for path in paths:
            try:
                records.append(self._folder.read_record(path))
            except ResultsError as error:
                self._folder.damaged.mkdir(exist_ok=True)
                aside = self._folder.damaged / f"{path.name}.{time.time_ns()}"
                path.replace(aside)  # type: ignore[arg-type]  # both are of the same kind
                self.problems.append(str(error))
        parts = _split(records)
        absorbed: list[str] = []
        for algorithm in ALGORITHMS:
            runs, evaluations = self._tables["runs", algorithm], self._tables["evaluations", algorithm]
            new = _without(parts["runs"].filter(pc.equal(parts["runs"]["algorithm"], algorithm)), runs)
            if len(new):
                own = _only(parts["evaluations"], new)  # in the place of any that a failed write has left
                self._write("evaluations", algorithm, pa.concat_tables([_without(evaluations, new), own]))
                self._write("runs", algorithm, pa.concat_tables([runs, new]))
                absorbed += new["run_id"].to_pylist()
        present = self.run_ids()
        for path in paths:
            if path.stem in present:
                path.unlink(missing_ok=True)  # it may have been set aside
        return absorbed

    def drop_failed(self) -> int:
        """Take the failed runs out of the tables, so that they are missing again; returns how many they were.

        Rows go first: what a crash in between leaves of their evaluations is dropped when the tables are next read.
        """
        count = 0
        for algorithm in ALGORITHMS:
            runs, evaluations = self._tables["runs", algorithm], self._tables["evaluations", algorithm]
            failed = runs.filter(pc.equal(runs["status"], FAILED))
            if len(failed):
                self._write("runs", algorithm, _without(runs, failed))
                self._write("evaluations", algorithm, _without(evaluations, failed))
                count += len(failed)
        return count

    def _drop_evaluations_without_row(self) -> None:
        """A driver died between the writes of the two tables; where there is a record, it has them as well."""
        for algorithm in ALGORITHMS:
            evaluations = self._tables["evaluations", algorithm]
            with_row = _only(evaluations, self._tables["runs", algorithm])
            if len(with_row) < len(evaluations):
                self._write("evaluations", algorithm, with_row)

    def beyond_best(self, count: int) -> list[str]:
        """The runs that have a checkpoint and are not among the `count` of lowest FID of their algorithm."""
        run_ids: list[str] = []
        for algorithm in ALGORITHMS:
            runs = self._tables["runs", algorithm]
            kept = runs.filter(pc.is_valid(runs["checkpoint_path"])).sort_by(
                [("best_fid", "ascending"), ("run_id", "ascending")]
            )
            run_ids += kept["run_id"].to_pylist()[count:]
        return run_ids

    def forget_checkpoints(self, run_ids: Sequence[str]) -> None:
        """Note that these runs have no checkpoint any more."""
        gone = pa.array(run_ids, pa.string())
        for algorithm in ALGORITHMS:
            runs = self._tables["runs", algorithm]
            is_gone = pc.is_in(runs["run_id"], value_set=gone)
            if pc.any(is_gone).as_py():
                column = runs.schema.get_field_index("checkpoint_path")
                paths = pc.if_else(is_gone, None, runs["checkpoint_path"])
                self._write("runs", algorithm, runs.set_column(column, runs.schema.field(column), paths))

    def _path(self, name: str, algorithm: str) -> Location:
        return self._folder.root / name / f"{algorithm}.parquet"

    def _write(self, name: str, algorithm: str, table: pa.Table) -> None:
        """Replace a table on disk, and then in memory: what could not be written is not believed."""
        path, table = self._path(name, algorithm), table.combine_chunks()
        if isinstance(path, ObjectPath):
            self._objects[path].put(serialise(table))
        else:
            write_table(path, table)
        self._tables[name, algorithm] = table


def read_runs(results: str | Location, study: str) -> pd.DataFrame:
    """One row per ended run of the study; the columns are those of `sweep.results.schema.RunRow`.

    Raises:
        FileNotFoundError: there is no such study.
        ResultsError: one of its files is damaged, or of another version.
    """
    return _frame(results, study, "runs")


def read_evaluations(results: str | Location, study: str) -> pd.DataFrame:
    """One row per (ended run, evaluation step); the columns are those of `sweep.results.schema.EvaluationRow`.

    Raises:
        FileNotFoundError: there is no such study.
        ResultsError: one of its files is damaged, or of another version.
    """
    return _frame(results, study, "evaluations")


def _frame(results: str | Location, study: str, name: str) -> pd.DataFrame:
    folder = StudyFolder(results, study)
    if not folder.root.is_dir():
        raise FileNotFoundError(f"there is no study {study!r} in the results folder {results}")
    frame: pd.DataFrame = folder.read_table(name).to_pandas()
    return frame


def _read(path: Location, schema: pa.Schema) -> pa.Table:
    advice = f"move {path.name} out of runs/ and evaluations/: then a launch trains its runs again"
    table = read_table(path, schema, advice)
    if path.stem not in ALGORITHMS or not pc.all(pc.equal(table["algorithm"], path.stem), min_count=0).as_py():
        raise ResultsError(f"{path} cannot be used: it is not the table of one algorithm; {advice}")
    return table


def _split(records: Sequence[pa.Table]) -> dict[str, pa.Table]:
    """The rows of the two tables that the records hold."""
    table = pa.concat_tables([RECORD.empty_table(), *records]).combine_chunks()
    return {"runs": table.select(RUNS.names), "evaluations": flat_evaluations(table)}


def _only(table: pa.Table, runs: pa.Table) -> pa.Table:
    """The rows of `table` whose run_id `runs` has."""
    return table.filter(pc.is_in(table["run_id"], value_set=runs["run_id"].combine_chunks()))


def _without(new: pa.Table, *present: pa.Table) -> pa.Table:
    """The rows of `new` whose run_id no table of `present` has: the table wins."""
    for table in present:
        known = pc.is_in(new["run_id"], value_set=table["run_id"].combine_chunks())
        new = new.filter(pc.invert(known))
    return new
