"""The Parquet files of a results folder: written with a hash of themselves; read as declared, or refused."""

from __future__ import annotations

import hashlib
import io

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sweep.errors import ResultsError
from sweep.results.schema import EVALUATIONS, OPTIONAL, RUNS, SCHEMA_VERSION, STATUSES
from wae_core.run import RUN_ID
from wae_core.storage.files import Location, write_atomically

HASH = b"sha256"  # key of the file's metadata
BLANK = b"sha256-of-this-file-with-these-64-bytes-in-the-place-of-the-hash"
UNREADABLE = (pa.ArrowException, OSError, ValueError, LookupError, TypeError, OverflowError, MemoryError)


def write_table(path: Location, table: pa.Table) -> None:
    """Replace `path` by the table, serialised whole beforehand."""
    write_atomically(path, serialise(table))


def read_table(path: Location, schema: pa.Schema, advice: str) -> pa.Table:
    """The table in a file, as `parse` reads it; the file is read at once, since it may be replaced meanwhile."""
    try:
        data = path.read_bytes()
    except (IsADirectoryError, PermissionError) as error:
        raise ResultsError(f"{path} cannot be read: {error.strerror}; {advice}") from error
    return parse(data, schema, path, advice)


def serialise(table: pa.Table) -> bytes:
    """The Parquet file of a table, which `parse` and every other Parquet reader understand."""
    buffer = io.BytesIO()
    # What makes a long column smaller makes a record, of one row, larger and slower; statistics nobody reads.
    is_long = len(table) > 1
    pq.write_table(
        table.replace_schema_metadata({HASH: BLANK}),
        buffer,
        use_dictionary=is_long,
        compression="snappy" if is_long else "none",
        write_statistics=False,
    )
    data = buffer.getvalue()
    before, _, after = data.rpartition(BLANK)
    return before + hashlib.sha256(data).hexdigest().encode() + after


def parse(data: bytes, schema: pa.Schema, place: object, advice: str) -> pa.Table:
    """The table in `data`: every value as it was written, every row one of this version.

    A file without a hash, which another program wrote, is accepted if all else is right.

    Args:
        place: where the data come from, for the sentence.
        advice: what to do about a bad file, for the sentence.

    Raises:
        ResultsError: the data are no Parquet file, are damaged, have other columns, or hold rows that no sweep of
            this version writes.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        if (written := (file.metadata.metadata or {}).get(HASH)) is not None:
            before, _, after = data.rpartition(written)
            if hashlib.sha256(before + BLANK + after).hexdigest().encode() != written:
                raise ValueError("its hash is not the one that it was written with")
        _check_columns(file.schema_arrow, schema)
        table = file.read(use_threads=False)  # for one row, read_table and its threads take twice the time
        table.validate(full=True)
        _check_rows(table)
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ResultsError(f"{place} cannot be used: {reason}; {advice}") from error
    return table.replace_schema_metadata(None)


def _check_columns(found: pa.Schema, schema: pa.Schema) -> None:
    if found.equals(schema):
        return
    lacks = [name for name in schema.names if name not in found.names]
    if lacks:
        raise ValueError(f"another version wrote it, it lacks the column {lacks[0]}")
    unknown = [name for name in found.names if name not in schema.names]
    if unknown:
        raise ValueError(f"it has an unknown column {unknown[0]!r}")
    other = [name for name in schema.names if found.names.count(name) > 1 or found.field(name) != schema.field(name)]
    raise ValueError(
        f"column {other[0]} is not {schema.field(other[0]).type}" if other else "its columns are mixed up"
    )


def _check_rows(table: pa.Table) -> None:
    """Refuse values that are of the right type, and yet none of ours; the run_id is the one that becomes a path."""
    for name in table.column_names:
        if name not in OPTIONAL and table[name].null_count:
            raise ValueError(f"column {name} has empty fields")
    names = ["run_id", "algorithm", "config_index", "seed"]
    if "algorithm" not in table.column_names:  # attempts.parquet, of which there may be several of a run
        return
    runs = _distinct(table, names)
    for run_id, algorithm, index, seed in zip(*(runs[name].to_pylist() for name in names), strict=True):
        if not RUN_ID.fullmatch(run_id) or run_id != f"{algorithm}-{index:05d}-s{seed}":
            raise ValueError(f"run_id {run_id!r} is not that of {algorithm!r}, configuration {index}, seed {seed}")
    key = ["run_id", "step"] if "step" in table.column_names else ["run_id"]
    if len(table) > 1 and len(_distinct(table, key)) < len(table):
        raise ValueError(f"it has two rows of one {' and '.join(key)}")
    if set(RUNS.names) <= set(table.column_names):
        for name, allowed in (("schema_version", [SCHEMA_VERSION]), ("status", STATUSES)):
            for value in pc.unique(table[name]).to_pylist():
                if value not in allowed:
                    raise ValueError(f"{name} is {value!r} and none of {', '.join(map(str, allowed))}")
        table.select(["started_at", "ended_at"]).to_pylist()  # raises where Python's years end
    if "evaluations" in table.column_names:
        evaluations = flat_evaluations(table)
        _check_rows(evaluations)
        if not set(evaluations["run_id"].to_pylist()) <= set(table["run_id"].to_pylist()):
            raise ValueError("it has evaluations of another run")


def _distinct(table: pa.Table, names: list[str]) -> pa.Table:
    return table.group_by(names, use_threads=False).aggregate([])  # for one row, threads take twice the time


def flat_evaluations(records: pa.Table) -> pa.Table:
    """The rows of the table `evaluations` that the records hold."""
    structs = pc.list_flatten(records["evaluations"].combine_chunks())
    return (pa.Table.from_struct_array(structs) if len(structs) else EVALUATIONS.empty_table()).cast(EVALUATIONS)
