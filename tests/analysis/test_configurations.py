"""The table of configurations: one rule for divergence, whole seeds, and studies that are never pooled."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.configurations import configurations, fid_matrix, is_paired, judged_fids
from tests.analysis.test_analysis import frame, run_row


def rows() -> pd.DataFrame:
    return frame(
        run_row("vae", 0, 0, 10.0), run_row("vae", 0, 1, 14.0), run_row("vae", 0, 2, 12.0),
        run_row("vae", 1, 0, 5.0, status="diverged"), run_row("vae", 1, 1, 6.0), run_row("vae", 1, 2, 7.0),
        run_row("vae", 2, 0, None, status="failed"), run_row("vae", 2, 1, 8.0), run_row("vae", 2, 2, 9.0),
        run_row("wae-mmd", 0, 0, 11.0),
    )  # fmt: skip


def one(table: pd.DataFrame, algorithm: str, index: int) -> dict[str, Any]:
    (row,) = table[(table["algorithm"] == algorithm) & (table["config_index"] == index)].to_dict("records")
    return {str(name): value for name, value in row.items()}


def test_a_row_per_configuration() -> None:
    table = configurations(rows())
    assert len(table) == 4 and list(table.columns[:3]) == ["study", "algorithm", "config_index"]
    first = one(table, "vae", 0)
    assert (first["seeds"], first["completed"], first["diverged"], first["failed"]) == (3, 3, 0, 0)
    assert (first["fid_mean"], first["fid_sd"], first["fid_min"]) == (12.0, 2.0, 10.0)


def test_a_diverged_run_is_infinitely_bad_and_a_failed_one_left_out() -> None:
    fids = judged_fids(rows()).tolist()
    assert fids[3] == math.inf and np.isnan(fids[6])
    table = configurations(rows())
    diverged, failed = one(table, "vae", 1), one(table, "vae", 2)
    assert (diverged["fid_mean"], diverged["confirmed_mean"], diverged["fid_min"]) == (math.inf, math.inf, 6.0)
    assert (failed["fid_mean"], failed["seeds"], failed["failed"]) == (8.5, 2, 1)


def test_where_all_seeds_failed_there_is_no_figure() -> None:
    table = configurations(frame(*(run_row("vae", 0, seed, None, status="failed") for seed in range(3))))
    assert table["seeds"].tolist() == [0] and table["fid_mean"].isna().all()


def test_two_studies_are_never_pooled() -> None:
    both = pd.concat([rows(), rows().assign(study="another")], ignore_index=True)
    assert len(configurations(both)) == 8
    with pytest.raises(ValueError, match="another, "):
        fid_matrix(both, "vae")
    with pytest.raises(ValueError, match="never pooled"):
        is_paired(configurations(both))


def test_a_matrix_has_the_configurations_with_every_seed() -> None:
    matrix = fid_matrix(rows(), "vae")
    assert matrix.index.tolist() == [0, 1] and matrix.to_numpy()[1].tolist() == [math.inf, 6.0, 7.0]
    assert fid_matrix(rows(), "wae-mmd").empty


def test_draws_are_paired_where_the_shared_hyperparameters_agree() -> None:
    drawn = frame(run_row("vae", 0, 0, 1.0), run_row("wae-mmd", 0, 0, 2.0))
    assert is_paired(configurations(drawn))
    proposed = frame(run_row("vae", 0, 0, 1.0), run_row("wae-mmd", 0, 0, 2.0, latent_dim=3))
    assert not is_paired(configurations(proposed))
    assert not is_paired(configurations(frame(run_row("vae", 0, 0, 1.0)))), "one algorithm has no partner"
