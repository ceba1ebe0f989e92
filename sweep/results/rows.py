"""Rows of the results' tables: chosen by their runs, and turned back into the run that each describes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wae_core.run import Hyperparameters, Protocol, Run


def rows_of(table: pa.Table, run_ids: Iterable[str] | pa.ChunkedArray) -> pa.Table:
    """Return the rows of `table` whose run_id is one of these."""
    return table.filter(pc.is_in(table["run_id"], value_set=_array(run_ids)))


def rows_without(table: pa.Table, run_ids: Iterable[str] | pa.ChunkedArray) -> pa.Table:
    """Return the rows of `table` whose run_id is none of these."""
    return table.filter(pc.invert(pc.is_in(table["run_id"], value_set=_array(run_ids))))


def run_of(row: Mapping[str, Any], study: str, study_seed: int, protocol: Protocol) -> Run:
    """Return the run that a row describes.

    Args:
        row: at least its coordinates (`algorithm`, `config_index`, `seed`) and its hyperparameters by column, as a
            row of `runs` or of the plan has them; None where a hyperparameter does not apply.
        study: the name of the study.
        study_seed: the study's seed, of which all random streams derive.
        protocol: what the study fixes for all its runs.
    """
    return Run(
        study=study,
        study_seed=study_seed,
        algorithm=row["algorithm"],
        config_index=row["config_index"],
        seed=row["seed"],
        hyperparameters=Hyperparameters(**{field.name: row[field.name] for field in fields(Hyperparameters)}),
        protocol=protocol,
    )


def _array(run_ids: Iterable[str] | pa.ChunkedArray) -> pa.Array:
    return run_ids.combine_chunks() if isinstance(run_ids, pa.ChunkedArray) else pa.array(run_ids, pa.string())
