"""A cluster is joined with a token where it wants one, and what is missing is told in a sentence, within seconds."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.errors import SettingsError
from sweep.running.connection import joining
from sweep.running.connection.joining import check_reachable, join
from sweep.running.connection.token import guard_token

HEAD = "10.0.0.1:6379"
HERE = {"aa"}


class Refused(Exception):
    """What Ray raises where the head wants another token."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a token, in an environment that says nothing of one."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def write_token(home: Path) -> Path:
    path = home / ".ray" / "auth_token"
    path.parent.mkdir()
    path.write_text("secret")
    path.chmod(0o644)
    return path


class Head:
    """One that wants a token, which is used once `use_token` was called."""

    def __init__(self, knows: bool = True) -> None:
        self.knows, self.uses, self.asked = knows, False, 0

    def ask(self) -> set[str]:
        self.asked += 1
        if not (self.knows and self.uses):
            raise Refused
        return {"aa", "bb"}

    def use_token(self) -> bool:
        self.uses = "RAY_AUTH_MODE" not in os.environ
        return self.uses


def refusal(ask: Callable[[], set[str]], use_token: Callable[[], bool] = lambda: False) -> str:
    with pytest.raises(SettingsError) as caught:
        join(HEAD, ask, lambda: HERE, Refused, use_token)
    return str(caught.value)


def test_a_head_that_wants_no_token_is_shown_none(home: Path) -> None:
    path = write_token(home)
    join(HEAD, lambda: {"aa"}, lambda: HERE, Refused, lambda: pytest.fail("the token was used"))
    assert path.stat().st_mode & 0o777 == 0o600, "private all the same: RAY_AUTH_MODE may have it used from the start"


def test_one_that_wants_a_token_is_shown_this_machine_s_which_nobody_else_may_read(home: Path) -> None:
    path, head = write_token(home), Head()
    join(HEAD, head.ask, lambda: HERE, Refused, head.use_token)
    assert head.asked == 2
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_missing_is_said(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / ".ray" / "auth_token"
    cure = f"copy ~/.ray/auth_token of its head to {path}, with mode 0600"
    none = f"the Ray cluster {HEAD} asks for a token, and there is none here: {cure}"
    assert refusal(Head().ask) == none
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert refusal(lambda: pytest.fail("Ray ends the process where it is asked")) == none
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert "but RAY_AUTH_MODE is 'disabled': unset it" in refusal(Head().ask)
    monkeypatch.delenv("RAY_AUTH_MODE")
    write_token(home)
    head = Head(knows=False)
    assert f"refuses the token in {path}: copy " in refusal(head.ask, head.use_token)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another secret")
    said = refusal(head.ask, head.use_token)
    assert "refuses the token of RAY_AUTH_TOKEN: " in said
    assert "another secret" not in said


def test_who_is_on_no_node_is_told_so_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "SECONDS_TO_START", 0.1)
    monkeypatch.setattr(joining, "SECONDS_TO_REGISTER", 0.2)
    with pytest.raises(SettingsError, match="no node of the Ray cluster"):
        join(HEAD, lambda: {"bb"}, set, Refused, lambda: False)
    assert f"no node of the Ray cluster {HEAD} runs on this machine" in refusal(lambda: {"bb"})
    with pytest.raises(SettingsError, match="RAY_ADDRESS is auto, but no node"):
        join(None, set, set, Refused, lambda: False)


def test_this_machine_s_node_may_come_after_its_head() -> None:
    """A script waits for the head; Ray's own look for a node takes a minute."""
    answers: list[set[str]] = [set(), {"bb"}, {"aa"}]
    join(HEAD, lambda: answers.pop(0) if len(answers) > 1 else answers[0], lambda: HERE, Refused, lambda: False)
    assert answers == [{"aa"}]


def hang() -> set[str]:
    time.sleep(60)
    return HERE


def fail() -> set[str]:
    raise RuntimeError("connection reset")


def test_a_head_that_hangs_or_is_none_is_told_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "SECONDS_TO_ANSWER", 0.1)
    began = time.monotonic()
    assert refusal(hang).endswith("cannot be joined: no answer within 0.1 s")
    assert refusal(fail).endswith("cannot be joined: connection reset")
    assert time.monotonic() - began < 5


def test_what_ray_says_of_a_refusal_is_not_shown(capfd: pytest.CaptureFixture[str]) -> None:
    def ask() -> set[str]:
        os.write(2, b"[2026 W] gcs_client.cc:210: Unauthenticated")
        return HERE

    join(HEAD, ask, lambda: HERE, Refused, lambda: False)
    os.write(2, b"after it")
    assert capfd.readouterr().err == "after it"


@pytest.mark.parametrize("answer", [b"\0\0\0\4\0\0\0\0\0", b"HTTP/1.1 400 Bad Request\r\n\r\n", None])
def test_a_head_that_was_stopped_is_refused_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, answer: bytes | None
) -> None:
    """It is connected to as any other: that is the kernel's doing."""
    monkeypatch.setattr(joining, "SECONDS_TO_ANSWER", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                assert connection.recv(100).startswith(b"PRI * HTTP/2.0")
                connection.sendall(answer or b"")

        if answer is None:
            with pytest.raises(SettingsError, match=r"cannot be reached: (no answer within 0.5 s|timed out)"):
                check_reachable(address)
            return
        thread = threading.Thread(target=serve)
        thread.start()
        check_reachable(address)  # whether it is Ray's is found out when it is joined
        thread.join()


def test_a_port_at_which_nobody_listens_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(SettingsError, match=rf"^the Ray cluster {address} of RAY_ADDRESS cannot be reached: "):
        check_reachable(address)


def test_the_token_that_we_make_is_readable_to_us_alone(home: Path) -> None:
    guard_token()
    path = home / ".ray" / "auth_token"
    assert path.stat().st_mode & 0o777 == 0o600
    token = path.read_text()
    guard_token()
    assert path.read_text() == token
