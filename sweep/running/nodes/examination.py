"""What a node must have before it trains, asked of the node itself: code, device, data, weights, results folder."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version

import torch

from sweep.commit import sources
from sweep.errors import without_credentials
from sweep.events import WorkerContext
from sweep.results.nodes.book import NodeBook, token_in
from wae_core.data.images import data_sha256, load_dataset
from wae_core.device import describe, require_device
from wae_core.evaluation.features import load_features
from wae_core.protocol import Protocol
from wae_core.storage.files import Location, check_room, probe


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
    """

    device: str
    problems: tuple[str, ...]


def demands_of(context: WorkerContext, protocol: Protocol, book: NodeBook) -> Demands:
    """Return what is demanded of nodes that train, or score, under a protocol."""
    return Demands(context, protocol.dataset, protocol.fid_features, sources(), _versions(), book.path, book.token)


def examine(demands: Demands, declared: Mapping[str, float]) -> Finding:
    """Examine this very machine.

    Args:
        declared: the resources that its node declares, by Ray's names.
    """
    torch.set_num_threads(1)  # as workers have
    checks = (_code, _device, _data, _weights, _results)
    problems = tuple(without_credentials(problem) for check in checks for problem in check(demands, declared))
    return Finding("" if problems else _kind(demands.context.device), problems)


def _code(demands: Demands, declared: Mapping[str, float]) -> Iterator[str]:
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


def _data(demands: Demands, declared: Mapping[str, float]) -> Iterator[str]:
    context, name = demands.context, demands.dataset
    try:
        found = data_sha256(name, context.data)
        load_dataset(name, context.data)
    except ValueError as error:
        yield str(error)
        return
    if found != context.data_sha256:
        yield (
            f"data set {name} in {context.data} is another one than the driver's: its sha256 is {found[:12]}…, "
            f"and not {context.data_sha256[:12]}…"
        )


def _weights(demands: Demands, declared: Mapping[str, float]) -> Iterator[str]:
    try:
        load_features(demands.features, torch.device("cpu"), demands.context.inception)
    except ValueError as error:
        yield str(error)


def _results(demands: Demands, declared: Mapping[str, float]) -> Iterator[str]:
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
