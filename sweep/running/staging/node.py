"""What a node needs of data and weights for a study, found there or fetched; cheap where all is there."""

from __future__ import annotations

import socket
from pathlib import Path

from sweep.errors import OtherDataError
from sweep.events import WorkerContext
from sweep.running.staging.fetching import FETCHED, fetch_data_set, fetch_weights, file_of_weights, folder_with
from wae_core.data.images import data_sha256, load_dataset
from wae_core.evaluation.inception import WEIGHTS_NAME
from wae_core.storage.transfer import Say


def data_folder(dataset: str, context: WorkerContext, say: Say) -> Path:
    """Return the folder in which the sweep's data set lies on this node, for `load_dataset`; fetch it if need be.

    Any number of processes may call it at a time.

    Args:
        say: is told what is fetched, from where, and how far it is.

    Raises:
        OtherDataError: it lies nowhere here, and cannot be fetched; the sentence says why.
    """
    if dataset != "digits" and (there := folder_with(dataset, context.data_sha256, context.data)) is not None:
        return there
    if dataset != "digits" and context.data_source is not None:
        try:
            return fetch_data_set(dataset, context.data_sha256, context.data_source, context.data, say)
        except OSError as error:
            raise _failed(f"data set {dataset}", context, error) from error
    try:
        found = data_sha256(dataset, context.data)
        if dataset != "digits":
            load_dataset(dataset, context.data)
    except ValueError as error:
        raise OtherDataError(f"{error}, on node {socket.gethostname()}") from error
    if found != context.data_sha256:
        raise OtherDataError(
            f"data set {dataset} in {context.data} is another one than that of this sweep: its sha256 is "
            f"{found[:12]}…, and not {context.data_sha256[:12]}…"
        )
    return context.data


def weights_file(context: WorkerContext, say: Say) -> Path:
    """Return the file of Inception's weights on this node: the one that is named, or a fetched one.

    Args, Raises: as `data_folder` has them.
    """
    fetched = context.data / FETCHED / WEIGHTS_NAME
    if (there := file_of_weights(context.inception, fetched)) is not None:
        return there
    if context.data_source is None:
        raise OtherDataError(
            f"inception={context.inception} is no file of Inception's weights on node {socket.gethostname()}"
        )
    try:
        fetch_weights(context.data_source / WEIGHTS_NAME, fetched, say)
    except OSError as error:
        raise _failed("Inception's weights", context, error) from error
    return fetched


def _failed(what: str, context: WorkerContext, error: OSError) -> OtherDataError:
    reason = error.strerror or str(error).partition("\n")[0]  # a web server's answer may be a page
    where = f"from {context.data_source} to {context.data} on node {socket.gethostname()}"
    return OtherDataError(f"{what} cannot be fetched {where}: {reason}")
