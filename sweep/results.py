"""The results folder of one study: records that are created once, and the two tables derived from them."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sweep.schema import EVALUATIONS, FAILED, RECORD, RUNS, EvaluationRow, RunRow
from wae_core.checkpoint import write_atomically
from wae_core.run import ALGORITHMS


class StudyFolder:
    """Where a study's results lie; see the README for the layout."""

    def __init__(self, results: str | Path, study: str) -> None:
        self.root = Path(results) / study
        self.study_file = self.root / "study.yaml"
        self.plan_file = self.root / "plan.parquet"
        self.real_images_file = self.root / "real_images.json"
        self.attempts_file = self.root / "attempts.parquet"
        self.records = self.root / "records"

    def work(self, run_id: str) -> Path:
        """The run's own folder: samples.png, the best checkpoint, and its attempts while it runs."""
        return self.root / "work" / run_id

    def publish(self, row: RunRow, evaluations: Sequence[EvaluationRow]) -> bool:
        """Create the run's record, if there is none: its row and evaluations appear whole or not at all.

        Returns whether this call created it. A second result of the same run, of a worker that was thought dead,
        changes nothing.
        """
        record = asdict(row) | {"evaluations": [asdict(evaluation) for evaluation in evaluations]}
        target = self.records / f"{row.run_id}.parquet"
        # A rename would let the later of two results win; a link fails where the name is taken.
        complete = target.with_name(f".{target.name}.{os.uname().nodename}.{os.getpid()}.tmp")
        write_table(complete, pa.Table.from_pylist([record], schema=RECORD))
        try:
            os.link(complete, target)
        except FileExistsError:
            return False
        finally:
            complete.unlink()
        return True

    def read_table(self, name: str) -> pa.Table:
        """`runs` or `evaluations` of all algorithms, the records that no table has absorbed yet included."""
        # Read in the order opposite to that of writing: a result that is absorbed meanwhile is found twice, and not
        # left out.
        records = _split(_read_records(sorted(self.records.glob("*.parquet"))))
        runs = self._read_tables("runs", RUNS)
        table = runs if name == "runs" else self._read_tables("evaluations", EVALUATIONS)
        return pa.concat_tables([table, _without(records[name], runs, table)])

    def _read_tables(self, name: str, schema: pa.Schema) -> pa.Table:
        tables = [_read(path, schema) for path in sorted((self.root / name).glob("*.parquet"))]
        return pa.concat_tables([schema.empty_table(), *tables])


class Tables:
    """The two tables, a file per algorithm, in memory and on disk. Only the results lock's holder has one."""

    def __init__(self, folder: StudyFolder) -> None:
        """Read the tables, or create them typed and empty, and absorb what an earlier driver left."""
        self._folder = folder
        self._tables: dict[tuple[str, str], pa.Table] = {}
        for name, schema in (("runs", RUNS), ("evaluations", EVALUATIONS)):
            for algorithm in ALGORITHMS:
                path = self._path(name, algorithm)
                if path.exists():
                    self._tables[name, algorithm] = _read(path, schema)
                else:
                    self._tables[name, algorithm] = schema.empty_table()
                    self._write(name, algorithm)
        self.absorb()

    def run_ids(self) -> set[str]:
        """The runs that have a row."""
        return {
            run_id
            for (name, _), table in self._tables.items()
            if name == "runs"
            for run_id in table["run_id"].to_pylist()
        }

    def absorb(self) -> list[str]:
        """Move finished records into the tables, then delete them; returns the run_ids that became rows.

        Evaluations are written before runs, and records are deleted last: a crash at any point leaves either the
        record, which is absorbed again by run_id, or both tables with it.
        """
        paths = sorted(self._folder.records.glob("*.parquet"))
        if not paths:
            return []
        parts = _split(_read_records(paths))
        absorbed: list[str] = []
        for name in ("evaluations", "runs"):
            for algorithm in ALGORITHMS:
                part = parts[name].filter(pc.equal(parts[name]["algorithm"], algorithm))
                new = _without(part, self._tables["runs", algorithm], self._tables[name, algorithm])
                if len(new):
                    self._tables[name, algorithm] = pa.concat_tables([self._tables[name, algorithm], new])
                    self._write(name, algorithm)
                    if name == "runs":
                        absorbed += new["run_id"].to_pylist()
        present = self.run_ids()
        for path in paths:
            if path.stem in present:
                path.unlink()
        return absorbed

    def drop_failed(self) -> int:
        """Take the failed runs out of the tables, so that they are missing again; returns how many they were.

        Evaluations go first: a crash in between leaves failed rows, which the next call drops.
        """
        count = 0
        for algorithm in ALGORITHMS:
            runs = self._tables["runs", algorithm]
            failed = runs.filter(pc.equal(runs["status"], FAILED))
            count += len(failed)
            for name in ("evaluations", "runs") if len(failed) else ():
                self._tables[name, algorithm] = _without(self._tables[name, algorithm], failed)
                self._write(name, algorithm)
        return count

    def _path(self, name: str, algorithm: str) -> Path:
        return self._folder.root / name / f"{algorithm}.parquet"

    def _write(self, name: str, algorithm: str) -> None:
        path = self._path(name, algorithm)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(path, self._tables[name, algorithm].combine_chunks())


def write_table(path: Path, table: pa.Table) -> None:
    """Replace `path` by the table, serialised whole beforehand."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    write_atomically(path, buffer.getvalue())


def read_runs(results: str | Path, study: str) -> pd.DataFrame:
    """One row per ended run of the study; the columns are those of `sweep.schema.RunRow`.

    Raises:
        FileNotFoundError: there is no such study.
    """
    return _frame(results, study, "runs")


def read_evaluations(results: str | Path, study: str) -> pd.DataFrame:
    """One row per (ended run, evaluation step); the columns are those of `sweep.schema.EvaluationRow`.

    Raises:
        FileNotFoundError: there is no such study.
    """
    return _frame(results, study, "evaluations")


def _frame(results: str | Path, study: str, name: str) -> pd.DataFrame:
    folder = StudyFolder(results, study)
    if not folder.root.is_dir():
        raise FileNotFoundError(f"there is no study {study!r} in the results folder {results}")
    frame: pd.DataFrame = folder.read_table(name).to_pandas()
    return frame


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    # Read at once: the file may be replaced or deleted meanwhile.
    return pq.read_table(io.BytesIO(path.read_bytes()), schema=schema)


def _read_records(paths: Iterable[Path]) -> pa.Table:
    """All records among `paths`; one that was absorbed and deleted meanwhile is passed over."""
    tables = []
    for path in paths:
        try:
            data = path.read_bytes()  # at once, as in _read
        except FileNotFoundError:
            continue
        # For one row, read_table and its schema take twice the time of this.
        tables.append(pq.ParquetFile(io.BytesIO(data)).read(use_threads=False))
    if not tables:
        return RECORD.empty_table()
    return pa.concat_tables(tables).combine_chunks().cast(RECORD)


def _split(records: pa.Table) -> dict[str, pa.Table]:
    evaluations = pc.list_flatten(records["evaluations"].combine_chunks())
    flat = pa.Table.from_struct_array(evaluations) if len(evaluations) else EVALUATIONS.empty_table()
    return {"runs": records.select(RUNS.names), "evaluations": flat.cast(EVALUATIONS)}


def _without(new: pa.Table, *present: pa.Table) -> pa.Table:
    """The rows of `new` whose run_id no table of `present` has: the table wins."""
    for table in present:
        known = pc.is_in(new["run_id"], value_set=table["run_id"].combine_chunks())
        new = new.filter(pc.invert(known))
    return new
