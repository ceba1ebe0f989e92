"""One run in one worker: whatever happens on the way, it ends as one row that agrees with its evaluations."""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sweep.events import Ended, Evaluated, Event, GivenUp, Paused, Problem, Started, Task, WorkerContext
from sweep.results.folder import StudyFolder
from sweep.results.schema import RunRow
from sweep.results.work import waiting
from sweep.running.attempt import equipment_of
from sweep.running.in_process import session
from sweep.running.publishing import publish_failure
from sweep.running.staging import node as staging_node
from sweep.running.training import teller
from sweep.running.worker import run_task
from sweep.search.fixed_plan import FixedPlan
from sweep.settings.settings import FailurePolicy
from tests.places import local
from wae_core.data.images import data_sha256
from wae_core.evaluation.evaluator import Evaluator
from wae_core.evaluation.selection import Evaluation
from wae_core.model_file import load_model
from wae_core.run import ALGORITHMS, Run
from wae_core.snapshot import Snapshot
from wae_core.storage.checkpoint import load_checkpoint, save_checkpoint
from wae_core.storage.files import Location
from wae_core.storage.objects import ObjectPath
from wae_core.training.loop import train_pack

# What may differ between an undisturbed run and a resumed one.
TIMINGS = {"train_seconds", "eval_seconds", "cpu_seconds", "attempts", "started_at", "ended_at", "host"}
TINY = {
    "width": 4,
    "steps": 6,
    "evaluation_steps": (2, 4, 6),
    "fid_samples": 100,
    "learning_rate_drops": ((30, 2.0), (50, 5.0)),  # not reached; a checkpoint's JSON must keep them as they are
}


POLICY = FailurePolicy(tries=3, worker_deaths=5)


class Told:
    """Keeps what it is told."""

    def __init__(self, events: list[Event]) -> None:
        self._events = events

    def note(self, event: Event) -> None:
        self._events.append(event)


