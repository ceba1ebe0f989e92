"""The file in which a launch says which nodes it has left out, and by which a node knows its results folder."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sweep.errors import ResultsError
from wae_core.storage.files import Location, read, write_atomically


@dataclass(frozen=True)
class LeftOut:
    """A node that trains nothing, until it is examined again; for the rest of the sweep where it is barred."""

    node: str
    reason: str
    is_barred: bool


class NodeBook:
    """The file of one launch; who is left out is the launch's own: the next one asks every node again."""

    def __init__(self, path: Location) -> None:
        """Touch nothing."""
        self.path, self.token = path, secrets.token_hex(16)

    def begin(self) -> None:
        """Write it anew, or raise OSError."""
        self.write([])

    def forget(self) -> None:
        """Delete what an earlier launch has left, where this one has no nodes but its own."""
        self.path.unlink(missing_ok=True)

    def write(self, left_out: Sequence[LeftOut]) -> None:
        """Write down who is left out."""
        document = {"launch": self.token, "left_out": [asdict(each) for each in left_out]}
        write_atomically(self.path, json.dumps(document, indent=1, ensure_ascii=False).encode())


def token_in(path: Location) -> str:
    """Return the token of the launch that wrote the file.

    Raises:
        OSError: it is not there, or cannot be read.
        ResultsError: it is no such file.
    """
    return _parsed(path)[0]


def left_out_in(path: Location) -> list[LeftOut]:
    """Return who is left out by the last launch; nobody where it has written no such file.

    Raises:
        ResultsError: it is no such file.
    """
    try:
        return _parsed(path)[1]
    except FileNotFoundError:
        return []


def _parsed(path: Location) -> tuple[str, list[LeftOut]]:
    try:
        document = json.loads(read(path))
        left_out = [
            LeftOut(str(each["node"]), str(each["reason"]), bool(each["is_barred"])) for each in document["left_out"]
        ]
        return str(document["launch"]), left_out
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise ResultsError(
            f"{path} cannot be used: delete it, the next launch on a cluster writes it anew"
        ) from error
