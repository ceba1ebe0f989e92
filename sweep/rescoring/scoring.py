"""A task in one worker whose runs' stored models are scored again; nothing is trained, and nothing is written."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from sweep.events import Event, NotRescored, Rescored, Task, WorkerContext
from sweep.results.folder import StudyFolder
from sweep.results.schema import RescoreRow, columns_of
from sweep.results.work.run_folder import BEST
from sweep.running.attempt import Equipment, equipment_for
from sweep.running.worker import persist
from wae_core.device import describe, memory_format
from wae_core.model_file import load_model
from wae_core.protocol import Protocol
from wae_core.run import Run
from wae_core.storage.checkpoint import CheckpointError

# What of a protocol says how a model is scored, and not how it was trained.
OF_SCORING = ("fid_features", "fid_samples", "fid_reference", "fid_reference_images", "accept_few_images")


def score_task(task: Task, context: WorkerContext) -> Iterator[Event]:
    """Score the stored model of each of the task's runs, whose protocol says how."""
    return persist(task, context, _score)


def scored_as(protocol: Protocol, how: Protocol) -> Protocol:
    """Return a protocol under which models are trained as under the first, and scored as under the second."""
    return replace(protocol, **{name: getattr(how, name) for name in OF_SCORING})


def score_model(run: Run, equipment: Equipment, folder: StudyFolder, context: WorkerContext) -> RescoreRow:
    """Score the stored model of a run as its protocol says, on the very samples of a `confirmed_fid` of that kind.

    Raises:
        CheckpointError: the model is missing or damaged, or that of another run.
    """
    began = time.perf_counter()
    path, evaluator, device = folder.work(run.run_id) / BEST, equipment.evaluator, equipment.device
    model, found, step = load_model(path)
    if replace(found, protocol=scored_as(found.protocol, run.protocol)) != run:
        raise CheckpointError(f"{path} is the model of another run than {run.run_id} of this study")
    confirmation = evaluator.confirm(run, model.to(device, memory_format=memory_format(device)), step)  # type: ignore[call-overload]
    return RescoreRow(
        **columns_of(run),
        step=step,
        fid=confirmation.fid,
        fid_infinity=confirmation.fid_infinity,
        fid_features=evaluator.features_name,
        fid_reference=evaluator.reference_name,
        fid_samples=run.protocol.fid_samples,
        fid_warning=evaluator.warning(run.protocol.fid_samples),
        data_sha256=context.data_sha256,
        seconds=time.perf_counter() - began,
        device=describe(device),
        host=socket.gethostname(),
        git_commit=context.git_commit,
        scored_at=datetime.now(UTC),
    )


def _score(runs: Sequence[Run], task: Task, context: WorkerContext) -> Iterator[Event]:
    for run in runs:
        equipment = equipment_for(run.protocol, context)
        try:
            row = score_model(run, equipment, StudyFolder(context.results, run.study), context)
        except CheckpointError as error:
            yield NotRescored(run, str(error))
        else:
            yield Rescored(run, row)
