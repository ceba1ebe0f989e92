"""Optuna through the front door, with real (small) training: kills, reproducibility, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from sweep import command
from sweep.reports.ledger import ledger_frame
from sweep.results.folder import StudyFolder, read_runs
from tests.sweep.front_door import finish, kill_at, start
from wae_core.run import Hyperparameters

SMALL = (
    "alg=vae",
    "search=optuna",
    "study.seeds=2",
    "study.steps=4",
    "study.evaluation_steps=[2,4]",
    "study.fid_samples=100",
    "study.evaluation_images=50",
    "study.width=4",
    "tracking=http://127.0.0.1:9",  # nobody listens: no mirror is made
)
HYPERPARAMETERS = list(Hyperparameters.__dataclass_fields__)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def sweep(results: Path, *words: str) -> str:
    return finish(start(f"results={results}", *SMALL, *words))


def trials(results: Path) -> list[optuna.trial.FrozenTrial]:
    storage = JournalStorage(JournalFileBackend(str(results / "digits-optuna" / "optuna.journal")))
    return optuna.load_study(storage=storage, study_name="digits-optuna/vae").trials


def assert_plan_rows_and_optuna_agree(results: Path, configurations: int) -> None:
    plan = pd.read_parquet(results / "digits-optuna" / "plan.parquet")
    runs = read_runs(results, "digits-optuna")
    assert plan["run_id"].is_unique and runs["run_id"].is_unique
    assert set(plan["run_id"]) == set(runs["run_id"])
    assert len(plan) == 2 * configurations
    proposed = plan.drop_duplicates("config_id").set_index("config_id")
    assert not proposed[HYPERPARAMETERS].duplicated().any()
    columns = ["run_id", *HYPERPARAMETERS]
    pd.testing.assert_frame_equal(
        runs[columns].sort_values("run_id", ignore_index=True),
        plan[columns].sort_values("run_id", ignore_index=True),
    )
    told = {trial.user_attrs.get("configuration"): trial for trial in trials(results) if trial.state.is_finished()}
    assert not [trial for trial in trials(results) if trial.state == TrialState.RUNNING]
    for config_id, own in runs.groupby("config_id"):
        assert set(own["status"]) == {"completed"}
        assert told[config_id].state == TrialState.COMPLETE
        assert told[config_id].value == pytest.approx(own["best_fid"].mean(), rel=1e-12)
        assert told[config_id].params["latent_dim"] == proposed["latent_dim"][config_id]
        assert np.isclose(told[config_id].params["learning_rate"], proposed["learning_rate"][config_id], rtol=1e-5)


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Results and output of an undisturbed sweep without Ray; past TPE's ten random proposals."""
    results = tmp_path_factory.mktemp("quiet")
    return results, sweep(results, "budget=24", "cluster=inprocess")


def test_each_proposal_is_planned_trained_and_told(quiet: tuple[Path, str]) -> None:
    results, output = quiet
    assert_plan_rows_and_optuna_agree(results, 12)
    assert "12 configurations × 2 seeds = 24 models each" in output
    assert "Traceback" not in output
    assert "not reproducible" not in output


@pytest.mark.parametrize(
    "goes_on",
    ["cluster=inprocess", pytest.param("cluster.workers=1", marks=[pytest.mark.ray, pytest.mark.long])],
)
def test_a_killed_driver_doubles_and_loses_no_proposal_and_one_worker_proposes_the_same(
    quiet: tuple[Path, str], tmp_path: Path, goes_on: str
) -> None:
    """SIGKILL to the driver's whole session, once TPE has begun to learn."""
    process = start(f"results={tmp_path}", *SMALL, "budget=24", "cluster=inprocess")
    kill_at(process, StudyFolder(tmp_path, "digits-optuna"), rows=21)
    assert len(read_runs(tmp_path, "digits-optuna")) < 24
    sweep(tmp_path, "budget=24", goes_on)
    assert_plan_rows_and_optuna_agree(tmp_path, 12)
    columns = ["run_id", *HYPERPARAMETERS, "best_fid", "confirmed_fid"]
    there, here = (
        read_runs(results, "digits-optuna").sort_values("run_id", ignore_index=True)[columns]
        for results in (quiet[0], tmp_path)
    )
    pd.testing.assert_frame_equal(here, there)
    runs = read_runs(tmp_path, "digits-optuna")
    (ledger,) = ledger_frame(StudyFolder(tmp_path, "digits-optuna")).to_dict("records")
    assert ledger["runs"] == len(runs) == 24
    assert ledger["steps"] == runs["steps_done"].sum()
    assert ledger["images"] == runs["images_seen"].sum()
    assert ledger["attempts"] >= runs["attempts"].sum() >= 24


def test_a_larger_budget_proposes_more_and_random_search_is_another_study(
    quiet: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    results = quiet[0]
    assert command.main(["sweep", f"results={results}", *SMALL, "budget=26", "cluster=inprocess"]) == 0
    assert_plan_rows_and_optuna_agree(results, 13)
    assert not (results / "digits").exists()
    capsys.readouterr()
    assert command.main(["sweep", f"results={results}", *SMALL, "budget=26", "optuna.sampler=qmc"]) == 2
    assert "search.optuna.sampler is 'tpe' there and 'qmc' in this launch" in capsys.readouterr().err
