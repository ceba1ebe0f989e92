"""ASHA through the front door, with real Ray, Optuna and (small) training: a kill, a larger budget, a refusal."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from sweep import command
from sweep.reports.ledger import ledger_frame
from sweep.results.folder import StudyFolder, read_evaluations, read_runs
from tests.places import local
from tests.sweep.front_door import finish, kill_at, start

STUDY = "digits-optuna-asha"
STEPS, SEEDS, RUNGS = 9, 2, [1, 3]
WORDS = (
    "alg=vae",
    "search=optuna",
    "scheduler=asha",
    f"study.seeds={SEEDS}",
    f"study.steps={STEPS}",
    "study.evaluation_steps=[1,3,9]",
    "study.fid_samples=100",
    "study.evaluation_images=50",
    "study.width=4",
    "tracking=http://127.0.0.1:9",  # nobody listens: no mirror is made
)

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(600)]


def words(results: Path, budget: int) -> list[str]:
    return [f"results={results}", f"budget={budget}", *WORDS]


def assert_spent(results: Path, budget: int) -> None:
    """The budget of steps is spent on whole configurations; what was stopped says where."""
    folder = StudyFolder(results, STUDY)
    runs, evaluations = read_runs(results, STUDY), read_evaluations(results, STUDY)
    plan = pd.read_parquet(local(folder.plan_file))
    assert runs["run_id"].is_unique
    assert set(runs["run_id"]) == set(plan["run_id"])
    assert set(runs["status"]) == {"completed"}
    assert set(runs["steps_done"]) <= {*RUNGS, STEPS}
    assert (runs.groupby("config_index")["steps_done"].nunique() == 1).all(), "seeds stop together"
    assert budget * STEPS - SEEDS * STEPS < runs["steps_done"].sum() <= budget * STEPS
    stopped = runs[runs["steps_done"] < STEPS]
    expected = [f"stopped by asha at step {step} of {STEPS}" for step in stopped["steps_done"]]
    assert stopped["status_reason"].tolist() == expected
    assert runs.loc[runs["steps_done"] == STEPS, "status_reason"].isna().all()
    assert runs["confirmed_fid"].notna().all()
    best = evaluations.groupby("run_id")["fid"].min()
    assert runs.set_index("run_id")["best_fid"].to_dict() == best.to_dict()
    (ledger,) = ledger_frame(folder).to_dict("records")
    assert ledger["steps"] == runs["steps_done"].sum()
    assert ledger["images"] == runs["images_seen"].sum()
    assert list(folder.root.glob("work/*/attempt-*")) == []


def test_a_killed_asha_study_goes_on_and_spends_its_budget_of_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kill_at(start(*words(tmp_path, 8), "cluster=inprocess"), StudyFolder(tmp_path, STUDY), rows=2)
    output = finish(start(*words(tmp_path, 8), "cluster.workers=2"))
    assert "not reproducible" in output, "of two workers it is chance who ends first"
    assert "asha (η = 3) decides at step 1, 3" in output
    assert "Last result" not in output, "Tune prints nothing of its own"
    assert_spent(tmp_path, 8)
    assert command.main(["sweep", *words(tmp_path, 8)]) == 0
    assert "every run of this budget has its row" in capsys.readouterr().out
    before = read_runs(tmp_path, STUDY).set_index("run_id")
    assert command.main(["sweep", *words(tmp_path, 14), "cluster=inprocess"]) == 0
    assert_spent(tmp_path, 14)
    after = read_runs(tmp_path, STUDY).set_index("run_id")
    pd.testing.assert_frame_equal(after.loc[before.index], before)
    assert len(after) > len(before)
    assert command.main(["sweep", *words(tmp_path, 14), "asha.reduction=2"]) == 2
    assert "scheduler.asha.reduction is 3.0 there and 2.0 in this launch" in capsys.readouterr().err
