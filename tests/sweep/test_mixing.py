"""What does not belong to a study is not mixed with it: other rows, plans, data; each launch is a real one."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from sweep.command import main
from sweep.errors import ResultsError, SettingsError
from sweep.launch import launch
from sweep.results import opening
from sweep.results.folder import StudyFolder
from sweep.results.parquet import serialise
from sweep.results.plan_file import read_plan
from sweep.results.schema import RECORD
from sweep.running import attempt, worker
from sweep.running.staging import node
from sweep.settings.compose import load_settings
from sweep.settings.settings import Settings, Study
from tests.places import local
from wae_core.data.images import data_sha256

pytestmark = pytest.mark.slow
MAY_DIFFER = [
    "train_seconds",
    "eval_seconds",
    "cpu_seconds",
    "attempts",
    "started_at",
    "ended_at",
    "host",
    "git_commit",
]


class Sweep:
    """A study of one VAE configuration with three seeds, of two steps each, in this very process."""

    def __init__(self, results: Path, study: Study, *words: str) -> None:
        protocol = replace(study.protocol, steps=2, evaluation_steps=(1, 2), fid_samples=20, evaluation_images=10)
        words = ("cluster=inprocess", "alg=vae", "tracking=http://127.0.0.1:9", f"results={results}", *words)
        settings = load_settings(["budget=3", *words])
        self.settings: Settings = replace(settings, study=replace(settings.study, name="test", protocol=protocol))
        self.folder = StudyFolder(results, "test")
        self.root = local(self.folder.root)

    def launch(self, **changes: Any) -> str:
        """Launch; returns what it said."""
        console = Console(file=io.StringIO(), width=500)
        launch(replace(self.settings, **changes), console)
        said: str = console.file.getvalue()  # type: ignore[attr-defined]
        return said

    def rows(self, table: str) -> list[dict[str, Any]]:
        rows = self.folder.read_table(table).to_pandas().drop(columns=MAY_DIFFER, errors="ignore")
        ordered = rows.sort_values(["run_id", *({"step"} & set(rows))]).reset_index(drop=True)
        plain: list[dict[str, Any]] = ordered.astype(object).where(ordered.notna(), None).to_dict("records")
        return plain

    def outcome(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        return self.rows("runs"), self.rows("evaluations")

    def change(self, file: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        """Write a Parquet file anew, as another program does."""
        path = self.root / file
        table = pq.read_table(io.BytesIO(path.read_bytes()))
        frame = change(table.to_pandas(types_mapper=pd.ArrowDtype))
        schema = table.schema.remove_metadata()
        path.write_bytes(serialise(pa.Table.from_pandas(frame, schema=schema, preserve_index=False)))


@pytest.fixture(scope="module")
def finished(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    sweep = Sweep(tmp_path_factory.mktemp("finished") / "results", study)
    sweep.launch()
    return sweep


@pytest.fixture
def sweep(finished: Sweep, study: Study, tmp_path: Path) -> Sweep:
    """A copy of the finished study."""
    shutil.copytree(finished.root.parent, tmp_path / "results")
    return Sweep(tmp_path / "results", study)


@pytest.fixture
def other_data(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], None]]:
    """other_data(module): that module finds a data set of another identity under the same name."""
    yield lambda module: monkeypatch.setattr(module, "data_sha256", lambda name, folder: "0" * 64)
    attempt.equipment_of.cache_clear()


def assert_refused_and_unchanged(sweep: Sweep, *said: str, **changes: Any) -> None:
    before = {path: path.read_bytes() for path in sweep.root.rglob("*") if path.is_file() and path.name != "lock"}
    with pytest.raises((ResultsError, SettingsError)) as refusal:
        sweep.launch(**changes)
    assert all(part in str(refusal.value) for part in said), str(refusal.value)
    assert {p: p.read_bytes() for p in sweep.root.rglob("*") if p.is_file() and p.name != "lock"} == before


# --- rows, evaluations and plans of another study


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("study", "another"),
        ("steps_planned", 3),
        ("fid_samples", 21),
        ("precision", "tf32"),
        ("data_sha256", "0" * 64),
        ("fid_features", "another-64@0123456789ab"),
        ("fid_reference", "digits/train/1000"),
        ("config_id", "vae-00001"),
        ("learning_rate", 0.5),
        ("latent_dim", 5),
    ],
)
def test_a_table_with_a_row_of_another_study_is_refused(sweep: Sweep, column: str, value: Any) -> None:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[1, column] = value
        return frame

    sweep.change("runs/vae.parquet", change)
    assert_refused_and_unchanged(sweep, "runs/vae.parquet", column, repr(value), "another results folder (RESULTS=)")


def test_a_seed_that_the_study_does_not_have_is_refused(sweep: Sweep) -> None:
    def change(frame: pd.DataFrame) -> pd.DataFrame:
        frame.loc[2, "seed"], frame.loc[2, "run_id"] = 3, "vae-00000-s3"
        return frame

    for file in ("runs/vae.parquet", "evaluations/vae.parquet"):
        sweep.change(
            file, lambda frame: frame[frame["run_id"] != "vae-00000-s2"] if "step" in frame else change(frame)
        )
    assert_refused_and_unchanged(sweep, "runs/vae.parquet", "its seed is 3")


@pytest.mark.parametrize("column", ["learning_rate", "steps_planned"])
def test_a_plan_of_another_study_is_refused(sweep: Sweep, column: str) -> None:
    sweep.change("plan.parquet", lambda frame: frame.assign(**{column: frame[column] * 2}))
    assert_refused_and_unchanged(sweep, "plan.parquet", "vae-00000-s0")


def test_results_without_a_study_file_are_refused(sweep: Sweep) -> None:
    study_file = sweep.root / "study.yaml"
    for gone in ("runs/vae.parquet", "evaluations/vae.parquet", "plan.parquet"):
        study_file.unlink(missing_ok=True)
        assert_refused_and_unchanged(sweep, str(study_file), "put study.yaml back")
        (sweep.root / gone).unlink()


@pytest.mark.parametrize(("gone", "left"), [("runs", "evaluations"), ("evaluations", "runs")])
def test_half_of_a_pair_of_tables_is_refused(sweep: Sweep, gone: str, left: str) -> None:
    aside = sweep.root / "aside"
    (sweep.root / gone / "vae.parquet").rename(aside)
    assert_refused_and_unchanged(sweep, f"{gone}/vae.parquet is missing", "move that one away as well")
    (sweep.root / left / "vae.parquet").rename(sweep.root / "other")  # what the sentence advises
    assert "3" in sweep.launch()
    assert len(sweep.folder.read_table("runs")) == 3


def test_a_row_that_lacks_an_evaluation_is_trained_again_and_nothing_is_deleted(
    sweep: Sweep, finished: Sweep
) -> None:
    sweep.change("evaluations/vae.parquet", lambda frame: frame.drop(index=frame.index[frame["step"] == 1][1]))
    said = sweep.launch()
    assert "vae-00000-s1 is trained again, for 1 of its 2 evaluations are there" in said
    assert sweep.outcome() == finished.outcome()
    assert len(list((sweep.root / "damaged").iterdir())) == 2
    assert "nothing to train" in sweep.launch()


def test_a_row_that_contradicts_its_evaluations_is_trained_again(sweep: Sweep, finished: Sweep) -> None:
    sweep.change(
        "runs/vae.parquet", lambda frame: frame.assign(best_fid=frame["best_fid"].where(frame["seed"] > 0, 1))
    )
    assert "vae-00000-s0 is trained again, for its best FID is 1.0" in sweep.launch()
    assert sweep.outcome() == finished.outcome()


@pytest.mark.parametrize("change", [{"learning_rate": 0.5}, {"study": "another"}, {"evaluations": []}])
def test_a_record_that_is_not_of_the_plan_is_set_aside_and_its_run_trained(
    sweep: Sweep, finished: Sweep, change: dict[str, Any]
) -> None:
    (row,) = [row for row in sweep.folder.read_table("runs").to_pylist() if row["seed"] == 2]
    evaluations = [e for e in sweep.folder.read_table("evaluations").to_pylist() if e["seed"] == 2]
    for table in ("runs", "evaluations"):
        sweep.change(f"{table}/vae.parquet", lambda frame: frame[frame["seed"] != 2])
    record = pa.Table.from_pylist([row | {"evaluations": evaluations} | change], schema=RECORD)
    (sweep.root / "records/vae-00000-s2.parquet").write_bytes(serialise(record))
    said = sweep.launch()
    assert "records/vae-00000-s2.parquet cannot be used" in said
    assert sweep.outcome() == finished.outcome()


# --- data


def test_other_data_under_the_same_name_are_refused(
    sweep: Sweep, other_data: Callable[[Any], None], finished: Sweep
) -> None:
    other_data(opening)
    assert_refused_and_unchanged(sweep, "belongs to other data", repr("0" * 64), "data=", budget=6)


def test_a_worker_that_finds_other_data_trains_nothing_until_they_are_back(
    study: Study, tmp_path: Path, finished: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt.equipment_of.cache_clear()
    asked: list[str] = []

    def at_first_another(name: str, folder: Path) -> str:
        asked.append(name)
        return "0" * 64 if len(asked) == 1 else data_sha256(name, folder)

    monkeypatch.setattr(node, "data_sha256", at_first_another)
    monkeypatch.setattr(worker, "SECONDS_TO_WAIT", 0.1)
    sweep = Sweep(tmp_path / "results", study)
    said = sweep.launch()
    assert "its sha256 is 000000000000…" in said and "workers wait until it is back" in said
    assert sweep.outcome() == finished.outcome()


# --- all files at once


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data[:200] if path.suffix == ".yaml" else data)


@pytest.mark.parametrize(
    "file",
    [
        "study.yaml", "plan.parquet", "runs/vae.parquet", "evaluations/vae.parquet", "attempts.parquet",
        "work/vae-00000-s1/best.safetensors", "work/vae-00000-s1/best.json", "work/vae-00000-s2/samples.png",
    ],
)  # fmt: skip
def test_a_check_finds_a_damaged_file(sweep: Sweep, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["status", "--results", str(sweep.root.parent), "--study", "test", "--check"]
    assert main(words) == 0 and "no problems found" in capsys.readouterr().out
    damage(sweep.root / file)
    assert main(words) == 1
    said = capsys.readouterr().out
    assert str((sweep.root / file).with_suffix("")) in said and "1 problem found" in said


def test_a_check_finds_the_model_of_another_run(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("best.safetensors", "best.json"):
        shutil.copy(sweep.root / "work/vae-00000-s0" / name, sweep.root / "work/vae-00000-s1" / name)
    assert main(["status", "--results", str(sweep.root.parent), "--check"]) == 1
    assert "is the model of another run or step than the row of vae-00000-s1 says" in capsys.readouterr().out


# --- a lost plan


def test_a_lost_plan_is_planned_again(sweep: Sweep) -> None:
    plan = read_plan(sweep.folder)
    (sweep.root / "plan.parquet").unlink()
    assert "nothing to train" in sweep.launch()
    assert read_plan(sweep.folder).equals(plan)


@pytest.mark.parametrize("words", [["search=optuna"], ["scheduler=asha"]])
def test_where_the_plan_is_lost_a_configuration_keeps_its_hyperparameters(
    study: Study, tmp_path: Path, words: list[str]
) -> None:
    sweep = Sweep(tmp_path / "results", study, *words)
    sweep.launch(budget=6)
    quiet = {row["run_id"]: row for row in sweep.folder.read_table("runs").to_pylist()}
    for table in ("runs", "evaluations"):  # the second seed of the second configuration has no row yet
        sweep.change(f"{table}/vae.parquet", lambda frame: frame[frame["run_id"] != "vae-00001-s1"])
    (sweep.root / "plan.parquet").unlink()
    sweep.launch(budget=6)
    again = {row["run_id"]: row for row in sweep.folder.read_table("runs").to_pylist()}
    assert again.keys() == quiet.keys()
    for name in ("learning_rate", "latent_dim", "best_fid", "steps_done"):
        assert {run_id: row[name] for run_id, row in again.items()} == {r: row[name] for r, row in quiet.items()}


def test_a_configuration_that_a_lost_plan_leaves_out_gets_a_free_index(study: Study, tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "results", study, "search=optuna")
    sweep.launch(budget=6)
    kept = {row["run_id"]: row["learning_rate"] for row in sweep.folder.read_table("runs").to_pylist()}
    for table in ("runs", "evaluations"):  # nothing is known any more of the first configuration
        sweep.change(f"{table}/vae.parquet", lambda frame: frame[frame["config_index"] != 0])
    (sweep.root / "plan.parquet").unlink()
    sweep.launch(budget=6)
    rows = {row["run_id"]: row["learning_rate"] for row in sweep.folder.read_table("runs").to_pylist()}
    assert rows.keys() == kept.keys()
    assert all(rows[run_id] == kept[run_id] for run_id in rows if run_id.startswith("vae-00001"))
    assert len({rows[run_id] for run_id in rows if run_id.startswith("vae-00000")}) == 1
