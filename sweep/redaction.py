"""Secrets do not get into rows, MLflow or sentences: they are taken out of texts that others wrote, as errors are."""

from __future__ import annotations

import os
import re

_USER_OF_ADDRESS = re.compile(r"(?<=://)[^/\s'\"]*@")  # http://user:password@host
_SECRET = re.compile(r"secret|password|passwd|token|credential|api_?key", re.IGNORECASE)  # variables' names
_SHORTEST = 8  # characters; a shorter value, "true" say, may stand in a text by chance


def without_credentials(text: str) -> str:
    """The text, with *** for the user of an address and for the values of variables that name a secret."""
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= _SHORTEST:
            text = text.replace(value, "***")
    return _USER_OF_ADDRESS.sub("***@", text)
