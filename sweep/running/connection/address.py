"""Which Ray cluster a launch joins, and whether it is of this machine alone."""

from __future__ import annotations

import ipaddress
import os
import socket

from sweep.errors import SettingsError
from sweep.running.watch import reach

SOMEWHERE = ("192.0.2.1", 9)  # an address for examples (RFC 5737): who asks the way there sends nothing


def cluster_address() -> str | None:
    """Return the Ray cluster that RAY_ADDRESS names; None where Ray is to be started on this machine.

    Raises:
        SettingsError: it names none.
    """
    address = os.environ.get("RAY_ADDRESS", "").strip()
    if address in ("", "local"):
        return None
    host, _, port = address.rpartition(":")
    if address != "auto" and (not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 2**16):
        raise SettingsError(f"RAY_ADDRESS is {address!r}, but it is host:port of a cluster's head, auto or local")
    return address


def is_loopback_alone(address: str) -> bool:
    """Say whether a head, host:port, listens on loopback and not on the address that other machines know.

    Ray replaces a loopback address by the other one, at which such a head is never found.
    """
    host, _, port = address.rpartition(":")
    if not _is_loopback(host.strip("[]")):
        return False
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
            way.connect(SOMEWHERE)
            reach(f"{way.getsockname()[0]}:{port}")
    except OSError:
        return True
    return False


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
