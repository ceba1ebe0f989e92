"""A run's row and evaluations, made of what it has behind it, and published as one record."""

from __future__ import annotations

import socket
from datetime import UTC, datetime

from sweep.events import WorkerContext
from sweep.results.folder import StudyFolder
from sweep.results.schema import FAILED, RunRow, device_column, evaluation_rows, row_of
from sweep.results.work.history import History, Owner
from sweep.results.work.run_folder import BEST, RunFolder
from wae_core.device import describe, select_device
from wae_core.evaluation.evaluator import Confirmation
from wae_core.run import Run


def run_folder(run: Run, context: WorkerContext) -> RunFolder:
    """Return the run's own folder, whose checkpoints are its own."""
    work = StudyFolder(context.results, run.study).work(run.run_id)
    return RunFolder(work, Owner.of(run, context.data_sha256))


def publish_failure(run: Run, context: WorkerContext, reason: str, host: str) -> RunRow:
    """Publish the run as failed, with what its checkpoints say that it had reached.

    Args:
        host: the machine that tried it last.
    """
    history, _ = run_folder(run, context).resume()
    return publish(run, 1, context, history, FAILED, reason, None, host)


def publish(
    run: Run,
    pack_size: int,
    context: WorkerContext,
    history: History,
    status: str,
    reason: str | None,
    confirmation: Confirmation | None,
    host: str | None = None,
) -> RunRow:
    """Publish a run that has ended; returns its row.

    Args:
        pack_size: how many runs were trained together.
        history: what the run has behind it.
        reason: why it did not complete, or was stopped early.
        confirmation: of the kept checkpoint; None where there is none.
        host: the machine that trained it; None: this one.
    """
    folder = StudyFolder(context.results, run.study)
    row = row_of(
        run,
        history.step,
        history.best,
        status=status,
        status_reason=reason,
        confirmed_fid=confirmation.fid if confirmation else None,
        fid_infinity=confirmation.fid_infinity if confirmation else None,
        fid_features=history.fid_features,
        fid_reference=history.fid_reference,
        fid_warning=history.fid_warning,
        data_sha256=context.data_sha256,
        train_seconds=history.train_seconds,
        eval_seconds=history.eval_seconds,
        cpu_seconds=history.cpu_seconds,
        device=_device_name(context),
        host=host or socket.gethostname(),
        attempts=RunFolder(folder.work(run.run_id)).attempt_count,
        pack_size=pack_size,
        git_commit=context.git_commit,
        started_at=datetime.fromisoformat(history.started_at),
        ended_at=datetime.now(UTC),
        checkpoint_path=f"work/{run.run_id}/{BEST}" if confirmation else None,
    )
    folder.publish(row, evaluation_rows(run, history.evaluations))
    return row


def _device_name(context: WorkerContext) -> str:
    try:
        return device_column(describe(select_device(context.device)), context.accelerators_per_run)
    except ValueError:  # a run may have failed for want of the device
        return context.device
