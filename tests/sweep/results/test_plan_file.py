"""plan.parquet: a row per planned run, typed whatever it holds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sweep.results.plan_file import PLAN, plan_table
from sweep.search.plan import plan_runs
from sweep.settings.settings import Study
from wae_core.run import Hyperparameters


def test_the_plan_round_trips_through_parquet_with_typed_nulls(study: Study, tmp_path: Path) -> None:
    runs = [run for algorithm in study.space.algorithms for run in plan_runs(study, algorithm, 6)]
    path = tmp_path / "plan.parquet"
    for planned in (runs, plan_runs(study, "vae", 3), []):  # the last two have columns without any value
        pq.write_table(plan_table(planned), path)
        table = pq.read_table(path)
        assert table.schema.equals(PLAN)
        assert table.num_rows == len(planned)
        for row, run in zip(table.to_pylist(), planned, strict=True):
            hyperparameters = {name: row.pop(name) for name in asdict(run.hyperparameters)}
            assert Hyperparameters(**hyperparameters) == run.hyperparameters
            assert row == {
                "run_id": run.run_id,
                "algorithm": run.algorithm,
                "config_index": run.config_index,
                "config_id": run.config_id,
                "seed": run.seed,
                "steps_planned": run.protocol.steps,
            }
    assert PLAN.field("decoder_variance").type == pa.float64()
    assert PLAN.field("encoder").type == pa.string()
