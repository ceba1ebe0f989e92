"""`python -m sweep key=value …`: one sweep. Bad input is one sentence and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from search_spaces import SpaceError
from sweep.errors import LockLost, ResultsError, SettingsError, without_credentials
from sweep.launch import launch
from sweep.reports.status import make_console
from sweep.settings.settings import load_settings
from sweep.settings.words import CONF, studies
from wae_core.storage.files import storage_unavailable
from wae_core.storage.objects import ConflictError

HELP = """usage: python -m sweep [key=value ...]

{keys}

studies: {studies}. Any value of the study's and the cluster's file can be given too, e.g. study.steps=100,
cluster.workers=4; see sweep/conf/. To launch again with the same words continues what is missing."""


def main(words: Sequence[str]) -> int:
    """Run one launch; returns the exit code: 0 done, 2 bad input, 130 interrupted.

    1 is for a storage that took no more, and for a lock that was lost.
    """
    if {"-h", "--help"} & set(words):
        print(HELP.format(keys=(CONF / "config.yaml").read_text().strip(), studies=", ".join(studies())))
        return 0
    try:
        launch(load_settings(words), make_console())
    except (SettingsError, SpaceError, ResultsError) as error:
        print(f"error: {without_credentials(str(error))}", file=sys.stderr)
        return 2
    except OSError as error:
        if not (storage_unavailable(error) or isinstance(error, LockLost | ConflictError)):
            raise
        print(
            f"stopped: {without_credentials(str(error))}; what was finished is kept; the same command continues",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept; the same command continues", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
