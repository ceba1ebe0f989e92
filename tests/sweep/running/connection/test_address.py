"""Which cluster is joined, and whether it listens on loopback alone."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from sweep.running.connection import address as rules
from sweep.running.connection.address import is_loopback_alone


@pytest.fixture
def port() -> Iterator[int]:
    """A server's that listens on 127.0.0.1."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_head_on_loopback_is_of_this_machine_alone(host: str, port: int) -> None:
    """Ray looks for it at the address that other machines know, and waits there for minutes."""
    assert is_loopback_alone(f"{host}:{port}")


def test_a_head_that_others_can_reach_is_not(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_loopback_alone(f"192.0.2.9:{port}")
    monkeypatch.setattr(rules, "reach", lambda address: None)  # it listens on the other address as well
    assert not is_loopback_alone(f"127.0.0.1:{port}")
