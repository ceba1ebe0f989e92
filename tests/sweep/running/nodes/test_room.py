"""What a worker takes, how many fit, and how many cores there are."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from sweep.errors import SettingsError
from sweep.running.nodes.room import check_fit, cores, cpus_here, may_grow, workers_that_fit
from sweep.settings.compose import load_settings


@pytest.fixture
def one_core() -> Iterator[None]:
    """What Slurm, taskset or a container's cpuset leaves to this process."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("one_core")
def test_the_cores_are_those_that_the_process_may_use() -> None:
    assert cpus_here() == 1
    assert cores(load_settings([]).cluster) == 1
    assert cores(load_settings(["cluster.workers=3", "cluster.cpus_per_worker=2"]).cluster) == 6


@pytest.mark.parametrize(
    ("nodes", "wanted", "workers"),
    [
        ([{"CPU": 8.0}], {"CPU": 1}, 8),
        ([{"CPU": 16.0, "GPU": 4.0}], {"CPU": 1, "GPU": 1}, 4),
        ([{"CPU": 2.0, "GPU": 4.0}], {"CPU": 1, "GPU": 1}, 2),
        ([{"CPU": 7.0}], {"CPU": 2}, 3),
        ([{"CPU": 4.0}], {"CPU": 1, "GPU": 1}, 0),
        ([{"CPU": 3.0}, {"CPU": 5.0}, {}], {"CPU": 2}, 3),
        ([{"CPU": 1.0}] * 3, {"CPU": 2}, 0),
        ([{"CPU": 8.0}, {"GPU": 8.0}], {"CPU": 1, "GPU": 1}, 0),
        ([], {"CPU": 1}, 0),
    ],
)
def test_as_many_workers_as_the_scarcest_resource_of_each_node_is_enough_for(
    nodes: list[dict[str, float]], wanted: dict[str, float], workers: int
) -> None:
    assert workers_that_fit(nodes, wanted) == workers


def test_workers_larger_than_every_node_are_refused_with_what_there_is() -> None:
    check_fit([{"CPU": 1.0}, {"CPU": 4.0}], {"CPU": 4})
    with pytest.raises(SettingsError) as raised:
        check_fit([{"CPU": 2.0}, {"CPU": 1.0, "GPU": 1.0}], {"CPU": 64, "GPU": 1})
    assert str(raised.value) == (
        "not one worker fits: cluster.cpus_per_worker is 64, cluster.gpus_per_worker is 1, "
        "but a node has at most 2 CPU, 1 GPU"
    )


def test_more_workers_for_a_model_than_there_is_room_for_are_refused() -> None:
    nodes = [{"CPU": 4.0, "GPU": 2.0}, {"CPU": 4.0, "GPU": 3.0}]
    check_fit(nodes, {"CPU": 1, "GPU": 1}, 5)
    with pytest.raises(SettingsError) as raised:
        check_fit(nodes, {"CPU": 1, "GPU": 1}, 8)
    assert str(raised.value) == (
        "cluster.accelerators_per_run is 8, but there is room for 5 workers, each of which takes 1 CPU, 1 GPU"
    )


@pytest.mark.parametrize(
    ("status", "grows"),
    [
        (None, False),
        (b'{"load_metrics_report": {}}', False),
        (b'{"autoscaler_report": {"active_nodes": {"node_0a1b": 1, "node_2c": 1}}}', False),
        (b'{"autoscaler_report": {"active_nodes": {"ray.head.default": 1}}}', True),
    ],
)
def test_a_cluster_with_an_autoscaler_may_grow(status: bytes | None, grows: bool) -> None:
    assert may_grow(status) == grows
