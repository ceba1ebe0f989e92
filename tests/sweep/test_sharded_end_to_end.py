"""Runs of two processes each: rows as one process gives them, with real Ray, whoever of the two is killed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
import pandas as pd
import pytest

from sweep.results.folder import read_evaluations, read_runs
from tests.chaos.killer import SHARING, Blow, Killer, kill_worker
from tests.chaos.progress import left_behind, names
from tests.chaos.shaking import Sweep, run_to_the_end
from tests.sweep.front_door import finish, start
from tests.sweep.test_end_to_end import listening

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.long, pytest.mark.timeout(900)]

WORDS = (
    "alg=wae-gan",
    "budget=1",
    "study.seeds=1",
    "study.steps=400",
    "study.evaluation_steps=[12,400]",
    "study.fid_samples=200",
    "study.evaluation_images=50",
    "study.pretraining_steps=2",
    "study.width=4",
    "checkpoint_steps=20",
)
SHARED = ("cluster.accelerators_per_run=2", "cluster.workers=1")
OF_THE_MACHINE = ["device", "attempts", "started_at", "ended_at", "train_seconds", "eval_seconds", "cpu_seconds"]


def assert_alike(ours: pd.DataFrame, theirs: pd.DataFrame, tolerance: float) -> None:
    """The same columns and rows but for the machine's, figures to a relative tolerance."""
    assert list(ours.columns) == list(theirs.columns) and len(ours) == len(theirs)
    for name in ours.columns.difference(OF_THE_MACHINE):
        if ours[name].dtype == np.float64:
            np.testing.assert_allclose(ours[name], theirs[name], rtol=tolerance, err_msg=name)
        else:
            assert ours[name].astype(str).tolist() == theirs[name].astype(str).tolist(), name


def test_two_processes_give_the_rows_of_one_though_each_is_killed(tmp_path: Path) -> None:
    """As one process's within float32's rounding, after 12 steps; killed or not, to the bit."""
    alone, undisturbed, killed = (str(tmp_path / name) for name in ("alone", "undisturbed", "killed"))
    finish(start(f"results={alone}", "cluster=inprocess", *WORDS))
    finish(start(f"results={undisturbed}", *SHARED, *WORDS))
    sweep = Sweep([f"results={killed}", *SHARED, *WORDS], tmp_path / "log")

    def kill_colleague() -> bool:
        assert listening(sweep.pid) <= {"127.0.0.1", "::1"}, "nobody else reaches the processes of a run"
        return kill_worker(Random(0), SHARING)

    weapons: dict[str, Callable[[], bool]] = {"colleague": kill_colleague, "worker": partial(kill_worker, Random(0))}
    killer = Killer(killed, iter([Blow("colleague"), Blow("worker"), Blow("colleague")]), weapons)
    run_to_the_end(sweep, killed, killer)
    assert killer.kills == {"colleague": 2, "worker": 1}
    assert sweep.launches == 1 and sweep.exits == []
    assert left_behind(names(killed)) == set()
    runs = {results: read_runs(results, "digits") for results in (alone, undisturbed, killed)}
    assert list(runs[killed]["status"]) == ["completed"] and list(runs[killed]["attempts"]) == [1 + 3]
    assert runs[killed]["device"].str.endswith(" × 2").all()
    evaluations = {results: read_evaluations(results, "digits") for results in runs}
    for tables in (runs, evaluations):
        assert list(tables[undisturbed].columns) == list(tables[alone].columns)
        assert_alike(tables[killed], tables[undisturbed], 0.0)
    first = {results: table[table["step"] == 12] for results, table in evaluations.items()}
    assert_alike(first[undisturbed], first[alone], 0.05)
