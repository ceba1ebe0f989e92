"""Whether a Ray cluster can be joined: told within seconds and in one sentence, where Ray waits for minutes."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from sweep.errors import SettingsError
from sweep.running.connection.token import is_token_missing, missing_token, protect_token

SECONDS_TO_ANSWER = 5.0  # for a head
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"  # a client's preface: RFC 9113, 3.4
SECONDS_TO_START = 8.0  # for a node of Ray's on this machine, which comes after the head that a script waits for
SECONDS_TO_REGISTER = 60.0  # where one has started: on a busy machine that takes half a minute
Answer = TypeVar("Answer")


def check_reachable(address: str) -> None:
    """Connect to the head of a cluster, be greeted, and hang up.

    Args:
        address: host:port.

    Raises:
        SettingsError: nobody listens there, or nobody answers; for a head that was stopped, the kernel still listens.
    """
    try:
        _in_time(lambda: _greet(address))
    except OSError as error:
        raise SettingsError(f"the Ray cluster {address} of RAY_ADDRESS cannot be reached: {error}") from error


def join(
    address: str | None,
    ask: Callable[[], set[str]],
    here: Callable[[], set[str]],
    refused: type[Exception],
    use_token: Callable[[], bool],
) -> None:
    """Be admitted to a cluster: without a token, or with this machine's where the head wants one.

    Args:
        address: host:port of the head, for the sentences; None where RAY_ADDRESS is auto, and nothing was found.
        ask: returns the ids of the cluster's nodes; raises `refused` where the head wants another token than is used.
        here: returns the ids of the nodes on this machine, of whatever cluster.
        use_token: uses the token from now on; False where there is none, or RAY_AUTH_MODE forbids it.

    Raises:
        SettingsError: the head does not answer, it wants a token that is not there, or no node of it is here.
    """
    if address is None:
        raise SettingsError("RAY_ADDRESS is auto, but no node of a Ray cluster runs on this machine")
    if is_token_missing():  # which ends Ray's process without a word
        raise SettingsError(f"the Ray cluster {address} {missing_token()}")
    protect_token()  # RAY_AUTH_MODE may have it used from the start
    try:
        with _silent():
            try:
                nodes = _in_time(ask)
            except refused:
                if not use_token():
                    raise
                nodes = _in_time(ask)
            began = time.monotonic()
            while not nodes & (own := here()):
                if time.monotonic() - began > (SECONDS_TO_REGISTER if own else SECONDS_TO_START):
                    break
                time.sleep(0.5)
                nodes = _in_time(ask)
    except refused as error:
        raise SettingsError(f"the Ray cluster {address} {missing_token()}") from error
    except Exception as error:  # of any type, as Ray's are
        raise SettingsError(f"the Ray cluster {address} cannot be joined: {error}") from error
    if not nodes & here():
        raise SettingsError(
            f"no node of the Ray cluster {address} runs on this machine: launch on one of its nodes, or from here by "
            "`ray job submit` (docs/clusters.md)"
        )


def _greet(address: str) -> None:
    """Begin to speak HTTP/2, as gRPC does; whatever comes back, somebody is there."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=SECONDS_TO_ANSWER) as connection:
        connection.sendall(GREETING)
        with contextlib.suppress(ConnectionError):
            connection.recv(1)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Nothing on the standard error stream: Ray's C++ warns there of a missing token, and knows no level for it."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _in_time(question: Callable[[], Answer]) -> Answer:
    """Return its answer, or raise its error; TimeoutError where there is none in time: its thread is left behind."""
    answers: list[Answer] = []
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            answers.append(question())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=ask, name="question", daemon=True)
    thread.start()
    thread.join(SECONDS_TO_ANSWER)
    if errors:
        raise errors[0]
    if not answers:
        raise TimeoutError(f"no answer within {SECONDS_TO_ANSWER:g} s")
    return answers[0]
