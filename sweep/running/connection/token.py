"""The token by which a process may join a Ray cluster: readable to us alone, and why a cluster refuses it."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

SOURCES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")  # in Ray's order; after them comes the file


def guard_token() -> None:
    """Make the file by which a process may join our clusters readable to us alone, which Ray does not."""
    path = _file()
    try:
        path.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError), open(path, "x", opener=_open_private) as file:
            file.write(secrets.token_hex(32))
        path.chmod(0o600)
    except OSError:  # a home that cannot be written
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def protect_token() -> None:
    """Make the file readable to us alone where it is there, as on a cluster whose head has given it to us."""
    with contextlib.suppress(OSError):  # there is none, or it is on a disk that cannot be written
        _file().chmod(0o600)


def is_token_missing() -> bool:
    """Say whether RAY_AUTH_MODE demands a token, and there is none."""
    demanded = os.environ.get("RAY_AUTH_MODE", "").lower() == "token"
    return demanded and not any(map(os.environ.get, SOURCES)) and not _file().exists()


def missing_token() -> str:
    """Say what is to be done where a cluster refuses this process, as the end of a sentence about the cluster."""
    mode, path = os.environ.get("RAY_AUTH_MODE"), _file()
    if mode is not None and mode.lower() != "token":
        return f"asks for a token, but RAY_AUTH_MODE is {mode!r}: unset it"
    for source in SOURCES:  # the values are secrets
        if os.environ.get(source):
            return f"refuses the token of {source}: give its head's own, from ~/.ray/auth_token there"
    if path.exists():
        return f"refuses the token in {path}: copy ~/.ray/auth_token of its head there, with mode 0600"
    return f"asks for a token, and there is none here: copy ~/.ray/auth_token of its head to {path}, with mode 0600"


def _file() -> Path:
    return Path.home() / ".ray" / "auth_token"


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)
