"""`bigwae status --check`: whether all files of a study are whole, are of this study, and agree with each other."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any

from PIL import Image
from rich.console import Console
from rich.progress import track

from sweep.errors import ResultsError
from sweep.results.belonging import Rules, fids_by_run, read_own_record
from sweep.results.folder import StudyFolder
from sweep.results.plan_file import read_plan
from sweep.results.schema import run_of
from sweep.results.study_file import read_rules
from sweep.results.work.attempt_log import read_attempts
from sweep.results.work.run_folder import ATTEMPT, BEST
from wae_core.hyperparameters import Hyperparameters
from wae_core.names import PICTURES
from wae_core.run import Run
from wae_core.storage.checkpoint import CheckpointError, load_checkpoint
from wae_core.storage.files import listed


def check_study(folder: StudyFolder, console: Console) -> int:
    """Read every file of the study whole; returns how many problems there are, each of which is printed."""
    count = 0
    for problem in _problems(folder, console):
        console.print(problem, style="red", markup=False)
        count += 1
    console.print(f"{folder.root}: {count or 'no'} problem{'s' if count != 1 else ''} found")
    return count


def _problems(folder: StudyFolder, console: Console) -> Iterator[str]:
    try:
        rules, seed = read_rules(folder)
        for row in read_plan(folder).to_pylist():
            rules.planned[row["run_id"]] = Hyperparameters.pick(row)
            if row["steps_planned"] != rules.protocol.steps:
                yield f"{folder.plan_file}: {row['run_id']} is planned with {row['steps_planned']} steps"
        folder.check_pairs()
        for path in listed(folder.records, "*.parquet"):
            read_own_record(folder, path, rules)
        read_attempts(folder)
        folder.read_rescores()
        fids = fids_by_run(folder.read_table("evaluations"))
        rows = folder.read_table("runs").to_pylist()
    except (ResultsError, FileNotFoundError) as error:  # without it, the others cannot be judged
        yield str(error)
        return
    ended = {row["run_id"] for row in rows}
    for row in track(rows, f"checking {len(rows):,} models", console=console, transient=True):
        if what := rules.foreign(row) or rules.lacks(row, fids.get(row["run_id"], {})):
            yield f"{folder.root}: the row of {row['run_id']}: {what}"
        if row["run_id"] not in rules.planned:
            yield f"{folder.plan_file}: {row['run_id']} has a row, and is not in the plan"
        if row["checkpoint_path"] is not None:
            yield from _of_model(folder, row, rules, seed)
    for work in listed(folder.root / "work", "*"):
        if work.name in rules.planned and work.name not in ended:
            for path in listed(work, f"{ATTEMPT}*/step-*.json"):
                try:
                    load_checkpoint(path.with_suffix(".safetensors"))
                except CheckpointError as error:
                    yield f"{error}; an earlier one is used"


def _of_model(folder: StudyFolder, row: Mapping[str, Any], rules: Rules, seed: int) -> Iterator[str]:
    """What is wrong with the best checkpoint of a row, and with the pictures beside it."""
    work = folder.work(row["run_id"])
    try:
        _, content = load_checkpoint(work / BEST)
        run = run_of(row, rules.study, seed, rules.protocol)
        if Run.from_plain(content["run"]) != run or content["step"] != row["best_step"]:
            yield f"{work / BEST} is the model of another run or step than the row of {row['run_id']} says"
    except (CheckpointError, LookupError, TypeError, ValueError, AttributeError) as error:
        yield f"{work / BEST} cannot be used: {error}"
    for name in PICTURES:
        path = work / f"{name}.png"
        try:
            Image.open(io.BytesIO(path.read_bytes()), formats=["PNG"]).load()
        except (OSError, SyntaxError, ValueError) as error:
            yield f"picture {path} cannot be read: {error}"
