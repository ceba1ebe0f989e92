"""The results folder is deleted or renamed under a running sweep: it stops with a sentence, and trains no more."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sweep.errors import LockLost
from sweep.results import lock
from sweep.results.folder import StudyFolder
from sweep.results.work import waiting
from sweep.settings.settings import Study
from tests.places import local
from tests.sweep.front_door import finish, start
from tests.sweep.test_faults import Sweep


def rename(path: Path) -> None:
    path.rename(path.with_name("renamed"))


def delete(path: Path) -> None:
    while path.exists():  # a worker may create a file meanwhile
        shutil.rmtree(path, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.usefixtures("_ignores_sigint")
@pytest.mark.parametrize("lose", [rename, delete])
@pytest.mark.parametrize("of", ["results", "study"])
def test_a_launch_whose_folder_is_gone_stops(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch, lose: Callable[[Path], None], of: str
) -> None:
    monkeypatch.setattr(lock, "SECONDS_BETWEEN_LOOKS", 0.2)
    monkeypatch.setattr(waiting, "SECONDS_TO_WAIT", 0.1)
    sweep = Sweep(tmp_path, study)
    steps = tuple(range(20, 20_000, 20))
    protocol = replace(sweep.study.protocol, steps=steps[-1], evaluation_steps=steps)
    sweep.settings = replace(sweep.settings, study=replace(sweep.study, protocol=protocol))
    root = local(sweep.folder.root)
    gone = root.parent if of == "results" else root

    def lose_it() -> None:
        while not list(root.glob("work/*/attempt-001/step-*.json")):
            time.sleep(0.01)
        lose(gone)

    thread = threading.Thread(target=lose_it, daemon=True)
    thread.start()
    # A folder goes file by file: the lock may be seen to go before the last of the others.
    said = "was deleted or renamed" if lose is rename else "was deleted or renamed|is being deleted"
    with pytest.raises(LockLost, match=said) as caught:
        sweep.launch_here()
    thread.join()
    assert str(root) in str(caught.value)
    assert not gone.exists(), "nothing was written into the void"


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.long
def test_with_ray_too(tmp_path: Path) -> None:
    results = tmp_path / "results"
    folder = StudyFolder(results, "digits")
    steps = ["study.steps=100000", "study.evaluation_steps=[100,100000]", "checkpoint_steps=100"]
    process = start("alg=vae", "budget=3", *steps, "cluster.workers=1", f"results={results}")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(folder.root.glob("work/*/attempt-*/step-*.json")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    rename(results)
    began = time.monotonic()
    said = finish(process, exit_code=1)
    assert time.monotonic() - began < 60
    assert "stopped: " in said and "was deleted or renamed" in said and "Traceback" not in said
    assert not results.exists(), "nothing was written into the void"
