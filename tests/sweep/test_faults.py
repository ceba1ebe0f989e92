"""A process dies, or a call fails, at every write: the next launch ends as an undisturbed one.

`make faults` tries every failure at every write.
"""

from __future__ import annotations

import errno
import io
import itertools
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweep.launch import launch
from sweep.results.folder import StudyFolder
from sweep.results.work import waiting
from sweep.running.attempt import equipment_of
from sweep.running.training import worker_context
from sweep.search.plan import plan_runs
from sweep.settings.compose import load_settings
from sweep.settings.settings import Study
from sweep.tracking import mlflow_client, mlflow_study
from tests import crashes
from tests.places import local
from wae_core.data.images import data_sha256
from wae_core.run import ALGORITHMS, Run

MLFLOW = (mlflow_client, mlflow_study)  # imported once, and not by each child process
# What may differ between an undisturbed run and a resumed one.
MAY_DIFFER = {"train_seconds", "eval_seconds", "cpu_seconds", "attempts", "started_at", "ended_at", "host"}
Outcome = tuple[list[dict[str, Any]], list[dict[str, Any]]]


class Sweep:
    """A study of one tiny run, launched without Ray: driver and worker are one child process."""

    def __init__(self, tmp_path: Path, study: Study) -> None:
        protocol = replace(study.protocol, steps=2, evaluation_steps=(1, 2), fid_samples=20, evaluation_images=10)
        # MLflow's server is down: the mirror tries when it likes, and nothing depends on it.
        words = ["cluster=inprocess", "alg=vae", "budget=1", "study.seeds=1", "tracking=http://127.0.0.1:9"]
        self.study = replace(study, seeds=1, protocol=protocol)
        self.settings = replace(load_settings([*words, f"results={tmp_path / 'results'}"]), study=self.study)
        self.runs: Sequence[Run] = plan_runs(self.study, "vae", 1)
        self.folder = StudyFolder(tmp_path / "results", study.name)
        # Kept for the child processes.
        equipment_of(
            "digits", protocol.fid_features, worker_context(self.settings, self.folder, data_sha256("digits"), None)
        )

    def launch(self, at: int | None = None, failure: crashes.Failure | None = None) -> crashes.Ended | None:
        """Do what is missing, or meet a death or a failure on the way."""
        return crashes.run(self.launch_here, local(self.folder.root.parent), at, failure)

    def quiet(self) -> list[str]:
        """Do all of it undisturbed; returns its writes."""
        ended = self.launch()
        assert ended is not None
        return ended.moments

    def outcome(self) -> Outcome:
        runs, evaluations = (
            [
                {name: value for name, value in row.items() if name not in MAY_DIFFER}
                for row in self.folder.read_table(table).to_pylist()
            ]
            for table in ("runs", "evaluations")
        )
        return runs, evaluations

    def clear(self) -> None:
        shutil.rmtree(local(self.folder.root.parent))

    def files(self) -> set[str]:
        root = local(self.folder.root)
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}

    def launch_here(self) -> None:
        """Launch in this very process."""
        launch(self.settings, Console(file=io.StringIO()))


class ProposingSweep(Sweep):
    """Optuna proposes three configurations, and ASHA stops some of their runs."""

    def __init__(self, tmp_path: Path, study: Study) -> None:
        super().__init__(tmp_path, study)
        words = ["cluster=inprocess", "alg=vae", "budget=3", "study.seeds=1", "tracking=http://127.0.0.1:9"]
        settings = load_settings([*words, f"results={tmp_path / 'results'}", "search=optuna", "scheduler=asha"])
        self.study = replace(self.study, optuna=settings.study.optuna, asha=2)
        self.settings = replace(settings, study=self.study)


class ConfirmingSweep(Sweep):
    """Two configurations, the better one of which is trained again with two fresh seeds."""

    def __init__(self, tmp_path: Path, study: Study) -> None:
        super().__init__(tmp_path, study)
        self.settings = replace(self.settings, budget=2, confirm=1, confirm_seeds=2)

    def confirmation(self) -> Outcome:
        own = self.folder
        self.folder = StudyFolder(own.root.parent, f"{own.root.name}-confirm")
        found = self.outcome()
        self.folder = own
        return found


