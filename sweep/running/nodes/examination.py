"""What a node must have before it trains, asked of the node itself: code, device, data, weights, results folder."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version

import torch

from sweep.commit import sources
from sweep.errors import OtherDataError, without_credentials
from sweep.events import WorkerContext
from sweep.results.nodes.book import NodeBook, token_in
from sweep.running.staging.node import data_folder, weights_file
from wae_core.device import describe, require_device
from wae_core.evaluation.features import load_features
from wae_core.protocol import Protocol
from wae_core.storage.files import Location, check_room, probe
from wae_core.storage.transfer import Say


@dataclass(frozen=True)
class Demands:
    """What is demanded of each node.

    Attributes:
        sources: git's id of the packages that make rows.
        versions: of Python and torch.
        book: the file in the study's folder that holds `token`: who sees another folder does not find it.
    """

    context: WorkerContext
    dataset: str
    features: str
    sources: str
    versions: Mapping[str, str]
    book: Location
    token: str


@dataclass(frozen=True)
class Finding:
    """What a node says of itself.

    Attributes:
        device: the kind of its workers' device, as rows name it.
        problems: why it cannot train, in words; none where it can.
        notices: what it has fetched, in words.
    """

    device: str
    problems: tuple[str, ...]
    notices: tuple[str, ...]


def demands_of(context: WorkerContext, protocol: Protocol, book: NodeBook) -> Demands:
    """Return what is demanded of nodes that train, or score, under a protocol."""
    return Demands(context, protocol.dataset, protocol.fid_features, sources(), _versions(), book.path, book.token)


def examine(demands: Demands, declared: Mapping[str, float]) -> Finding:
    """Examine this very machine, which fetches what it lacks of data and weights.

    Args:
        declared: the resources that its node declares, by Ray's names.
    """
    torch.set_num_threads(1)  # as workers have
    notices: list[str] = []
    checks = (
        _code(demands),
        _device(demands, declared),
        _data(demands, notices.append),
        _weights(demands, notices.append),
        _results(demands),
    )
    problems = tuple(without_credentials(problem) for check in checks for problem in check)
    return Finding("" if problems else _kind(demands.context.device), problems, tuple(notices))


def _code(demands: Demands) -> Iterator[str]:
    if sources() != demands.sources:
        yield (
            f"its code is another: {sources()[:12]}…, and not the driver's {demands.sources[:12]}… "
            "(cluster.send_code=true sends it the driver's)"
        )
    for name, found in _versions().items():
        if found != demands.versions[name]:
            yield f"it has {name} {found}, and the driver {demands.versions[name]}"


def _device(demands: Demands, declared: Mapping[str, float]) -> Iterator[str]:
    name = demands.context.device
    try:
        require_device(name)
        if name != "cuda":
            return
        count, said = torch.cuda.device_count(), round(declared.get("GPU", 0))
        if count < said:
            yield f"it declares {said} GPUs, but torch sees {count}"
        for index in range(count):
            torch.ones(1, device=f"cuda:{index}").sum().item()
    except (ValueError, RuntimeError) as error:
        yield str(error).strip().splitlines()[0]


def _data(demands: Demands, say: Say) -> Iterator[str]:
    try:
        data_folder(demands.dataset, demands.context, say)
    except OtherDataError as error:
        yield str(error)


def _weights(demands: Demands, say: Say) -> Iterator[str]:
    try:
        weights = weights_file(demands.context, say) if demands.features == "inception" else None
        load_features(demands.features, torch.device("cpu"), weights)
    except ValueError as error:
        yield str(error)


def _results(demands: Demands) -> Iterator[str]:
    folder = demands.book.parent
    try:
        if token_in(demands.book) != demands.token:
            raise FileNotFoundError
        probe(folder)
        check_room(folder)
    except (FileNotFoundError, NotADirectoryError):
        yield f"{folder} is not the driver's folder there: results lie on a disk that all nodes share, or in a store"
    except (OSError, ValueError) as error:
        yield f"{folder} cannot be used there: {error}"


def _kind(device: str) -> str:
    # A TPU chip belongs to the process that opens it: here it is not.
    return device if device == "xla" else describe(torch.device(device))


def _versions() -> dict[str, str]:
    return {"Python": platform.python_version(), "torch": version("torch")}