class Place:
    """A results folder, and what is in it."""

    def __init__(self, results: Location, checkpoint_steps: int = 1000) -> None:
        self.context = WorkerContext(
            results,
            data=Path("data"),
            data_sha256=data_sha256("digits"),
            inception=None,
            device="cpu",
            git_commit="unknown",
            checkpoint_steps=checkpoint_steps,
        )
        self.folder = StudyFolder(results, "test")
        self.said: list[str] = []
        self.folder.records.mkdir(parents=True, exist_ok=True)

    def train(self, *runs: Run) -> list[Event]:
        """Train in this process, as a launch with cluster=inprocess does."""
        events: list[Event] = []
        search = FixedPlan(runs, set(), lambda runs: [Task(tuple(runs))])
        with session(self.context) as executor:
            executor.train(search, self.context, POLICY, teller([Told(events)], self.context, self.said.append))
        return [event for event in events if not isinstance(event, Started | GivenUp)]

    def pause(self, run: Run, until: int) -> float:
        """Train to a rung; returns the best FID that is reported there."""
        *_, last = run_task(Task((run,), until=until), self.context)
        assert isinstance(last, Paused)
        return last.best_fid

    def train_until(self, checkpoints: int, run: Run) -> None:
        """Train up to so many checkpoints; then the worker is gone."""
        events = run_task(Task((run,)), self.context)
        for _ in range(checkpoints):
            assert not next(events).is_last
        events.close()  # type: ignore[attr-defined]

    def row(self, run: Run) -> dict[str, Any]:
        (row,) = [row for row in self.folder.read_table("runs").to_pylist() if row["run_id"] == run.run_id]
        return dict(row)

    def evaluations(self, run: Run) -> list[dict[str, Any]]:
        rows = self.folder.read_table("evaluations").to_pylist()
        return [dict(row) for row in rows if row["run_id"] == run.run_id]

    def outcome(self, run: Run) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Row and evaluations without the timings."""
        return (
            {name: value for name, value in self.row(run).items() if name not in TIMINGS},
            [{name: value for name, value in row.items() if name not in TIMINGS} for row in self.evaluations(run)],
        )

    def work(self, run: Run) -> Path:
        work = self.folder.work(run.run_id)
        assert isinstance(work, Path)
        return work

    def checkpoints(self, run: Run) -> list[str]:
        return sorted(path.stem for path in self.work(run).glob("attempt-*/*.safetensors"))


def evaluated(events: Sequence[Event]) -> list[int]:
    """The steps of the evaluations."""
    return [event.evaluation.step for event in events if isinstance(event, Evaluated)]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "results")


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[] if name == "vae" else pytest.mark.slow) for name in ALGORITHMS],
)
def undisturbed(
    request: pytest.FixtureRequest, make_run: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, Place, list[Event]]:
    """A run of each algorithm, trained without a disturbance."""
    run, place = make_run(request.param, **TINY), Place(tmp_path_factory.mktemp("undisturbed"))
    return run, place, place.train(run)


@pytest.fixture(scope="module")
def vae(
    make_run: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, tuple[dict[str, Any], list[dict[str, Any]]]]:
    """A VAE, and how it ends undisturbed."""
    run, place = make_run("vae", **TINY), Place(tmp_path_factory.mktemp("vae"))
    place.train(run)
    return run, place.outcome(run)


# --- an undisturbed run


def test_a_run_reports_each_evaluation_and_then_its_row(undisturbed: tuple[Run, Place, list[Event]]) -> None:
    run, place, events = undisturbed
    assert evaluated(events) == [2, 4, 6]
    assert {p.run for p in events} == {run}
    assert [type(event) for event in events] == [Evaluated, Evaluated, Evaluated, Ended]
    published = place.row(run)
    assert events[-1] == Ended(run, RunRow(**published))
    keys = {"run_id": run.run_id, "algorithm": run.algorithm, "config_index": 0, "seed": 0}
    assert place.evaluations(run) == [keys | asdict(p.evaluation) for p in events if isinstance(p, Evaluated)]


def test_the_row_agrees_with_the_evaluations(undisturbed: tuple[Run, Place, list[Event]]) -> None:
    run, place, _ = undisturbed
    row, evaluations = place.row(run), place.evaluations(run)
    best = evaluations[int(np.argmin([evaluation["fid"] for evaluation in evaluations]))]
    assert row["status"] == "completed"
    assert row["status_reason"] is None
    assert row["best_step"] == best["step"]
    for column in ("fid", "sharpness", "reconstruction_error"):
        assert row[f"best_{column}"] == best[column]
        assert math.isfinite(best[column])
    assert math.isfinite(row["confirmed_fid"])
    assert row["confirmed_fid"] != row["best_fid"], "on fresh samples"
    assert (row["steps_done"], row["steps_planned"], row["attempts"], row["pack_size"]) == (6, 6, 1, 1)
    assert row["images_seen"] == 6 * run.hyperparameters.batch_size
    assert row["fid_samples"] == 100
    assert row["fid_features"]
    assert row["fid_reference"] == "digits/held_out/1000"
    for name, value in asdict(run.hyperparameters).items():
        assert row[name] == value
    assert row["train_seconds"] == pytest.approx(evaluations[-1]["train_seconds"])
    assert 0 < row["train_seconds"] < (row["ended_at"] - row["started_at"]).total_seconds()
    assert row["cpu_seconds"] > 0
    assert row["eval_seconds"] > 0


def test_what_a_measurement_of_packs_has_loaded_serves_the_training(
    make_run: Callable[..., Run], place: Place
) -> None:
    """Which steps are captured is known behind the measurement, and is no part of what a worker loads."""
    captured = replace(place.context, captured=frozenset({"dcgan_small"}))
    features = make_run("vae").protocol.fid_features
    assert equipment_of("digits", features, captured) is equipment_of("digits", features, place.context)


def test_the_kept_checkpoint_is_the_best_one_and_its_samples_can_be_seen(
    undisturbed: tuple[Run, Place, list[Event]],
) -> None:
    run, place, _ = undisturbed
    row = place.row(run)
    model, stored_run, step = load_model(place.folder.root / row["checkpoint_path"])
    assert (stored_run, step) == (run, row["best_step"])
    evaluator = equipment_of("digits", run.protocol.fid_features, place.context).evaluator
    again = evaluator.evaluate(run, Snapshot(step, model, 0.0, 0.0, None), 0.0)
    assert again.fid == pytest.approx(row["best_fid"], rel=1e-6)  # the memory layout may differ from the training's
    confirmation = evaluator.confirm(run, model, step)
    assert confirmation.fid == pytest.approx(row["confirmed_fid"], rel=1e-6)
    assert confirmation.fid_infinity == pytest.approx(row["fid_infinity"], rel=1e-6)
    with Image.open(place.work(run) / "samples.png") as picture:
        picture.load()
        assert picture.format == "PNG"
        assert min(picture.size) > 8 * 28
    files = {path.name for path in place.work(run).iterdir() if path.suffix != ".png"}
    assert files == {"attempt-001", "best.json", "best.safetensors"}, "no temporary file stays"


@pytest.mark.slow
def test_a_checkpoint_that_is_better_than_the_last_one_is_kept(
    vae: tuple[Run, Any], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = vae
    disturbed(monkeypatch, lambda run, e: replace(e, fid=0.25) if e.step == 2 else e)
    place.train(run)
    row = place.row(run)
    assert (row["best_step"], row["best_fid"]) == (2, 0.25)
    model, _, step = load_model(place.folder.root / row["checkpoint_path"])
    trained, _ = load_checkpoint(place.work(run) / "attempt-001" / "step-000000002.safetensors")
    assert step == 2
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, trained[f"autoencoder.{name}"]), name


# --- a worker that died


@pytest.mark.parametrize("evaluations", [1, 3])
def test_a_resumed_run_ends_as_the_undisturbed_one(
    undisturbed: tuple[Run, Place, list[Event]], place: Place, evaluations: int
) -> None:
    run, quiet, _ = undisturbed
    place.train_until(evaluations, run)
    (saved,) = place.work(run).iterdir()
    before = {path: path.read_bytes() for path in saved.iterdir()}
    events = place.train(run)
    assert evaluated(events) == [2, 4, 6][evaluations:], "it went on"
    assert place.outcome(run) == quiet.outcome(run)
    assert place.row(run)["attempts"] == 2
    assert before.items() <= {path: path.read_bytes() for path in saved.iterdir()}.items(), "a folder of its own"
    seconds = [evaluation["train_seconds"] for evaluation in place.evaluations(run)]
    assert seconds == sorted(set(seconds)), "the time of the first attempt counts"


@pytest.mark.slow
def test_a_resumed_run_counts_the_time_of_the_attempt_that_died(vae: tuple[Run, Any], place: Place) -> None:
    run, _ = vae
    place.train_until(1, run)
    path = place.work(run) / "attempt-001" / "step-000000002.safetensors"
    tensors, content = load_checkpoint(path)
    spent = {"train_seconds": 1000.0, "eval_seconds": 2000.0, "cpu_seconds": 3000.0}
    assert all(0 < content["history"][name] < 100 for name in spent)
    save_checkpoint(path, tensors, content | {"history": content["history"] | spent})
    place.train(run)
    row = place.row(run)
    for name, seconds in spent.items():
        assert seconds < row[name] < seconds + 100
    assert row["started_at"].isoformat() == content["history"]["started_at"]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suffix", "damage"),
    [(".safetensors", _cut), (".safetensors", _flip), (".json", _cut), (".json", Path.unlink)],
    ids=["cut tensors", "flipped tensors", "cut manifest", "no manifest"],
)
def test_after_a_damaged_checkpoint_the_one_before_is_used(
    vae: tuple[Run, Any], place: Place, suffix: str, damage: Callable[[Path], None]
) -> None:
    run, undisturbed = vae
    place.train_until(3, run)
    damage(place.work(run) / "attempt-001" / f"step-000000006{suffix}")
    events = place.train(run)
    assert evaluated(events) == [6]
    assert place.outcome(run) == undisturbed


@pytest.mark.slow
def test_where_the_best_checkpoint_is_damaged_the_run_resumes_before_it(vae: tuple[Run, Any], place: Place) -> None:
    run, undisturbed = vae
    place.train_until(3, run)
    best = undisturbed[0]["best_step"]
    (place.work(run) / "attempt-001" / f"step-{best:09d}.json").write_text("{}")
    assert evaluated(place.train(run)) == [s for s in (2, 4, 6) if s >= best]
    assert place.outcome(run) == undisturbed


def test_without_any_valid_checkpoint_a_run_begins_anew(vae: tuple[Run, Any], place: Place) -> None:
    run, undisturbed = vae
    place.train_until(2, run)
    for path in (place.work(run) / "attempt-001").glob("*.json"):
        path.write_text("{}")
    assert evaluated(place.train(run)) == [2, 4, 6]
    assert place.outcome(run) == undisturbed


# --- between evaluations, in a store, on a full disk


@pytest.mark.slow
@pytest.mark.parametrize("checkpoints", [1, 3, 4, 5])
def test_a_run_that_was_killed_between_evaluations_goes_on_from_there(
    undisturbed: tuple[Run, Place, list[Event]], tmp_path: Path, checkpoints: int
) -> None:
    run, quiet, _ = undisturbed
    place = Place(tmp_path, checkpoint_steps=1)
    place.train_until(checkpoints, run)
    assert place.checkpoints(run)[-1] == f"step-{checkpoints:09d}"
    events = place.train(run)
    assert len(events) == 6 - checkpoints + 1
    assert place.outcome(run) == quiet.outcome(run)
    assert place.row(run)["attempts"] == 2


def test_a_run_that_paused_at_its_rungs_ends_as_the_undisturbed_one(vae: tuple[Run, Any], place: Place) -> None:
    run, undisturbed = vae
    fids = [evaluation["fid"] for evaluation in undisturbed[1]]
    assert place.pause(run, until=2) == fids[0]
    assert place.pause(run, until=2) == fids[0], "and at once, where only the report was lost"
    assert place.pause(run, until=4) == min(fids[:2])
    place.train(run)
    assert place.outcome(run) == undisturbed


def test_a_run_that_is_stopped_at_its_rung_keeps_the_best_up_to_there(vae: tuple[Run, Any], place: Place) -> None:
    run, (_, evaluations) = vae
    place.pause(run, until=4)
    newest = place.work(run) / "attempt-001" / "step-000000004.safetensors"
    newest.write_bytes(b"damaged")  # then the steps to the rung are trained again
    list(run_task(Task((run,), until=4, stopped_because="stopped by asha at step 4 of 6"), place.context))
    row = place.row(run)
    assert (row["status"], row["status_reason"]) == ("completed", "stopped by asha at step 4 of 6")
    assert (row["steps_done"], row["steps_planned"]) == (4, 6)
    assert row["best_fid"] == min(evaluation["fid"] for evaluation in evaluations[:2])
    assert math.isfinite(row["confirmed_fid"])
    assert (place.work(run) / "best.safetensors").exists()
    assert [evaluation["step"] for evaluation in place.evaluations(run)] == [2, 4]


def test_a_member_that_diverges_before_the_rung_ends_and_the_others_pause(
    place: Place, make_run: Callable[..., Run]
) -> None:
    good, bad = make_run("vae", **TINY), make_run("vae", seed=1, learning_rate=1e9, **TINY)
    events = list(run_task(Task((good, bad), until=4), place.context))
    assert [p.row.status for p in events if isinstance(p, Ended) and p.run == bad] == ["diverged"]
    assert isinstance([p for p in events if p.run == good][-1], Paused)
    assert len([p for p in events if p.is_last]) == 2


def test_of_an_attempts_checkpoints_the_last_two_stay_and_the_best(vae: tuple[Run, Any], tmp_path: Path) -> None:
    run, (row, _) = vae
    assert row["best_step"] == 6, "and so 4 at step 5, by the same falling FID"
    place = Place(tmp_path, checkpoint_steps=1)
    place.train_until(6, run)
    assert place.checkpoints(run) == ["step-000000004", "step-000000005", "step-000000006"]


@pytest.mark.slow
def test_a_run_in_an_object_store_is_the_same(vae: tuple[Run, Any]) -> None:
    run, undisturbed = vae
    place = Place(ObjectPath("memory://", "worker"))
    place.train_until(2, run)
    assert evaluated(place.train(run)) == [6]
    assert place.outcome(run) == undisturbed
    best = place.folder.root / place.row(run)["checkpoint_path"]
    assert load_model(best)[2] == place.row(run)["best_step"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EDQUOT]
)
def test_a_storage_that_takes_nothing_is_reported_and_waited_for(
    vae: tuple[Run, Any], place: Place, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    run, undisturbed = vae
    is_full, naps = True, 0

    def fsync(descriptor: int, fsync: Callable[[int], None] = os.fsync) -> None:
        if is_full:
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    def sleep(_: float) -> None:
        nonlocal is_full, naps
        naps += 1
        is_full = naps < 30  # more often than anything is tried

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr("sweep.results.work.waiting.time.sleep", sleep)
    events = place.train(run)
    assert isinstance(events[0], Problem)
    assert os.strerror(number) in events[0].sentence
    assert naps == 30
    assert place.outcome(run) == undisturbed
    assert list(place.folder.root.glob(".*")) == [], "no probe stays"


@pytest.mark.slow
def test_one_file_that_cannot_be_written_is_not_waited_for_for_ever(
    place: Place, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad sector under the run's second checkpoint: the probes find a disk that works."""
    run, naps = make_run("vae", **TINY), 0

    def fsync(descriptor: int, fsync: Callable[[int], None] = os.fsync) -> None:
        if "step-000000004" in os.readlink(f"/proc/self/fd/{descriptor}"):  # noqa: PTH115
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    def sleep(_: float) -> None:
        nonlocal naps
        naps += 1

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr("sweep.results.work.waiting.time.sleep", sleep)
    events = place.train(run)
    row = place.row(run)
    assert (row["status"], row["steps_done"]) == ("failed", 2)
    assert os.strerror(errno.EIO) in row["status_reason"]
    assert sum(isinstance(event, Problem) for event in events) == naps == POLICY.tries * waiting.FALSE_ALARMS


