"""Rows of runs that nobody has trained, as if somebody had."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sweep.results.schema import COMPLETED, RunRow, row_of
from wae_core.data.images import data_sha256
from wae_core.evaluation.features import features_name
from wae_core.evaluation.selection import Evaluation, select_checkpoint
from wae_core.run import Run

digits_sha256 = functools.cache(lambda: data_sha256("digits"))


def made_up_row(run: Run, evaluations: Sequence[Evaluation], status: str = COMPLETED, **measured: Any) -> RunRow:
    """The row of a run with these evaluations, of which it has kept the best; `measured` are columns to change."""
    best = select_checkpoint(evaluations)
    columns = {
        "status": status,
        "status_reason": None if status == COMPLETED else f"it {status}",
        "confirmed_fid": best.fid + 0.5 if best else None,
        "fid_infinity": best.fid - 0.5 if best else None,
        "fid_features": features_name(run.protocol.fid_features),
        "fid_reference": "digits/held_out/1000",
        "fid_warning": None,
        "data_sha256": digits_sha256(),
        "train_seconds": 1.0,
        "eval_seconds": 2.0,
        "cpu_seconds": 3.0,
        "device": "cpu",
        "host": "here",
        "attempts": 1,
        "pack_size": 1,
        "git_commit": "unknown",
        "started_at": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        "ended_at": datetime(2026, 1, 2, 3, 5, 6, 789012, tzinfo=UTC),
        "checkpoint_path": f"work/{run.run_id}/best.safetensors" if best else None,
    }
    steps_done = evaluations[-1].step if evaluations else 0
    return row_of(run, steps_done, best, **columns | measured)
