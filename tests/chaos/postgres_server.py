"""A PostgreSQL server on loopback that asks for a password: `with postgres_server() as server`. It forgets all."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psutil

PASSWORD = "p@ss/word-of-postgres"  # in an address: quoted
SECONDS_TO_START = 120.0
SETTINGS = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=off", "shared_buffers=32MB")


@dataclass(frozen=True)
class PostgresServer:
    """A server that runs.

    Attributes:
        uri: of its database, with the password.
    """

    uri: str
    pid: int

    def signal(self, number: int) -> None:
        """Send a signal to each of its processes: those of connections are in no group with the first."""
        for process in [*psutil.Process(self.pid).children(recursive=True), psutil.Process(self.pid)]:
            process.send_signal(number)


def missing() -> str:
    """Say what is missing to start one; nothing where it is all there."""
    if _programs() is None:
        return "PostgreSQL's initdb and postgres are not installed: apt-get install postgresql"
    return "" if find_spec("psycopg") else "the package psycopg is not installed: make setup"


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Serve an empty database at a free port of 127.0.0.1, as a user that is not root."""
    programs = _programs()
    assert programs is not None, missing()
    user = _user() if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))  # pytest's own are closed to other users
    (folder / "password").write_text(PASSWORD)
    if user is not None:
        for path in (folder, folder / "password"):
            os.chown(path, user.pw_uid, user.pw_gid)
    who = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    try:
        initdb = [programs / "initdb", f"--pgdata={folder}/data", "--username=mlflow", f"--pwfile={folder}/password"]
        initdb += ["--auth=scram-sha-256", "--no-locale", "--encoding=UTF8", "--no-sync"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd=folder, **who)  # type: ignore[call-overload]
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        command = [programs / "postgres", "-D", f"{folder}/data", "-p", str(port)]
        command += [word for setting in SETTINGS for word in ("-c", setting)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(  # type: ignore[call-overload]
                command, stdout=log, stderr=log, cwd=folder, start_new_session=True, **who
            )
        server = PostgresServer(
            f"postgresql://mlflow:{quote(PASSWORD, safe='')}@127.0.0.1:{port}/postgres", process.pid
        )
        try:
            _wait_for(server, process, folder / "log")
            yield server
        finally:
            if process.poll() is None:
                server.signal(signal.SIGCONT)
                process.send_signal(signal.SIGQUIT)  # at once, without writing what it has in memory
            process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    """The folder of PostgreSQL's programs: that of the initdb which a shell finds, or Debian's newest."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))[::-1]
    return next((path for path in folders if (path / "initdb").exists() and (path / "postgres").exists()), None)


def _user() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _wait_for(server: PostgresServer, process: subprocess.Popen[bytes], log: Path) -> None:
    import psycopg

    until = time.monotonic() + SECONDS_TO_START
    while True:
        try:
            psycopg.connect(server.uri).close()
            return
        except psycopg.OperationalError:
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.1)
