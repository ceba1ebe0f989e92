"""What a person is told when something cannot be done, and the secrets that are taken out of such texts."""

from __future__ import annotations

import os
import re

CONTINUES = "what was finished is kept; the same command continues"  # the advice to whom a sweep stopped
# http://user:password@host, where a careless password may hold a slash; and postgresql://host/x?password=…
_OF_ADDRESS = re.compile(r"(?<=://)([^/\s]*|[^/\s]*:\S*)@|(?<=password=)[^&\s'\"]+", re.IGNORECASE)
_SECRET = re.compile(r"secret|password|passwd|token|credential|api_?key", re.IGNORECASE)  # variables' names
_SHORTEST = 8  # characters; a shorter value, "true" say, may stand in a text by chance


class SettingsError(ValueError):
    """The user asked for something that cannot be done; the message is one sentence for them."""


class ResultsError(ValueError):
    """A file of the results folder is damaged or not ours; the message is one sentence that names it."""


class OtherDataError(ValueError):
    """A node has not the sweep's data or weights, and trains nothing; the message is one sentence that says why."""


class LockLost(OSError):
    """Another driver may hold the lock by now: nothing must be written or deleted any more."""


class WorkersLost(OSError):
    """There are no workers any more, or none can start: nothing is trained until the next launch."""


def without_credentials(text: str) -> str:
    """Replace the user and the password of an address, and the values of variables that name a secret, by ***."""
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= _SHORTEST:
            text = text.replace(value, "***")
    return _OF_ADDRESS.sub(lambda found: "***" + "@" * found[0].endswith("@"), text)
