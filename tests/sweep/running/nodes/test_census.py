"""Who may train, how many workers each node holds, and where a task may go."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sweep.results.nodes.book import LeftOut
from sweep.running.nodes import census as census_module
from sweep.running.nodes.census import Census, Node, Place

A, B, C = (Node(id, id, f"host-{id}", {"CPU": 4.0, "GPU": 2.0}) for id in "abc")
SMALL = Node("s", "s", "host-s", {"CPU": 1.0})


def census_of(
    *nodes: Node, wanted: dict[str, float] | None = None, per_run: int = 1, limit: int | None = None
) -> Census:
    census = Census(wanted or {"CPU": 1, "GPU": 1}, per_run, limit, lambda sentence: None)
    census.see(nodes)
    for node in census.to_examine():
        census.admit(node, "cuda: A100")
    return census


def fill(census: Census) -> list[Place]:
    """Take places until there is none."""
    taken: list[Place] = []
    while place := next(census.places(), None):
        census.take(str(len(taken)), place)
        taken.append(place)
    return taken


def counts(places: Sequence[Place]) -> dict[str, int]:
    return {node.id: sum(place.count(node) for place in places) for place in places for node in place}


@pytest.mark.parametrize(
    ("wanted", "each"),
    [({"CPU": 1, "GPU": 1}, 2), ({"CPU": 1, "GPU": 0.5}, 4), ({"GPU": 0.1}, 20), ({"CPU": 3}, 1), ({"CPU": 5}, 0)],
)
def test_a_node_holds_as_many_workers_as_fit(wanted: dict[str, float], each: int) -> None:
    """0.1 goes ten times into 1, whatever binary fractions say."""
    census = census_of(A, B, wanted=wanted)
    assert census.workers == 2 * each
    assert counts(fill(census)) == ({"a": each, "b": each} if each else {})


def test_no_more_are_at_work_than_are_asked_for() -> None:
    census = census_of(A, B, limit=3)
    assert census.workers == 3
    assert len(fill(census)) == 3
    census.release("1")
    assert len(list(census.places())) > 0


def test_the_processes_of_a_run_are_on_one_node_where_they_fit_and_else_on_several() -> None:
    assert fill(census_of(A, B, per_run=2)) == [(A, A), (B, B)]
    assert counts(fill(census_of(A, B, C, per_run=3))) == {"a": 2, "b": 2, "c": 2}
    assert fill(census_of(A, per_run=3)) == []


def test_a_run_has_devices_of_one_kind() -> None:
    census = Census({"GPU": 1}, 3, None, lambda sentence: None)
    census.see([A, B, C])
    for node, device in zip(census.to_examine(), ["cuda: T4", "cuda: A100", "cuda: A100"], strict=True):
        census.admit(node, device)
    assert counts(fill(census)) == {"b": 2, "c": 1}


def test_a_task_goes_where_a_worker_has_just_become_free() -> None:
    census = census_of(A, B)
    places = fill(census)
    worker = next(str(index) for index, place in enumerate(places) if place == (B,))
    census.release(worker)
    assert next(census.places()) == (B,)


def test_a_node_trains_once_it_is_found_well_and_is_asked_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[list[LeftOut]] = []
    said: list[str] = []
    census = Census({"CPU": 1}, 1, None, said.append, lambda left_out: told.append(list(left_out)))
    census.see([A, SMALL])
    assert census.to_examine() == [A, SMALL]
    assert census.to_examine() == [], "asked, and not answered yet"
    assert census.workers == 0
    census.admit(SMALL, "cpu")
    census.leave_out(A, "no data")
    assert census.workers == 1
    assert told == [[LeftOut("a", "no data", False)]]
    assert census.to_examine() == []
    monkeypatch.setattr(census_module, "SECONDS_UNTIL_ASKED_AGAIN", -1.0)
    census.leave_out(A, "no data")
    assert census.to_examine() == [A]
    assert len(said) == 1, "a reason is said once"
    census.admit(A, "cpu")
    assert (census.workers, told[-1]) == (5, [])


def test_nodes_that_go_take_their_workers_with_them_and_come_back_as_others() -> None:
    census = census_of(A, B)
    fill(census)
    census.see([B])
    assert census.workers == 2
    assert census.gone_workers() == {worker for worker in "0123" if census.place_of(worker) == (A,)}
    for worker in census.gone_workers():
        census.release(worker)
    assert census.gone_workers() == set()
    assert list(census.places()) == []
    census.see([B, C])
    assert list(census.places()) == [], "it has not been examined"


def test_a_node_that_is_too_small_is_not_even_asked() -> None:
    census = Census({"CPU": 2}, 1, None, lambda sentence: None)
    census.see([SMALL])
    assert census.to_examine() == []


def test_the_device_of_most_workers_stands_first() -> None:
    census = Census({"GPU": 1}, 1, None, lambda sentence: None)
    census.see([A, B, C])
    for node, device in zip(census.to_examine(), ["cuda: T4", "cuda: A100", "cuda: A100"], strict=True):
        census.admit(node, device)
    assert list(census.devices.items()) == [("cuda: A100", ["b", "c"]), ("cuda: T4", ["a"])]


def test_the_last_node_is_not_barred() -> None:
    census = census_of(A, B)
    for _ in range(2):
        census.spoil("a", "vae-00000-s0", "OSError")
    for _ in range(2):
        census.spoil("b", "vae-00000-s0", "OSError")
    assert [(each.node, each.is_barred) for each in census.left_out] == [("a", True)]
