"""plan.parquet: a row per planned run, typed whatever it holds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sweep.results import plan_file
from sweep.results.folder import StudyFolder
from sweep.results.plan_file import PLAN, PlanFile, plan_table, planned_runs
from sweep.search.plan import plan_runs
from sweep.settings.settings import Study
from tests.places import local
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


def test_a_plan_that_grows_is_read_once_and_holds_what_was_written(
    study: Study, folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = plan_runs(study, "vae", 12)
    PlanFile(folder).extend(runs[:3])
    plan = PlanFile(folder)

    def fail(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(plan_file, "read_table", fail)
        plan.extend(runs[3:6])
        with monkeypatch.context() as full:
            full.setattr(plan_file, "write_table", fail)
            with pytest.raises(OSError, match="no space left"):
                plan.extend(runs[6:9])
        plan.extend(runs[4:12])  # some of them planned before, and three that could not be written
        written = local(folder.plan_file).stat().st_mtime_ns
        plan.extend(runs)
        assert local(folder.plan_file).stat().st_mtime_ns == written
    assert planned_runs(folder, study) == runs
