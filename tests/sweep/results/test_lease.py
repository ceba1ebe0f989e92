"""The lock in an object store: one driver at a time, taken over after a death, and noticed when it is lost."""

from __future__ import annotations

import itertools
import json
import os
import socket
import time
from typing import Any

import pytest

from sweep.errors import LockLost, SettingsError
from sweep.interruption import interruptible
from sweep.results import lock
from sweep.results.lock import Lease, results_lock
from wae_core.storage.objects import ObjectPath

numbers = itertools.count()


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> ObjectPath:
    """The lock's name in obstore's own store in memory; a lease there runs out after 1.5 seconds."""
    monkeypatch.setattr(lock, "LEASE_SECONDS", 1.5)
    return ObjectPath("memory://", f"lease-{next(numbers)}/lock")


def holder(path: ObjectPath) -> dict[str, Any]:
    holder: dict[str, Any] = json.loads(path.read_bytes())
    return holder


def left_by(path: ObjectPath, host: str, pid: int) -> None:
    path.put(json.dumps({"host": host, "pid": pid, "generation": 4, "renewals": 9}).encode())


def test_the_lock_names_its_holder_and_is_given_back(path: ObjectPath) -> None:
    for generation in range(3):
        with results_lock(path) as check:
            check()
            found = holder(path)
            assert (found["host"], found["pid"], found["generation"]) == (
                socket.gethostname(),
                os.getpid(),
                generation,
            )
        assert holder(path)["host"] is None


@pytest.mark.slow
def test_a_second_driver_is_refused_with_the_firsts_host_and_pid(path: ObjectPath) -> None:
    with results_lock(path), pytest.raises(SettingsError) as caught, results_lock(path):
        pass
    assert f"host {socket.gethostname()}, pid {os.getpid()}" in str(caught.value)


@pytest.mark.slow
def test_a_held_lease_is_renewed(path: ObjectPath) -> None:
    with results_lock(path) as check:
        time.sleep(2.5)
        check()
        assert holder(path)["renewals"] >= 3


def test_the_lease_of_a_dead_process_of_this_host_is_taken_over_at_once(path: ObjectPath) -> None:
    left_by(path, socket.gethostname(), pid=2**22 + 1)  # above the kernel's largest
    began = time.monotonic()
    with results_lock(path):
        assert time.monotonic() - began < 1
        assert holder(path)["generation"] == 5


@pytest.mark.slow
def test_the_lease_of_a_lost_host_is_taken_over_when_it_was_not_renewed(path: ObjectPath) -> None:
    left_by(path, "a-lost-host", pid=1)
    began = time.monotonic()
    with results_lock(path):
        assert time.monotonic() - began > lock.LEASE_SECONDS
        assert holder(path)["generation"] == 5


GOOD = {"host": "there", "pid": 1, "generation": 4, "renewals": 9}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"host here, pid 1",
        b"[" * 100_000,
        *(b"null", b"[]", b'"x"', b"{}", b'{"host": null}'),
        *(json.dumps(GOOD | {name: value}).encode() for name, value in (
            ("host", 1), ("host", []), ("pid", "1"), ("pid", None), ("pid", 2**40), ("pid", -1), ("pid", True),
            ("generation", "4"), ("generation", None), ("generation", 1.5), ("generation", -1),
        )),
    ],
)  # fmt: skip
def test_an_object_of_another_shape_is_refused_in_a_sentence(path: ObjectPath, content: bytes) -> None:
    path.put(content)
    with pytest.raises(SettingsError, match="not a lease") as caught, results_lock(path):
        pytest.fail("it is held")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert path.read_bytes() == content


@pytest.mark.usefixtures("_ignores_sigint")
def test_who_loses_the_lease_is_interrupted_and_writes_no_more(path: ObjectPath) -> None:
    lease = Lease(path)

    def hold() -> None:
        with interruptible(), lease:
            left_by(path, "another-host", pid=1)  # as one would who found it not renewed
            time.sleep(5)

    with pytest.raises(KeyboardInterrupt):
        hold()
    with pytest.raises(LockLost, match="lost to another driver"):
        lease.check()
    assert holder(path)["host"] == "another-host", "it is not given back by who does not hold it"


@pytest.mark.slow
def test_who_cannot_renew_the_lease_stops_before_another_may_take_it(
    path: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> Any:
        raise OSError("away")

    lease = Lease(path)
    with lease:
        with monkeypatch.context() as patch:
            patch.setattr(ObjectPath, "put", unreachable)
            time.sleep(lock.LEASE_SECONDS + 0.5)
            with pytest.raises(LockLost, match="could not be renewed"):
                lease.check()
        time.sleep(lock.LEASE_SECONDS)
        lease.check()  # nobody took it meanwhile, so it is held again
