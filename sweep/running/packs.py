"""Which runs are trained together: packs of equal shapes, as large as the cluster says or a measurement finds."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console

from sweep.events import Task
from sweep.results.folder import StudyFolder
from sweep.settings.settings import Cluster
from wae_core.run import Run
from wae_core.storage.files import Location, read, write_atomically

SIZES = (1, 3, 6, 12, 24, 48)

Rates = dict[str, float]  # models per hour by pack size; JSON's keys are strings


class Packer:
    """Splits runs into packs, for a search; how many runs a pack holds is to be known by then."""

    def __init__(self, seconds: Callable[[Run], float]) -> None:
        """`seconds` predicts what a run takes."""
        self._seconds = seconds
        self._sizes: dict[str, int] = {}

    def __call__(self, runs: Sequence[Run]) -> list[Task]:
        """Return the runs in packs, the longest first."""
        return pack_runs(runs, self._seconds, self._sizes)

    def find_sizes(
        self,
        folder: StudyFolder,
        runs: Sequence[Run],
        cluster: Cluster,
        measure: Callable[[Run, Sequence[int]], dict[int, float]],
        console: Console,
    ) -> None:
        """Find out the pack size of each architecture among the runs, as `pack_sizes` does."""
        self._sizes = pack_sizes(folder, runs, self._seconds, cluster, measure, console)


def pack_runs(runs: Sequence[Run], seconds: Callable[[Run], float], sizes: Mapping[str, int]) -> list[Task]:
    """The runs in packs of equal shapes, the longest first, so that no worker is left alone with one at the end.

    Args:
        seconds: what a run is predicted to take.
        sizes: how many runs a pack holds at most, by architecture.
    """
    by_shape: defaultdict[tuple[str | int | None, ...], list[Run]] = defaultdict(list)
    for run in runs:
        by_shape[run.shapes].append(run)
    packs = []
    for alike in by_shape.values():
        size = sizes[alike[0].hyperparameters.architecture]
        packs += [Task(tuple(alike[i : i + size])) for i in range(0, len(alike), size)]
    return sorted(packs, key=lambda pack: sum(map(seconds, pack.runs)), reverse=True)


def pack_sizes(
    folder: StudyFolder,
    runs: Sequence[Run],
    seconds: Callable[[Run], float],
    cluster: Cluster,
    measure: Callable[[Run, Sequence[int]], dict[int, float]],
    console: Console,
) -> dict[str, int]:
    """The pack size of each architecture among the runs.

    Where `cluster.pack_size` is null, the run of median cost is measured once per architecture and device type; the
    study's folder keeps the figures in pack_sizes.json.

    Args:
        seconds: what a run is predicted to take.
        measure: (run, sizes) -> models per hour by pack size, on a worker.
    """
    architectures = sorted({run.hyperparameters.architecture for run in runs})
    if cluster.pack_size is not None:
        return dict.fromkeys(architectures, cluster.pack_size)
    file = folder.root / "pack_sizes.json"
    known = _measured(file)
    sizes = {}
    for architecture in architectures:
        key = f"{cluster.device} {architecture}"
        if key not in known:
            alike = sorted((run for run in runs if run.hyperparameters.architecture == architecture), key=seconds)
            known[key] = {str(size): rate for size, rate in measure(alike[len(alike) // 2], SIZES).items()}
            write_atomically(file, json.dumps(known, indent=1).encode())
        rates = known[key]
        sizes[architecture] = int(max(rates, key=lambda size: rates[size], default="1"))
        shown = ", ".join(f"{rate:,.0f} in packs of {size}" for size, rate in rates.items())
        console.print(f"{architecture}: packs of {sizes[architecture]}; models per hour and worker: {shown}")
    return sizes


def _measured(file: Location) -> dict[str, Rates]:
    """What was measured earlier, by device and architecture; what is not such a file is measured again."""
    try:
        known = json.loads(read(file))
        return {
            key: {str(int(size)): rate for size, rate in rates.items() if math.isfinite(rate)}
            for key, rates in known.items()
        }
    except (FileNotFoundError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}
