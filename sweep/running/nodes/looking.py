"""The driver's look at its cluster: it sees nodes come and go, and has each that comes examine itself."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources
from ray.exceptions import NodeDiedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.errors import SettingsError
from sweep.running.nodes.census import Census, Node
from sweep.running.nodes.examination import Demands, Finding, examine
from sweep.running.nodes.room import KEYS, in_words

SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_LINES = 60.0  # that say what is waited for
SECONDS_OF_PATIENCE = 5.0  # before the first of them


class Lookout:
    """Keeps a census of the cluster up to date; without demands, all nodes are this machine's own, and stay."""

    def __init__(
        self,
        census: Census,
        demands: Demands | None,
        device: str,
        bundles: Sequence[Mapping[str, float]],
        may_grow: bool,
        say: Callable[[str], None],
    ) -> None:
        """Ask nobody yet.

        Args:
            device: cpu, cuda or xla; of which kind it is, is what nodes that are examined say.
            bundles: what the processes of one run take, by Ray's names.
            may_grow: whether there is an autoscaler, which is to be told how many workers there could be.
            say: tells a person a sentence.
        """
        self._census, self._demands, self._bundles, self._say = census, demands, list(map(dict, bundles)), say
        self._device, self._may_grow, self._requested = device, may_grow, 0  # runs at a time
        self._asked: dict[Any, Node] = {}  # nodes, by the reference of their answers
        self._looked_at = float("-inf")
        self._words = ""

    @property
    def is_of_cluster(self) -> bool:
        """Whether nodes may come and go."""
        return self._demands is not None

    def look(self, has_waiting: bool = True) -> None:
        """See who has come or gone, and who has answered; it is cheap to ask it often.

        Args:
            has_waiting: whether more workers would have something to do.
        """
        if time.monotonic() - self._looked_at < SECONDS_BETWEEN_LOOKS:
            return
        self._looked_at = time.monotonic() if self._demands else float("inf")
        self._census.see(nodes())
        for node in self._census.to_examine():
            if self._demands is None:
                self._census.admit(node, self._device)
            else:
                self._asked[_ask(node, self._demands)] = node
        self._take_answers()
        if self._may_grow:
            self._request(self._census.desired if has_waiting else self._census.at_work)

    def stop(self) -> None:
        """Ask the autoscaler for nothing any more."""
        if self._may_grow:
            self._request(0)

    def wait_for_workers(self) -> None:
        """Wait until there is room for a run, and say for what.

        Raises:
            SettingsError: every node that could train is left out.
        """
        said_at = time.monotonic() - SECONDS_BETWEEN_LINES + SECONDS_OF_PATIENCE
        while True:
            self.look()
            if self._census.workers:
                return
            left_out = self._census.left_out
            if left_out and not self._census.has_candidates:
                reasons = "; ".join(f"{each.node}: {each.reason}" for each in left_out)
                raise SettingsError(f"no node of the cluster can train: {reasons}")
            if time.monotonic() - said_at > SECONDS_BETWEEN_LINES:
                said_at = time.monotonic()
                self._say(self.waiting_words)
            time.sleep(SECONDS_BETWEEN_LOOKS / 4)

    @property
    def waiting_words(self) -> str:
        """What is waited for, as a sentence."""
        asked = ", ".join(node.name for node in self._asked.values())
        who = f"a worker, which takes {in_words(self._bundles)}"
        if asked:
            who = f"{asked}, which examine themselves and fetch what they lack of data"
        return f"waiting for {who}; {self._census.words}; {free()}"

    def _request(self, count: int) -> None:
        """Have the autoscaler see to it that so many runs fit, those that are there already among them."""
        if count != self._requested:
            self._requested = count
            request_resources(bundles=self._bundles * count)

    def _take_answers(self) -> None:
        if not self._asked:
            return
        ready, _ = ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
        for reference in ready:
            node = self._asked.pop(reference)
            try:
                finding: Finding = ray.get(reference)
            except NodeDiedError:
                continue
            except Exception as error:  # of any type: its code may be another
                self._census.leave_out(node, f"it cannot examine itself: {_sentence(error)}")
                continue
            if finding.problems:
                self._census.leave_out(node, "; ".join(finding.problems))
            else:
                for notice in finding.notices:
                    self._say(f"{node.name}: {notice}")
                self._census.admit(node, finding.device)
        if self._census.words != self._words and not self._asked:
            self._words = self._census.words
            self._say(self._words)


def nodes() -> list[Node]:
    """Return the nodes that live."""
    table: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [
        Node(entry["NodeID"], _name(entry), entry["NodeManagerHostname"], entry["Resources"])
        for entry in table
        if entry["Alive"]
    ]


def free() -> str:
    """Return what the cluster has, and how much of it is free, for a sentence."""
    there, available = ray.cluster_resources(), ray.available_resources()  # type: ignore[no-untyped-call]
    words = [f"{available.get(name, 0):g} of {there[name]:g} {name}" for name in KEYS if name in there]
    return f"free are {', '.join(words) or 'none'}"


def _name(entry: Mapping[str, Any]) -> str:
    """A node's name for a person, by which `ray list nodes` finds it."""
    given, address = entry["NodeName"], entry["NodeManagerAddress"]
    return f"{entry['NodeManagerHostname'] if given == address else given} (node {entry['NodeID'][:8]})"


def _ask(node: Node, demands: Demands) -> Any:
    """Have the node examine itself, whatever trains there; it sees all its devices, and holds none afterwards."""
    there = NodeAffinitySchedulingStrategy(node.id, soft=False)
    options: dict[str, Any] = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": there}
    if demands.context.device == "cuda":
        options |= {"max_calls": 1, "runtime_env": {"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}}}
    task: Any = ray.remote(**options)(examine)
    return task.remote(demands, dict(node.resources))


def _sentence(error: Exception) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return textwrap.shorten(lines[-1] if lines else repr(error), 200, placeholder=" …")
