"""A process dies before, in the middle of, and after every write: the next launch ends as an undisturbed one."""

from __future__ import annotations

import builtins
import io
import multiprocessing
import os
import re
import shutil
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweep.launch import launch
from sweep.results.folder import StudyFolder
from sweep.running.attempt import equipment_of
from sweep.running.training import worker_context
from sweep.search.plan import plan_runs
from sweep.settings.settings import Study, load_settings
from sweep.tracking.mlflow_study import MlflowStudy
from wae_core.run import ALGORITHMS, Run

MLFLOW = MlflowStudy  # imported once, and not by each child process
FORK = multiprocessing.get_context("fork")
DIED = 17  # exit code
# What may differ between an undisturbed run and a resumed one.
MAY_DIFFER = {"train_seconds", "eval_seconds", "cpu_seconds", "attempts", "started_at", "ended_at", "host"}
Outcome = tuple[list[dict[str, Any]], list[dict[str, Any]]]


class Writes:
    """Counts what this process changes below a folder, and ends it before the k-th change or in the middle of it.

    It stands in front of the operating system's calls, so that it does not matter which of our functions makes them.
    """

    def __init__(self, root: Path, die_at: int | None) -> None:
        self._root, self._die_at = str(root), die_at
        self.log: list[str] = []  # "call path" of each moment

    def install(self) -> None:
        """Only in a child process: nothing is put back."""
        for name in ("replace", "rename", "link", "unlink", "remove", "mkdir", "rmdir"):
            setattr(os, name, self._watched(name, getattr(os, name)))
        fsync = os.fsync

        def watched_fsync(fd: int) -> None:
            self._moment("fsync", _path_of(fd))
            fsync(fd)

        os.fsync = watched_fsync
        io.open = builtins.open = self._watched_open(io.open)  # type: ignore[assignment]

    def _moment(self, call: str, path: str) -> None:
        if not path.startswith(self._root):
            return
        name = re.sub(r"\.\d+\.tmp$", ".tmp", path.removeprefix(self._root))
        self.log.append(f"{call} {name}")
        if len(self.log) == self._die_at:
            os._exit(DIED)

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(path: Any, *args: Any, **named: Any) -> Any:
            folder = named.get("dir_fd")  # shutil.rmtree gives names relative to one
            place = Path("" if folder is None else _path_of(folder), os.fspath(path))
            self._moment(name, str(place))
            return call(path, *args, **named)

        return watched

    def _watched_open(self, real_open: Callable[..., Any]) -> Callable[..., Any]:
        def watched(path: Any, mode: str = "r", *args: Any, **named: Any) -> Any:
            if isinstance(path, int) or not set("wxa+") & set(mode):
                return real_open(path, mode, *args, **named)
            self._moment("open", os.fspath(path))
            return _HalfWritten(real_open(path, mode, *args, **named), lambda: self._moment("write", os.fspath(path)))

        return watched


def _path_of(file_descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{file_descriptor}").readlink())


class _HalfWritten:
    """A file whose every write has a moment in its middle."""

    def __init__(self, file: Any, moment: Callable[[], None]) -> None:
        self._file, self._moment = file, moment

    def write(self, data: Any) -> int:
        self._file.write(data[: len(data) // 2])
        self._file.flush()
        self._moment()
        self._file.write(data[len(data) // 2 :])
        return len(data)

    def __enter__(self) -> _HalfWritten:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


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
        self._log = tmp_path / "log"
        # Kept for the child processes.
        equipment_of("digits", protocol.fid_features, worker_context(self.settings, self.folder))

    def launch(self, die_at: int | None = None) -> int | None:
        """Do what is missing, or die on the way; returns the exit code."""
        child = FORK.Process(target=self._child, args=(die_at,))
        child.start()
        child.join(timeout=60)
        return child.exitcode

    def writes(self) -> list[str]:
        """What the last launch that ended by itself wrote."""
        return self._log.read_text().splitlines()

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
        shutil.rmtree(self.folder.root.parent)

    def _child(self, die_at: int | None) -> None:
        try:
            writes = Writes(self.folder.root.parent, die_at)
            writes.install()
            self._launch()
            self._log.write_text("\n".join(writes.log))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    def _launch(self) -> None:
        launch(self.settings, Console(file=io.StringIO()))


@pytest.fixture
def sweep(tmp_path: Path, study: Study) -> Sweep:
    return Sweep(tmp_path, study)


def test_a_death_at_any_write_loses_doubles_and_changes_nothing(sweep: Sweep) -> None:
    assert sweep.launch() == 0
    quiet, writes = sweep.outcome(), sweep.writes()
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
    for moment in skip_alike(writes):
        sweep.clear()
        assert sweep.launch(die_at=moment) == DIED, writes[moment - 1]
        assert sweep.launch() == 0, f"the launch after a death at: {writes[moment - 1]}"
        assert sweep.outcome() == quiet, f"after a death at: {writes[moment - 1]}"
        left = {str(path.relative_to(sweep.folder.root)) for path in sweep.folder.root.rglob("*") if path.is_file()}
        expected = {"study.yaml", "plan.parquet", "attempts.parquet", "real_images.json", "lock"}
        expected |= {f"{name}/{a}.parquet" for name in ("runs", "evaluations") for a in ALGORITHMS}
        work = f"work/{sweep.runs[0].run_id}"
        expected |= {f"{work}/{name}" for name in ("best.safetensors", "best.json")}
        assert {name for name in left if not name.endswith(".png")} == expected, writes[moment - 1]


def skip_alike(writes: Sequence[str]) -> list[int]:
    """The moments, counted from 1, without those of two algorithms' empty tables and of two of the pictures.

    To a process that dies, what lies before a file's fsync and before its rename is the same.
    """
    alike = re.compile(r"/\.?(wae-mmd|wae-gan)\.parquet|/\.?(reconstructions|interpolations)\.png|^fsync ")
    return [number for number, write in enumerate(writes, start=1) if not alike.search(write)]
