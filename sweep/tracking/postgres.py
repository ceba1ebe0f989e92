"""PostgreSQL as MLflow's database: whether its driver is installed, and whether the server answers."""

from __future__ import annotations

import os

from sweep.errors import SettingsError

SCHEME = "postgresql://"
os.environ.setdefault("PGCONNECT_TIMEOUT", "10")  # seconds; MLflow's connections are made with it too


def check_driver(tracking_uri: str | None) -> None:
    """Refuse a PostgreSQL database where the package that speaks to one is not installed.

    Raises:
        SettingsError: it is not.
    """
    if tracking_uri is None or not tracking_uri.startswith(SCHEME):
        return
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            f"tracking is {SCHEME}…, which needs the package psycopg: "
            "pip install --constraint constraints.txt --editable '.[postgres]'"
        ) from error


def check_answer(tracking_uri: str) -> None:
    """Connect once, within ten seconds: MLflow would go on trying for a minute and a half.

    Raises:
        psycopg.Error: nobody answers there, or this user or database is refused.
    """
    import psycopg

    psycopg.connect(tracking_uri).close()
