"""The Parquet files of a results folder: written with a hash of themselves; read as declared, or refused."""

from __future__ import annotations

import hashlib
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq

from sweep.errors import ResultsError
from sweep.results.layout import Layout
from sweep.results.schema import NULLABLE_INTEGERS
from wae_core.storage.files import Location, NotAFile, read, write_atomically

HASH = b"sha256"  # key of the file's metadata
BLANK = b"sha256-of-this-file-with-these-64-bytes-in-the-place-of-the-hash"
UNREADABLE = (pa.ArrowException, OSError, ValueError, LookupError, TypeError, OverflowError, MemoryError)


# For pandas, which would make floats of whole numbers where one is null.
_NULLABLE = [
    {"name": name, "field_name": name, "pandas_type": "int64", "numpy_type": "Int64", "metadata": None}
    for name in NULLABLE_INTEGERS
]
_PANDAS = json.dumps({"index_columns": [], "column_indexes": [], "columns": _NULLABLE}).encode()


def write_table(path: Location, table: pa.Table) -> None:
    """Replace `path` by the table, serialised whole beforehand.

    Raises:
        OSError: the file cannot be written; the old one is still there.
    """
    write_atomically(path, serialise(table))


def read_table(path: Location, layout: Layout, advice: str) -> pa.Table:
    """Return the table in a file, as `parse` reads it; the file is read at once, since it may be replaced meanwhile.

    Raises:
        FileNotFoundError: there is no such file.
        ResultsError: it cannot be read, or as `parse` says.
    """
    try:
        data = read(path)
    except (NotAFile, PermissionError) as error:
        raise ResultsError(f"{path} cannot be read: {error.strerror}; {advice}") from error
    return parse(data, layout, path, advice)


def serialise(table: pa.Table) -> bytes:
    """Return the Parquet file of a table, which `parse` and every other Parquet reader understand."""
    buffer = io.BytesIO()
    # What makes a long column smaller makes a record, of one row, larger and slower; statistics nobody reads.
    is_long = len(table) > 1
    told = {b"pandas": _PANDAS} if set(NULLABLE_INTEGERS) <= set(table.column_names) else {}
    pq.write_table(
        table.replace_schema_metadata({HASH: BLANK} | told),
        buffer,
        use_dictionary=is_long,
        compression="snappy" if is_long else "none",
        write_statistics=False,
    )
    data = buffer.getvalue()
    before, _, after = data.rpartition(BLANK)
    return before + hashlib.sha256(data).hexdigest().encode() + after


def parse(data: bytes, layout: Layout, place: object, advice: str) -> pa.Table:
    """Return the table in `data`: every value as it was written, every row one of this version.

    A file without a hash, which another program wrote, is accepted if all else is right.

    Args:
        data: the whole file.
        layout: what kind of file it is.
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
        layout.check_columns(file.schema_arrow)
        table = file.read(use_threads=False)  # for one row, read_table and its threads take twice the time
        table.validate(full=True)
        table = layout.complete(table)
        layout.check_rows(table)
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ResultsError(f"{place} cannot be used: {reason}; {advice}") from error
    return table.replace_schema_metadata(None)
