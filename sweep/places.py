"""The results folder that a person names: a path or a place in an object store; what looks otherwise is refused."""

from __future__ import annotations

import re
import unicodedata

from sweep.errors import SettingsError
from wae_core.storage.files import Location, location
from wae_core.storage.objects import ObjectPath

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|(s3|gs):", re.IGNORECASE)


def results_location(text: str) -> Location:
    """Return the place that the text names; ~ is the home folder, as where a shell has left it alone.

    Raises:
        SettingsError: it is no place where results could lie.
    """
    check_path("results", text)
    results = location(text)
    if isinstance(results, ObjectPath):
        if "@" in results.root:
            raise SettingsError(
                "results names credentials, but they are taken from the environment (AWS_…, GOOGLE_…)"
            )
        is_place = not results.root.endswith("://")
    else:
        is_place = not _SCHEME.match(text) and "://" not in text and not str(results).startswith("~")
    if not is_place:
        raise SettingsError(f"results is {text!r}, but it is a local path, s3://bucket/… or gs://bucket/…")
    return results


def check_path(key: str, text: str | None) -> str:
    """Return the text, if it may be the path of a file.

    Raises:
        SettingsError: it is empty, or holds what no file name may, or what a table could not show.
    """
    if not text:
        raise SettingsError(f"{key} is {text!r}, but it is a text")
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in text):
        raise SettingsError(f"{key} is {text!r}, but it is a path without control characters, in UTF-8")
    return text
