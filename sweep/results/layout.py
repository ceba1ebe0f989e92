"""What each kind of Parquet file of a results folder holds: its columns, its key, and the values that are allowed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from sweep.results.schema import ADDED, EVALUATIONS, OPTIONAL, READABLE, RECORD, RESCORES, RUNS, STATUSES
from wae_core.run import RUN_ID


@dataclass(frozen=True)
class Layout:
    """One kind of file.

    Attributes:
        schema: its columns, in their order.
        key: the columns that name a row, run_id among them: each run_id is then that of the row's algorithm,
            configuration and seed, and no two rows agree in the key. Empty where rows may repeat.
        allowed: of some columns, all values that they may have.
        evaluations: the layout of what each row's column `evaluations` lists; None where there is no such column.
    """

    schema: pa.Schema
    key: tuple[str, ...] = ()
    allowed: Mapping[str, Collection[object]] = field(default_factory=dict)
    evaluations: Layout | None = None

    def check_columns(self, found: pa.Schema) -> None:
        """Compare a file's columns with the declared ones, of which an older version may lack those of ADDED.

        Raises:
            ValueError: they differ; the message is the reason, for the middle of a sentence.
        """
        expected = [field for field in self.schema if field.name not in ADDED or field.name in found.names]
        if found.equals(pa.schema(expected)):
            return
        names = [field.name for field in expected]
        lacks = [name for name in names if name not in found.names]
        if lacks:
            raise ValueError(f"another version wrote it, it lacks the column {lacks[0]}")
        unknown = [name for name in found.names if name not in self.schema.names]
        if unknown:
            raise ValueError(f"it has an unknown column {unknown[0]!r}")
        other = [n for n in names if found.names.count(n) > 1 or found.field(n) != self.schema.field(n)]
        raise ValueError(
            f"column {other[0]} is not {self.schema.field(other[0]).type}" if other else "its columns are mixed up"
        )

    def complete(self, table: pa.Table) -> pa.Table:
        """Return a table with the columns, empty, that the older version which wrote it lacks.

        Raises:
            ValueError: it is of no older version; the message is the reason, for the middle of a sentence.
        """
        for column in self.schema:
            if column.name not in table.schema.names:
                if pc.any(pc.greater_equal(table["schema_version"], ADDED[column.name])).as_py():
                    raise ValueError(f"it lacks the column {column.name}")
                table = table.append_column(column, pa.nulls(len(table), column.type))
        return table.select(self.schema.names)

    def check_rows(self, table: pa.Table) -> None:
        """Look for values that are of the right type, and yet none that a sweep of this version writes.

        Raises:
            ValueError: there is one; the message is the reason, for the middle of a sentence.
            OverflowError: a date is beyond Python's years.
        """
        for name in self.schema.names:
            if name not in OPTIONAL and table[name].null_count:
                raise ValueError(f"column {name} has empty fields")
        if self.key:
            self._check_key(table)
        for name, allowed in self.allowed.items():
            for value in pc.unique(table[name]).to_pylist():
                if value not in allowed:
                    raise ValueError(f"{name} is {value!r} and none of {', '.join(map(str, allowed))}")
        for column in self.schema:
            if pa.types.is_timestamp(column.type):
                table[column.name].to_pylist()  # raises where Python's years end
        if self.evaluations is not None:
            evaluations = flat_evaluations(table)
            self.evaluations.check_rows(evaluations)
            if not set(evaluations["run_id"].to_pylist()) <= set(table["run_id"].to_pylist()):
                raise ValueError("it has evaluations of another run")

    def _check_key(self, table: pa.Table) -> None:
        """Refuse a run_id that is not its row's, since it becomes part of paths, and rows of the same key."""
        names = ["run_id", "algorithm", "config_index", "seed"]
        runs = _distinct(table, names)
        for run_id, algorithm, index, seed in zip(*(runs[name].to_pylist() for name in names), strict=True):
            if not RUN_ID.fullmatch(run_id) or run_id != f"{algorithm}-{index:05d}-s{seed}":
                coordinates = f"{algorithm!r}, configuration {index}, seed {seed}"
                raise ValueError(f"run_id {run_id!r} is not that of {coordinates}")
        if len(table) > 1 and len(_distinct(table, list(self.key))) < len(table):
            raise ValueError(f"it has two rows of one {' and '.join(self.key)}")


def flat_evaluations(records: pa.Table) -> pa.Table:
    """Return the rows of the table `evaluations` that the records hold."""
    structs = pc.list_flatten(records["evaluations"].combine_chunks())
    return (pa.Table.from_struct_array(structs) if len(structs) else EVALUATIONS.empty_table()).cast(EVALUATIONS)


def split_records(records: Sequence[pa.Table]) -> dict[str, pa.Table]:
    """Return the rows that the records hold of each of the two tables, by its name."""
    table = pa.concat_tables([RECORD.empty_table(), *records]).combine_chunks()
    return {"runs": table.select(RUNS.names), "evaluations": flat_evaluations(table)}


def _distinct(table: pa.Table, names: list[str]) -> pa.Table:
    return table.group_by(names, use_threads=False).aggregate([])  # for one row, threads take twice the time


_RESULTS: Mapping[str, Collection[object]] = {"schema_version": READABLE, "status": STATUSES}
RUN_TABLE = Layout(RUNS, key=("run_id",), allowed=_RESULTS)
RESCORE_TABLE = Layout(RESCORES, key=("run_id",), allowed={"schema_version": READABLE})
EVALUATION_TABLE = Layout(EVALUATIONS, key=("run_id", "step"))
RECORD_FILE = Layout(RECORD, key=("run_id",), allowed=_RESULTS, evaluations=EVALUATION_TABLE)


def rows_of(table: pa.Table, run_ids: Iterable[str] | pa.ChunkedArray) -> pa.Table:
    """Return the rows of `table` whose run_id is one of these."""
    return table.filter(pc.is_in(table["run_id"], value_set=_array(run_ids)))


def rows_without(table: pa.Table, run_ids: Iterable[str] | pa.ChunkedArray) -> pa.Table:
    """Return the rows of `table` whose run_id is none of these."""
    return table.filter(pc.invert(pc.is_in(table["run_id"], value_set=_array(run_ids))))


def _array(run_ids: Iterable[str] | pa.ChunkedArray) -> pa.Array:
    return run_ids.combine_chunks() if isinstance(run_ids, pa.ChunkedArray) else pa.array(run_ids, pa.string())
