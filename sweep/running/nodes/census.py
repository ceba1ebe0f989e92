"""The nodes as the driver knows them: who may train, how many workers each holds, and who is left out, and why."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sweep.results.nodes.book import LeftOut
from sweep.running.nodes.room import workers_that_fit

SECONDS_UNTIL_ASKED_AGAIN = 60.0  # what a node lacks, somebody may bring
SPOILED_ALLOWED = 2  # runs that raised on a node and not on another: then it is barred
UNBEGUN_ALLOWED = 3  # workers in a row that ended on a node before they began a run: then it is barred


@dataclass(frozen=True)
class Node:
    """A machine of the cluster.

    Attributes:
        id: Ray's.
        name: for a person.
        host: its host name.
        resources: what it declares, by Ray's names.
    """

    id: str
    name: str
    host: str
    resources: Mapping[str, float] = field(compare=False)


Place = tuple[Node, ...]  # where the processes of one run are, the worker first: one node each


@dataclass
class _Known:
    node: Node
    room: int  # workers
    used: int = 0
    admitted: bool = False
    device: str = ""
    reason: str = ""  # why it is left out
    ask_at: float = -math.inf  # when it is to be examined; math.inf while it is being examined, or was admitted
    spoiled: int = 0
    unbegun: int = 0
    barred: bool = False

    @property
    def may_train(self) -> bool:
        return self.admitted and not self.barred

    @property
    def free(self) -> int:
        return self.room - self.used if self.may_train else 0


class Census:
    """Who is there, and who may train.

    Attributes:
        limit: how many runs, or packs, are trained at a time at most; None: as many as the nodes have room for.
    """

    def __init__(
        self,
        wanted: Mapping[str, float],
        per_run: int,
        limit: int | None,
        say: Callable[[str], None],
        on_change: Callable[[Sequence[LeftOut]], None] = lambda left_out: None,
    ) -> None:
        """Know nobody yet.

        Args:
            wanted: what one process takes, by Ray's names.
            per_run: how many processes a run has.
            say: tells a person a sentence.
            on_change: is told who is left out, whenever that changes.
        """
        self.limit = limit
        self._wanted, self._per_run = dict(wanted), per_run
        self._say, self._on_change = say, on_change
        self._known: dict[str, _Known] = {}
        self._taken: dict[str, Place] = {}  # by worker
        self._told: dict[str, str] = {}  # reasons, by name
        self._last_released: str | None = None
        self._has_lost = False  # a node, since all workers' nodes were last found there

    # --- who is there

    def see(self, nodes: Sequence[Node]) -> None:
        """Take in which nodes there are."""
        there = {node.id: node for node in nodes}
        gone = [known for id, known in self._known.items() if id not in there]
        for known in gone:
            del self._known[known.node.id]
        self._has_lost |= bool(gone)
        for id, node in there.items():
            if id not in self._known:
                self._known[id] = _Known(node, workers_that_fit([node.resources], self._wanted))
        if any(known.may_train for known in gone):
            names = ", ".join(known.node.name for known in gone if known.may_train)
            self._say(f"gone: {names}; {self.words}")
        if any(known.reason for known in gone):
            self._on_change(self.left_out)

    def to_examine(self) -> list[Node]:
        """Return the nodes that are to be examined now, each of which is then to be admitted or left out."""
        now = time.monotonic()
        due = [known for known in self._known.values() if known.room and not known.barred and known.ask_at <= now]
        for known in due:
            known.ask_at = math.inf
        return [known.node for known in due]

    def admit(self, node: Node, device: str) -> None:
        """Let a node train, whose workers have such a device."""
        if known := self._known.get(node.id):
            was_left_out, known.admitted, known.device, known.reason = known.reason, True, device, ""
            if was_left_out:
                self._on_change(self.left_out)

    def leave_out(self, node: Node, reason: str) -> None:
        """Let a node train nothing until it is examined again."""
        if known := self._known.get(node.id):
            known.ask_at = time.monotonic() + SECONDS_UNTIL_ASKED_AGAIN
            if known.reason != reason:
                known.reason = reason
                self._on_change(self.left_out)
            if self._told.get(node.name) != reason:
                self._told[node.name] = reason
                self._say(f"{node.name} is left out: {reason}; it is asked again every minute")

    @property
    def workers(self) -> int:
        """How many runs, or packs, can be trained at a time."""
        room = sum(known.room for known in self._known.values() if known.may_train) // self._per_run
        return room if self.limit is None else min(room, self.limit)

    @property
    def at_work(self) -> int:
        """How many are being trained."""
        return len(self._taken)

    @property
    def desired(self) -> int:
        """How many there should be room for, as long as more would find work: the limit, or twice what there is."""
        return max(1, 2 * self.workers) if self.limit is None else self.limit

    @property
    def has_candidates(self) -> bool:
        """Whether a node is being examined."""
        return any(known.room and not known.admitted and known.ask_at == math.inf for known in self._known.values())

    @property
    def left_out(self) -> list[LeftOut]:
        """Who is left out, and why."""
        return [
            LeftOut(known.node.name, known.reason, known.barred) for known in self._known.values() if known.reason
        ]

    @property
    def devices(self) -> dict[str, list[str]]:
        """The ids of the nodes that may train, by their workers' kind of device, that of most workers first."""
        by_device: dict[str, list[_Known]] = {}
        for known in self._known.values():
            if known.may_train:
                by_device.setdefault(known.device, []).append(known)
        ordered = sorted(by_device.items(), key=lambda item: -sum(known.room for known in item[1]))
        return {device: [known.node.id for known in alike] for device, alike in ordered}

    @property
    def words(self) -> str:
        """How many train, for a sentence."""
        count = sum(known.may_train for known in self._known.values())
        others = len(self.left_out)
        return (
            f"{count} node{'s' * (count != 1)} train{'s' * (count == 1)}, with {self.workers} "
            f"worker{'s' * (self.workers != 1)}" + f"; {others} left out" * bool(others)
        )

    # --- places

    def places(self) -> Iterator[Place]:
        """Yield where a task may go now, the best first: where a worker has just become free, then the emptiest."""
        if self.limit is not None and len(self._taken) >= self.limit:
            return
        nodes = sorted(
            (known for known in self._known.values() if known.free),
            key=lambda known: (known.node.id != self._last_released, -known.free),
        )
        whole = [known for known in nodes if known.free >= self._per_run]
        for known in whole:
            yield (known.node,) * self._per_run
        for device in (
            {} if whole else dict.fromkeys(known.device for known in nodes)
        ):  # a run has devices of one kind
            spread = [known.node for known in nodes if known.device == device for _ in range(known.free)]
            if len(spread) >= self._per_run:
                yield tuple(spread[: self._per_run])

    def take(self, worker: str, place: Place) -> None:
        """Take in that the worker, by any name of its own, is at a place."""
        self._taken[worker] = place
        self._count(place, 1)

    def release(self, worker: str) -> None:
        """Take in that it is there no more."""
        if place := self._taken.pop(worker, None):
            self._count(place, -1)
            self._last_released = place[0].id

    def place_of(self, worker: str) -> Place:
        """Return where the worker is."""
        return self._taken[worker]

    def gone_workers(self) -> set[str]:
        """Return those, of the workers that are at a place, of whose nodes one has left the cluster."""
        if not self._has_lost:
            return set()
        gone = {w for w, place in self._taken.items() if any(node.id not in self._known for node in place)}
        self._has_lost = bool(gone)
        return gone

    def _count(self, place: Place, change: int) -> None:
        for node in place:
            if known := self._known.get(node.id):
                known.used += change

    # --- who is to blame

    def has_others(self, ids: Collection[str]) -> bool:
        """Say whether a node beside these may train."""
        return any(known.may_train and id not in ids for id, known in self._known.items())

    def spoil(self, id: str, run_id: str, reason: str) -> None:
        """Take in that a run raised on a node, and then did not on another."""
        if known := self._known.get(id):
            known.spoiled += 1
            self._say(f"{run_id} raised on {known.node.name} and not on another node: {reason}")
            if known.spoiled >= SPOILED_ALLOWED:
                self._bar(known, f"{known.spoiled} runs raised there and not on another node, at last {reason}")

    def begin(self, node: Node) -> None:
        """Take in that a worker has begun a run there."""
        if known := self._known.get(node.id):
            known.unbegun = 0

    def fail_to_begin(self, node: Node, reason: str) -> None:
        """Take in that a worker ended there before it began a run."""
        if known := self._known.get(node.id):
            known.unbegun += 1
            if known.unbegun >= UNBEGUN_ALLOWED and self.has_others([node.id]):
                self._bar(known, f"{known.unbegun} workers in a row ended there before they began a run ({reason})")

    def _bar(self, known: _Known, reason: str) -> None:
        if known.barred or not self.has_others([known.node.id]):
            return
        known.barred, known.reason = True, reason
        self._say(f"{known.node.name} gets no more work in this sweep: {reason}")
        self._on_change(self.left_out)
