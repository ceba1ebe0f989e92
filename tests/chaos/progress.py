"""How far a sweep has come, read from the names in its results folder alone."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Set
from pathlib import Path

ATTEMPT = re.compile(r"(?:^|/)work/([^/]+)/attempt-(\d+)(/step-\d+\.)?")
RECORD = re.compile(r"(?:^|/)records/[^./][^/]*\.parquet$")


def names(results: str) -> set[str]:
    """Every file and folder below `results`, a local path or an s3:// URL, by its path relative to it."""
    if "://" not in results:
        root = Path(results)  # os.walk passes over what vanishes meanwhile
        return {
            str(Path(folder, name).relative_to(root))
            for folder, folders, files in os.walk(root)
            for name in (*folders, *files)
        }
    import obstore
    from obstore.store import from_url

    return {entry["path"] for entries in obstore.list(from_url(results)) for entry in entries}


def left_behind(found: Set[str]) -> set[str]:
    """What a finished sweep must not have: attempts and records."""
    return {name for name in found if ATTEMPT.search(name) or RECORD.search(name)}


def milestones(found: Set[str]) -> set[str]:
    """Training checkpoints and records: a new one shows that the sweep goes on."""
    return {name for name in found if RECORD.search(name) or ((match := ATTEMPT.search(name)) and match[3])}


def most_barren(found: Set[str]) -> int:
    """The highest number of attempts that any run has made since its newest checkpoint."""
    newest: defaultdict[str, int] = defaultdict(int)
    fruitful: defaultdict[str, int] = defaultdict(int)
    for match in filter(None, map(ATTEMPT.search, found)):
        run_id, attempt = match[1], int(match[2])
        newest[run_id] = max(newest[run_id], attempt)
        if match[3]:
            fruitful[run_id] = max(fruitful[run_id], attempt)
    return max((attempt - fruitful[run_id] for run_id, attempt in newest.items()), default=0)
