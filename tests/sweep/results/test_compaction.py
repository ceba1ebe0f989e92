"""What is deleted while results come in: training checkpoints of ended runs, and weights beyond a quota."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweep.errors import LockLost
from sweep.results import tables as tables_module
from sweep.results.compaction import SECONDS_BETWEEN_TABLES, TableKeeper, clean_up
from sweep.results.folder import StudyFolder
from sweep.results.parquet import serialise
from sweep.results.tables import Tables
from tests.places import local
from wae_core.run import Run

FIDS = {"vae": (30.0, 10.0, 20.0), "wae-mmd": (5.0, 6.0)}


@pytest.fixture
def ended(folder: StudyFolder, make_run: Callable[..., Run], make_result: Callable[..., Any]) -> list[Run]:
    """Runs that have just published; each has its weights and an attempt."""
    runs = []
    for algorithm, fids in FIDS.items():
        for seed, fid in enumerate(fids):
            run = make_run(algorithm, seed=seed)
            work = folder.work(run.run_id)
            (work / "attempt-001").mkdir(parents=True)
            for name in ("best.safetensors", "best.json", "samples.png"):
                Path(str(work / name)).write_bytes(b"x")
            folder.publish(*make_result(run, fids=(fid,)))
            runs.append(run)
    return runs


def with_weights(folder: StudyFolder) -> dict[str, list[str]]:
    """What the rows say, and what is there."""
    runs = folder.read_table("runs").to_pandas()
    paths = sorted(str(path) for path in runs["checkpoint_path"].dropna())
    files = sorted(str(path.relative_to(local(folder.root))) for path in Path(str(folder.root)).glob("work/*/best.*"))
    return {"rows": paths, "files": files}


def test_the_weights_of_the_best_of_each_algorithm_are_kept(folder: StudyFolder, ended: list[Run]) -> None:
    tables = Tables(folder)
    clean_up(folder, tables, tables.run_ids(), keep_best=2)
    kept = ["work/vae-00000-s1", "work/vae-00000-s2", "work/wae-mmd-00000-s0", "work/wae-mmd-00000-s1"]
    assert with_weights(folder) == {
        "rows": [f"{path}/best.safetensors" for path in kept],
        "files": sorted(f"{path}/best.{suffix}" for path in kept for suffix in ("json", "safetensors")),
    }
    assert len(list(Path(str(folder.root)).glob("work/*/samples.png"))) == len(ended), "figures stay"
    assert list(Path(str(folder.root)).glob("work/*/attempt-*")) == []


def test_without_a_quota_all_weights_stay(folder: StudyFolder, ended: list[Run]) -> None:
    tables = Tables(folder)
    clean_up(folder, tables, tables.run_ids(), keep_best=None)
    assert len(with_weights(folder)["rows"]) == len(ended)


def test_a_launch_after_a_crash_between_files_and_rows_finds_them_again(
    folder: StudyFolder, ended: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = Tables(folder)
    with monkeypatch.context() as patch:
        patch.setattr(Tables, "forget_checkpoints", lambda *_: None)
        clean_up(folder, tables, [], keep_best=1)
    assert len(with_weights(folder)["rows"]) == len(ended)
    tables = Tables(folder)
    clean_up(folder, tables, [], keep_best=1)
    assert with_weights(folder)["rows"] == [
        f"work/{name}/best.safetensors" for name in ("vae-00000-s1", "wae-mmd-00000-s0")
    ]


def test_the_longer_rewriting_takes_the_more_rarely_is_it_done(
    folder: StudyFolder, ended: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To read records takes long where many have come, not where the tables are large: it does not count."""
    clock = 0.0

    def takes(seconds: float, work: Callable[..., Any]) -> Callable[..., Any]:
        def slow(*args: Any) -> Any:
            nonlocal clock
            clock += seconds
            return work(*args)

        return slow

    monkeypatch.setattr(StudyFolder, "read_record", takes(100.0, StudyFolder.read_record))
    monkeypatch.setattr(tables_module, "serialise", takes(0.5, serialise))
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    tables = Tables(folder)
    keeper = TableKeeper(folder, tables, None, lambda: None, print)
    assert tables.run_ids() == {run.run_id for run in ended}
    assert keeper.pause == 20 * 0.5 * 4, "two tables of two algorithms"
    clean_up(folder, tables, [], keep_best=1)
    assert keeper.pause == 20 * 0.5 * 6, "and the runs of both once more"
    empty = Tables(StudyFolder(folder.root.parent, "other"))
    assert TableKeeper(folder, empty, None, lambda: None, print).pause == SECONDS_BETWEEN_TABLES


def test_who_has_lost_the_lock_compacts_nothing(folder: StudyFolder, ended: list[Run]) -> None:
    def lost() -> None:
        raise LockLost("taken over")

    tables = Tables(StudyFolder(folder.root.parent, "other"))
    records = len(list(folder.records.glob("*.parquet")))
    keeper = TableKeeper(folder, tables, None, lost, print)
    keeper.__enter__()
    with pytest.raises(LockLost):
        keeper.__exit__()
    assert len(list(folder.records.glob("*.parquet"))) == records == len(ended)