@pytest.fixture
def sweep(tmp_path: Path, study: Study) -> Sweep:
    return Sweep(tmp_path, study)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_death_at_any_write_loses_doubles_and_changes_nothing(sweep: Sweep, all_positions: bool) -> None:
    writes = sweep.quiet()
    quiet = sweep.outcome()
    assert [row["status"] for row in quiet[0]] == ["completed"]
    assert [row["step"] for row in quiet[1]] == [1, 2]
    # The moments are those that matter: what is written without being seen here would not be tested.
    kinds = Counter(write.split()[0] for write in writes)
    assert kinds.keys() >= {"open", "write", "fsync", "replace", "link", "unlink", "mkdir", "rmdir"}
    for name in (
        "study.yaml", "plan.parquet", "real_images.json", "step-000000001.safetensors", "step-000000001.json",
        "step-000000002.safetensors", "best.safetensors", "best.json", "samples.png", "/records/.",
        "/runs/.vae.parquet", "/evaluations/.vae.parquet", "start.json", "attempts.parquet",
    ):  # fmt: skip
        assert {"open", "write", "fsync"} <= {write.split()[0] for write in writes if name in write}, name
    files = sweep.files()
    expected = {"study.yaml", "plan.parquet", "attempts.parquet", "real_images.json", "lock"}
    expected |= {f"{name}/{a}.parquet" for name in ("runs", "evaluations") for a in ALGORITHMS}
    expected |= {f"work/{sweep.runs[0].run_id}/{name}" for name in ("best.safetensors", "best.json")}
    assert {name for name in files if not name.endswith(".png")} == expected
    for moment in skip_alike(writes)[:: 1 if all_positions else 5]:
        sweep.clear()
        assert sweep.launch(at=moment) is None, writes[moment - 1]
        assert sweep.launch() is not None
        assert sweep.outcome() == quiet, f"after a death at: {writes[moment - 1]}"
        assert sweep.files() == files, writes[moment - 1]


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_death_within_the_confirmation_or_before_it_changes_nothing(
    tmp_path: Path, study: Study, all_positions: bool
) -> None:
    sweep = ConfirmingSweep(tmp_path, study)
    writes = sweep.quiet()
    quiet, confirmed = sweep.outcome(), sweep.confirmation()
    assert [row["run_id"] for row in confirmed[0]] == [f"{confirmed[0][0]['config_id']}-s{seed}" for seed in (1, 2)]
    begin = next(number for number, write in enumerate(writes, start=1) if "test-confirm" in write)
    moments = [moment for moment in skip_alike(writes) if moment >= begin]
    # All of them as long as the pick may be lost, and then a part.
    planned = next(number for number in moments if "plan.parquet" in writes[number - 1]) + 3
    first = [moment for moment in moments if moment <= planned]
    for moment in moments if all_positions else [*first[::5], *moments[len(first) :: 40]]:
        sweep.clear()
        assert sweep.launch(at=moment) is None, writes[moment - 1]
        assert sweep.launch() is not None
        assert sweep.outcome() == quiet, f"after a death at: {writes[moment - 1]}"
        assert sweep.confirmation() == confirmed, f"after a death at: {writes[moment - 1]}"


# Of a local disk that is full, that breaks and that the kernel makes read-only; and what a network adds.
FAILURES = [crashes.Failure(number) for number in (errno.ENOSPC, errno.EIO, errno.EROFS)]
LOST_ANSWER = crashes.Failure(errno.EIO, crashes.Disk.LOSES_ANSWERS)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_write_that_fails_once_loses_doubles_and_changes_nothing(
    sweep: Sweep, all_positions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [*FAILURES, LOST_ANSWER]
    writes = sweep.quiet()
    if all_positions:
        trials = list(itertools.product(range(1, len(writes) + 1), failures))
    else:
        trials = list(zip(skip_alike(writes)[::8], itertools.cycle(failures), strict=False))
    check(sweep, writes, trials, monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_nor_does_one_of_a_sweep_that_proposes_and_stops_early(
    tmp_path: Path, study: Study, all_positions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the failures in turn; what is alike to the other sweep is left out."""
    sweep = ProposingSweep(tmp_path, study)
    writes = sweep.quiet()
    assert {"open", "write", "fsync"} <= {write.split()[0] for write in writes if "/optuna.journal" in write}
    moments = skip_alike(writes)
    check(
        sweep,
        writes,
        list(zip(moments[:: 1 if all_positions else 48], itertools.cycle(FAILURES), strict=False)),
        monkeypatch,
    )


def check(
    sweep: Sweep,
    writes: Sequence[str],
    trials: Sequence[tuple[int, crashes.Failure]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Launch with each failure, and again without; `sweep` has just done its work undisturbed."""
    monkeypatch.setattr(waiting, "SECONDS_TO_WAIT", 0.01)
    quiet, files, stopped = sweep.outcome(), sweep.files(), 0
    for moment, failure in trials:
        what = f"{failure} at: {writes[moment - 1]}"
        sweep.clear()
        ended = sweep.launch(moment, failure)
        assert ended is not None
        assert ended.error or sweep.outcome() == quiet, f"it seemed to be done after {what}"
        stopped += bool(ended.error)
        again = sweep.launch()
        assert again is not None and not again.error, what
        assert sweep.outcome() == quiet, what
        assert sweep.files() == files, what
    print(f"\n{len(writes)} writes of a sweep, {len(trials)} failures, after {stopped} of which it stopped")


def skip_alike(writes: Sequence[str]) -> list[int]:
    """The moments, counted from 1, without those of two algorithms' empty tables, two pictures and the second probe.

    To a process that dies, what lies before a file's fsync and before its rename is the same.
    """
    alike = re.compile(
        r"/\.?(wae-mmd|wae-gan)\.parquet|/\.?(reconstructions|interpolations)\.png|/records/\.+probe|^fsync "
    )
    return [number for number, write in enumerate(writes, start=1) if not alike.search(write)]
