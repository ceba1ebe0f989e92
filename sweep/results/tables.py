"""The two tables, runs and evaluations, which the holder of the results lock derives from the records."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from sweep.errors import ResultsError
from sweep.results.belonging import Rules, fids_by_run, read_own_record
from sweep.results.folder import TABLES, StudyFolder, read_algorithms_table, refuse_stranger
from sweep.results.judging import judged_fid
from sweep.results.layout import Layout, rows_of, rows_without, split_records
from sweep.results.lock import Check
from sweep.results.parquet import serialise, write_table
from sweep.results.schema import FAILED, RunRow
from wae_core.run import ALGORITHMS
from wae_core.storage.files import Location, listed
from wae_core.storage.own import OwnObject, own


class Tables:
    """The two tables, a file per algorithm, in memory and on disk. Only the results lock's holder has one.

    Attributes:
        problems: a sentence for each record or row that could not be used.
        dropped: the runs whose rows lacked evaluations, and which are missing now.
        rewriting_seconds: what the last compaction spent on rewriting the files, and what has been spent since; it
            grows with the study, and not with the number of new records.
    """

    def __init__(self, folder: StudyFolder, rules: Rules | None = None, check: Check = lambda: None) -> None:
        """Read the tables, or create them typed and empty, and compact what an earlier driver left.

        Args:
            rules: what rows and records must obey; None where the study is not known.
            check: asked before each write of a table; raises LockLost where another driver may hold the lock.

        Raises:
            ResultsError: a table is damaged, of another version or another study, or one of a pair is missing.
            OSError: a table cannot be written.
        """
        self._folder, self._rules = folder, rules
        self.problems: list[str] = []
        self.dropped: list[str] = []
        self.rewriting_seconds = 0.0
        folder.delete_temporaries()
        folder.check_pairs()
        for name in TABLES:
            (folder.root / name).mkdir(parents=True, exist_ok=True)
            for path in listed(folder.root / name, "*"):
                refuse_stranger(path)
        self._runs, self._evaluations = (
            {algorithm: _TableFile(folder.table_file(name, algorithm), layout, check) for algorithm in ALGORITHMS}
            for name, layout in TABLES.items()
        )
        self._drop_evaluations_without_row()
        if rules is not None:
            self._check_rows(rules)
        self.compact()

    def table(self, name: str) -> pa.Table:
        """Return the rows of one of TABLES that are known to be written, of all algorithms."""
        files = self._runs if name == "runs" else self._evaluations
        return pa.concat_tables([files[algorithm].table for algorithm in ALGORITHMS])

    def run_ids(self) -> set[str]:
        """Return the run_ids that have a row."""
        return {run_id for runs in self._runs.values() for run_id in runs.table["run_id"].to_pylist()}

    def rows(self) -> list[RunRow]:
        """Return the rows of the ended runs."""
        return [RunRow(**row) for runs in self._runs.values() for row in runs.table.to_pylist()]

    def compact(self) -> list[str]:
        """Move finished records into the tables, then delete them; returns the run_ids that became rows.

        Evaluations are written before runs, and records are deleted last: a crash or a failed write at any point
        leaves either the record, which is compacted again by run_id, or both tables with it. A record that cannot be
        read is set aside: it holds up no other, nor a new result of its run.

        Raises:
            OSError: a table could not be written; its records stay, and the next call tries again. LockLost and
                ConflictError are such: another driver may have written meanwhile.
        """
        paths = listed(self._folder.records, "*.parquet")
        if not paths:
            return []
        new_runs, new_evaluations = split_records(self._read_or_set_aside(paths)).values()
        began = time.monotonic()
        compacted: list[str] = []
        for algorithm in ALGORITHMS:
            runs, evaluations = self._runs[algorithm], self._evaluations[algorithm]
            new = new_runs.filter(pc.equal(new_runs["algorithm"], algorithm))
            new = rows_without(new, runs.table["run_id"])  # a run that has a row keeps it
            if len(new):
                own = rows_of(new_evaluations, new["run_id"])
                kept = rows_without(evaluations.table, new["run_id"])  # without any that a failed write has left
                evaluations.replace(pa.concat_tables([kept, own]))
                runs.replace(pa.concat_tables([runs.table, new]))
                compacted += new["run_id"].to_pylist()
        present = self.run_ids()
        self.rewriting_seconds = time.monotonic() - began
        for path in paths:
            if path.stem in present:
                path.unlink(missing_ok=True)  # it may have been set aside
        return compacted

    def drop_failed(self) -> int:
        """Take the failed runs out of the tables, so that they are missing again; returns how many they were.

        Rows go first: what a crash in between leaves of their evaluations is dropped when the tables are next read.

        Raises:
            OSError: a table could not be written.
        """
        count = 0
        for algorithm in ALGORITHMS:
            runs, evaluations = self._runs[algorithm], self._evaluations[algorithm]
            failed = runs.table.filter(pc.equal(runs.table["status"], FAILED))
            if len(failed):
                runs.replace(rows_without(runs.table, failed["run_id"]))
                evaluations.replace(rows_without(evaluations.table, failed["run_id"]))
                count += len(failed)
        return count

    def beyond_best(self, count: int) -> list[str]:
        """Return the runs that have a checkpoint and are not among the `count` of lowest FID of their algorithm."""
        run_ids: list[str] = []
        for runs in self._runs.values():
            kept = runs.table.filter(pc.is_valid(runs.table["checkpoint_path"]))
            fids = map(judged_fid, kept["status"].to_pylist(), kept["best_fid"].to_pylist())
            ranked = sorted(
                (math.inf if fid is None else fid, run_id)
                for fid, run_id in zip(fids, kept["run_id"].to_pylist(), strict=True)
            )
            run_ids += [run_id for _, run_id in ranked[count:]]
        return run_ids

    def forget_checkpoints(self, run_ids: Sequence[str]) -> None:
        """Note in the rows of these runs that they have no checkpoint any more.

        Raises:
            OSError: a table could not be written.
        """
        began, gone = time.monotonic(), pa.array(run_ids, pa.string())
        for runs in self._runs.values():
            is_gone = pc.is_in(runs.table["run_id"], value_set=gone)
            if pc.any(is_gone).as_py():
                column = runs.table.schema.get_field_index("checkpoint_path")
                paths = pc.if_else(is_gone, None, runs.table["checkpoint_path"])
                runs.replace(runs.table.set_column(column, runs.table.schema.field(column), paths))
        self.rewriting_seconds += time.monotonic() - began

    def _read_or_set_aside(self, paths: Sequence[Location]) -> list[pa.Table]:
        records = []
        for path in paths:
            try:
                if self._rules is None:
                    records.append(self._folder.read_record(path))
                else:
                    records.append(read_own_record(self._folder, path, self._rules))
            except ResultsError as error:
                path.replace(self._aside(path.name))  # type: ignore[arg-type]  # both are of the same kind
                self.problems.append(str(error))
        return records

    def _check_rows(self, rules: Rules) -> None:
        """Refuse rows of another study; a row that lacks evaluations is set aside, so that its run is missing."""
        for algorithm in ALGORITHMS:
            runs, evaluations = self._runs[algorithm], self._evaluations[algorithm]
            fids, lacking = fids_by_run(evaluations.table), {}
            for row in runs.table.to_pylist():
                if reason := rules.foreign(row):
                    raise ResultsError(
                        f"{runs.path} cannot be used: {row['run_id']} is not of this study: {reason}; put the "
                        "study's own table back, or give another results folder (RESULTS=)"
                    )
                if lack := rules.lacks(row, fids.get(row["run_id"], {})):
                    lacking[row["run_id"]] = lack
            if not lacking:
                continue
            write_table(self._aside(runs.path.name), rows_of(runs.table, lacking))
            write_table(self._aside(f"evaluations-{runs.path.name}"), rows_of(evaluations.table, lacking))
            runs.replace(rows_without(runs.table, lacking))
            evaluations.replace(rows_without(evaluations.table, lacking))
            self.dropped += lacking
            self.problems += [
                f"{run_id} is trained again, for {lack}; what there was of it lies in {self._folder.damaged}"
                for run_id, lack in lacking.items()
            ]

    def _aside(self, name: str) -> Location:
        """A new place for what cannot be used."""
        self._folder.damaged.mkdir(exist_ok=True)
        return self._folder.damaged / f"{name}.{time.time_ns()}"

    def _drop_evaluations_without_row(self) -> None:
        """A driver died between the writes of the two tables; where there is a record, it has them as well."""
        for algorithm in ALGORITHMS:
            evaluations = self._evaluations[algorithm]
            with_row = rows_of(evaluations.table, self._runs[algorithm].table["run_id"])
            if len(with_row) < len(evaluations.table):
                evaluations.replace(with_row)


class HeldFolder(StudyFolder):
    """A study's folder as the holder of its lock reads it: the tables from memory, and from no file."""

    def __init__(self, folder: StudyFolder, tables: Tables) -> None:
        super().__init__(folder.root.parent, folder.root.name)
        self._held = tables

    def tables(self, name: str) -> pa.Table:
        return self._held.table(name)


class _TableFile:
    """One algorithm's file of a table, and its content in memory, which follows the disk.

    Attributes:
        table: the rows that are known to be written.
    """

    def __init__(self, path: Location, layout: Layout, check: Check) -> None:
        """Read the file, or create it without rows."""
        self.path = path
        self._file, self._check = own(path), check
        exists = path.exists()
        self.table = read_algorithms_table(path, layout) if exists else layout.schema.empty_table()
        if exists:
            self._file.read()
        # In a store it is written anew: a driver that was cut off, and goes on, has the older version.
        if not exists or isinstance(self._file, OwnObject):
            self.replace(self.table)

    def replace(self, table: pa.Table) -> None:
        """Replace the table on disk, and then in memory: what could not be written is not believed."""
        table = table.combine_chunks()
        self._check()
        self._file.put(serialise(table))
        self.table = table
