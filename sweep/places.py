"""The places that a person names: a path, an object store, the web, and MLflow's; what looks otherwise is refused."""

from __future__ import annotations

import re
import unicodedata

from sweep.errors import SettingsError
from wae_core.storage.files import STORES, WEB, Location, location
from wae_core.storage.objects import ObjectPath

# The part before @ holds no other @, / or blank: what is a password then cannot be mistaken for a host.
TRACKING = r"^(sqlite:////|https?://|postgresql://([^@/?#\s]+@)?[^@/?#\s]*/[^@/?#\s]+(\?[^#\s]*)?$)"
TRACKING_WORDS = "sqlite:////absolute/path/mlflow.db, postgresql://host:port/database, http://… or https://…"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/|(s3|gs):", re.IGNORECASE)


def results_location(text: str) -> Location:
    """Return the place that the text names; ~ is the home folder, as where a shell has left it alone.

    Raises:
        SettingsError: it is no place where results could lie.
    """
    return _place("results", text, STORES, "a local path, s3://bucket/… or gs://bucket/…")


def data_source(text: str) -> Location:
    """Return the place that the text names, from which data can be read: beside those of results, one on the web.

    Raises:
        SettingsError: it is no place where data could lie.
    """
    if text.startswith(WEB) and (set("?#") & set(text) or "@" in text.split("/")[2]):
        raise SettingsError(f"data_source is {text!r}, but it is a folder's address, without ?, # and credentials")
    return _place(
        "data_source",
        text,
        (*STORES, *WEB),
        "a path, s3://bucket/…, gs://bucket/…, http://host/… or https://host/…",
    )


def _place(key: str, text: str, schemes: tuple[str, ...], allowed: str) -> Location:
    check_path(key, text)
    place = location(text, schemes)
    if isinstance(place, ObjectPath):
        if "@" in place.root:
            raise SettingsError(f"{key} names credentials, but they are taken from the environment (AWS_…, GOOGLE_…)")
        is_place = not place.root.endswith("://")
    else:
        is_place = not _SCHEME.match(text) and "://" not in text and not str(place).startswith("~")
    if not is_place:
        raise SettingsError(f"{key} is {text!r}, but it is {allowed}")
    return place


def check_tracking(text: str) -> str:
    """Return the URI of MLflow that the option --tracking gives.

    Raises:
        SettingsError: it is of no kind that the mirror writes to.
    """
    if not re.search(TRACKING, text):
        raise SettingsError(f"--tracking is {text!r}, but it is {TRACKING_WORDS}")
    return text


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