@pytest.mark.slow
@pytest.mark.parametrize("lose", ["rename", "delete"])
def test_a_folder_that_is_gone_is_waited_for_and_not_made_again(
    vae: tuple[Run, Any], place: Place, monkeypatch: pytest.MonkeyPatch, lose: str
) -> None:
    run, undisturbed = vae
    root = local(place.folder.root)
    elsewhere, naps = root.with_name("elsewhere"), 0
    place.train_until(2, run)

    def sleep(_: float) -> None:
        nonlocal naps
        naps += 1
        assert not root.exists(), "nothing is written into the void"
        if naps == 3:
            elsewhere.rename(root)

    monkeypatch.setattr("sweep.results.work.waiting.time.sleep", sleep)
    root.rename(elsewhere)
    if lose == "delete":
        shutil.copytree(elsewhere, root)
        shutil.rmtree(root)
    events = place.train(run)
    assert isinstance(events[0], Problem)
    assert str(root) in events[0].sentence and "is gone" in events[0].sentence
    assert naps == 3
    assert place.outcome(run) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["work", "records"])
def test_a_folder_within_the_study_is_made_again(vae: tuple[Run, Any], place: Place, name: str) -> None:
    run, undisturbed = vae
    place.train_until(2, run)
    shutil.rmtree(local(place.folder.root) / name)
    place.train(run)
    assert place.outcome(run) == undisturbed


# --- a run that diverges


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_loss_that_is_not_finite_ends_the_run_as_diverged_and_says_where(
    place: Place, make_run: Callable[..., Run], algorithm: str
) -> None:
    run = make_run(algorithm, learning_rate=1e25, **TINY)
    (events,) = place.train(run)
    row = place.row(run)
    assert events == Ended(run, RunRow(**row))
    assert row["status"] == "diverged"
    assert row["attempts"] == 1
    step = int(row["status_reason"].rpartition("step ")[2])
    assert 1 <= step <= row["steps_done"] == 2
    assert row["images_seen"] == 2 * run.hyperparameters.batch_size
    assert [row[name] for name in ("best_step", "best_fid", "confirmed_fid", "fid_infinity", "checkpoint_path")] == [
        None
    ] * 5
    assert place.evaluations(run) == []


def disturbed(monkeypatch: pytest.MonkeyPatch, change: Callable[[Run, Evaluation], Evaluation]) -> None:
    """Let each evaluation pass through `change`, which may raise."""
    evaluate = Evaluator.evaluate
    monkeypatch.setattr(Evaluator, "evaluate", lambda self, run, *args: change(run, evaluate(self, run, *args)))


def test_a_fid_that_is_not_finite_ends_the_run_and_the_best_before_is_kept(
    vae: tuple[Run, Any], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, (_, evaluations) = vae
    disturbed(monkeypatch, lambda run, e: replace(e, fid=math.nan) if e.step == 4 else e)
    place.train(run)
    row = place.row(run)
    assert row["status"] == "diverged"
    assert "step 4" in row["status_reason"]
    assert (row["best_step"], row["best_fid"], row["steps_done"]) == (2, evaluations[0]["fid"], 4)
    assert math.isfinite(row["confirmed_fid"])
    assert load_model(place.folder.root / row["checkpoint_path"])[2] == 2
    assert [e["step"] for e in place.evaluations(run)] == [2, 4]
    assert math.isnan(place.evaluations(run)[1]["fid"]), "it stays not a number"


# --- exceptions


@pytest.mark.slow
def test_an_exception_once_costs_an_attempt_and_nothing_else(
    vae: tuple[Run, Any], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, undisturbed = vae
    left = [RuntimeError("once")]

    def fail_once(run: Run, evaluation: Evaluation) -> Evaluation:
        if evaluation.step == 4 and left:
            raise left.pop()
        return evaluation

    disturbed(monkeypatch, fail_once)
    events = place.train(run)
    assert evaluated(events) == [2, 4, 6], "step 2 is not done twice"
    assert place.outcome(run) == undisturbed
    assert place.row(run)["attempts"] == 2


@pytest.mark.slow
def test_three_exceptions_are_a_failed_row_and_the_rest_of_the_pack_goes_on(
    vae: tuple[Run, Any], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, (good_row, good_evaluations) = vae
    bad = replace(good, seed=1)

    def fail(run: Run, evaluation: Evaluation) -> Evaluation:
        if run == bad:
            raise RuntimeError("the disk\n  is gone")
        return evaluation

    disturbed(monkeypatch, fail)
    events = place.train(bad, good)
    assert [(p.run.seed, isinstance(p, Ended)) for p in events] == [(0, False)] * 3 + [(0, True)] + [(1, True)]
    row = place.row(bad)
    assert events[-1] == Ended(bad, RunRow(**row))
    assert (row["status"], row["attempts"], row["steps_done"], row["pack_size"]) == ("failed", 3, 0, 1)
    assert row["status_reason"] == "RuntimeError: the disk is gone"
    assert [row[name] for name in ("best_step", "best_fid", "confirmed_fid", "fid_infinity", "checkpoint_path")] == [
        None
    ] * 5
    traceback = (place.work(bad) / "traceback.txt").read_text()
    assert "Traceback" in traceback
    assert "the disk\n  is gone" in traceback
    assert place.evaluations(bad) == []
    # The first exception separates the two, and the one that is sound ends as if it had been alone.
    assert place.outcome(good) == (good_row, good_evaluations)


@pytest.mark.slow
def test_a_failed_run_keeps_what_it_had_reached(
    vae: tuple[Run, Any], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, (undisturbed, evaluations) = vae

    def fail(run: Run, evaluation: Evaluation) -> Evaluation:
        if evaluation.step == 4:
            raise RuntimeError("no")
        return evaluation

    disturbed(monkeypatch, fail)
    place.train(run)
    row = place.row(run)
    assert (row["status"], row["attempts"], row["steps_done"]) == ("failed", 3, 2)
    assert (row["best_step"], row["best_fid"]) == (2, evaluations[0]["fid"])
    for column in ("fid_features", "fid_reference", "fid_samples"):
        assert row[column] == undisturbed[column], "every FID names what it was measured with"
    assert [e["fid"] for e in place.evaluations(run)] == [evaluations[0]["fid"]]
    path = row["checkpoint_path"]
    assert path is None or (place.folder.root / path).exists(), "a row names no file that is not there"


def test_a_run_that_cannot_even_begin_is_a_failed_row(place: Place, make_run: Callable[..., Run]) -> None:
    """Nothing may be raised into Tune: it would lose the worker."""
    run = make_run("vae", fid_features="nosuch", **TINY)
    place.train(run)
    row = place.row(run)
    assert row["status"] == "failed"
    assert "'nosuch'" in row["status_reason"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_run_on_a_machine_without_the_device_is_a_failed_row(vae: tuple[Run, Any], place: Place) -> None:
    run, _ = vae
    place.context = replace(place.context, device="cuda")
    place.train(run)
    row = place.row(run)
    assert row["status"] == "failed"
    assert "cuda" in row["status_reason"]


def test_a_run_whose_folder_is_in_the_way_is_a_failed_row(vae: tuple[Run, Any], place: Place) -> None:
    run, _ = vae
    place.work(run).parent.mkdir()
    place.work(run).write_text("a file where the run's folder should be")
    place.train(run)
    assert place.row(run)["status"] == "failed"


def test_a_run_given_up_by_the_driver_is_a_failed_row_with_its_evaluations(
    vae: tuple[Run, Any], place: Place
) -> None:
    run, (_, evaluations) = vae
    place.train_until(2, run)
    returned = publish_failure(run, place.context, "its worker died", "a-host")
    row = place.row(run)
    assert returned == RunRow(**row)
    assert (row["status"], row["status_reason"], row["steps_done"]) == ("failed", "its worker died", 4)
    assert [e["fid"] for e in place.evaluations(run)] == [e["fid"] for e in evaluations[:2]]


def test_a_result_that_is_there_already_stays(vae: tuple[Run, Any], place: Place) -> None:
    """Its worker was thought dead, and the run was given up; then it comes to its end after all."""
    run, _ = vae
    publish_failure(run, place.context, "its worker died", "a-host")
    place.train(run)
    assert place.row(run)["status"] == "failed"
    assert place.evaluations(run) == []


# --- packs


def pack_of(run: Run, size: int) -> list[Run]:
    return [replace(run, seed=seed) for seed in range(size)]


@pytest.mark.slow
def test_a_pack_gives_each_of_its_runs_a_row(vae: tuple[Run, Any], place: Place) -> None:
    run, (alone, _) = vae
    runs = pack_of(run, 3)
    events = place.train(*runs)
    assert [(p.run.seed, p.evaluation.step) for p in events if isinstance(p, Evaluated)] == [
        (seed, step) for step in (2, 4, 6) for seed in range(3)
    ]
    rows = [place.row(member) for member in runs]
    assert [(row["status"], row["pack_size"], row["attempts"]) for row in rows] == [("completed", 3, 1)] * 3
    assert len({row["best_fid"] for row in rows}) == 3
    # Together as alone, but for rounding.
    assert rows[0]["best_fid"] == pytest.approx(alone["best_fid"], rel=0.05)
    assert all((place.work(member) / "samples.png").exists() for member in runs)


@pytest.mark.slow
def test_a_member_that_diverges_ends_and_the_others_go_on(
    vae: tuple[Run, Any], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = pack_of(vae[0], 3)
    disturbed(monkeypatch, lambda run, e: replace(e, fid=math.nan) if (run.seed, e.step) == (1, 4) else e)
    events = place.train(*runs)
    assert [p.run.seed for p in events if isinstance(p, Ended)] == [1, 0, 2]
    rows = [place.row(member) for member in runs]
    assert [row["status"] for row in rows] == ["completed", "diverged", "completed"]
    assert [row["steps_done"] for row in rows] == [6, 4, 6]


@pytest.mark.slow
def test_out_of_memory_halves_the_pack(vae: tuple[Run, Any], place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def small_device(runs: Sequence[Run], *rest: Any) -> Iterator[Any]:
        sizes.append(len(runs))
        if len(runs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        yield from train_pack(runs, *rest)

    monkeypatch.setattr("sweep.running.worker.train_pack", small_device)
    runs = pack_of(vae[0], 5)
    place.train(*runs)
    assert sizes == [5, 3, 2, 2, 1]
    assert [place.row(member)["pack_size"] for member in runs] == [2, 2, 1, 2, 2]
    assert {place.row(member)["status"] for member in runs} == {"completed"}


@pytest.mark.slow
def test_runs_that_were_left_at_different_steps_go_on_each_from_its_own(vae: tuple[Run, Any], place: Place) -> None:
    runs = pack_of(vae[0], 3)
    place.train_until(2, runs[0])
    place.train_until(1, runs[1])
    place.train_until(1, runs[2])
    events = place.train(*runs)
    assert [(p.run.seed, p.evaluation.step) for p in events if isinstance(p, Evaluated)] == [
        *((seed, step) for step in (4, 6) for seed in (1, 2)),
        (0, 6),
    ]
    assert {place.row(member)["status"] for member in runs} == {"completed"}
    assert place.outcome(runs[0])[0]["best_fid"] == vae[1][0]["best_fid"], "alone before and after"


@pytest.mark.slow
def test_another_runs_checkpoint_is_not_used(place: Place, make_run: Callable[..., Run]) -> None:
    """Not under another run_id, nor from a study of other steps, nor of other data."""
    run, sister = make_run("vae", **TINY), make_run("vae", seed=1, **TINY)
    quiet = Place(place.folder.root.parent / "quiet")
    quiet.train(run)
    longer = make_run("vae", **TINY | {"steps": 8, "evaluation_steps": (4, 6, 8)})
    other_data = replace(place.context, data_sha256="0" * 64)
    for stranger, context in ((sister, place.context), (longer, place.context), (run, other_data)):
        elsewhere = StudyFolder(place.folder.root.parent / "elsewhere", "test")
        local(elsewhere.records).mkdir(parents=True)
        events = run_task(Task((stranger,)), replace(context, results=elsewhere.root.parent))
        found = context.data_sha256
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(staging_node, "data_sha256", lambda name, folder, found=found: found)
            equipment_of.cache_clear()
            assert not next(events).is_last  # its first checkpoint
        events.close()  # type: ignore[attr-defined]
        equipment_of.cache_clear()
        shutil.rmtree(place.work(run), ignore_errors=True)
        shutil.copytree(local(elsewhere.work(stranger.run_id)), place.work(run))
        first, *_ = place.train(run)
        assert isinstance(first, Problem) and "checkpoints of another run" in first.sentence
        assert place.outcome(run) == quiet.outcome(run)
        local(place.folder.records / f"{run.run_id}.parquet").unlink()
        shutil.rmtree(local(elsewhere.root))
