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
from wae_core.training.throughput import Packing

SIZES = (1, 3, 6, 12, 24, 48)

Rates = dict[Packing, float]  # models per hour
Measure = Callable[[Run, Sequence[int]], Rates]
CAPTURED = " by CUDA graphs"  # behind a pack size


class Packer:
    """Splits runs into packs, for a search; how many runs a pack holds is to be known by then."""

    def __init__(self, seconds: Callable[[Run], float]) -> None:
        """`seconds` predicts what a run takes."""
        self._seconds = seconds
        self._packings: dict[str, Packing] = {}

    def __call__(self, runs: Sequence[Run]) -> list[Task]:
        """Return the runs in packs, the longest first."""
        return pack_runs(runs, self._seconds, self._packings)

    @property
    def captured(self) -> frozenset[str]:
        """The architectures whose training step is captured as a CUDA graph."""
        return frozenset(name for name, packing in self._packings.items() if packing.is_captured)

    def find_packings(
        self,
        folder: StudyFolder,
        runs: Sequence[Run],
        cluster: Cluster,
        device: str,
        measure: Measure,
        console: Console,
    ) -> None:
        """Find out how each architecture among the runs is packed, as `find_packings` does."""
        self._packings = find_packings(folder, runs, self._seconds, cluster, device, measure, console)


def pack_runs(runs: Sequence[Run], seconds: Callable[[Run], float], packings: Mapping[str, Packing]) -> list[Task]:
    """The runs in packs of equal shapes, the longest first, so that no worker is left alone with one at the end.

    Args:
        seconds: what a run is predicted to take.
        packings: say how many runs a pack holds at most, by architecture.
    """
    by_shape: defaultdict[tuple[str | int | None, ...], list[Run]] = defaultdict(list)
    for run in runs:
        by_shape[run.shapes].append(run)
    packs = []
    for alike in by_shape.values():
        size = packings[alike[0].hyperparameters.architecture].size
        packs += [Task(tuple(alike[i : i + size])) for i in range(0, len(alike), size)]
    return sorted(packs, key=lambda pack: sum(map(seconds, pack.runs)), reverse=True)


def find_packings(
    folder: StudyFolder,
    runs: Sequence[Run],
    seconds: Callable[[Run], float],
    cluster: Cluster,
    device: str,
    measure: Measure,
    console: Console,
) -> dict[str, Packing]:
    """Return how each architecture among the runs is packed.

    Where `cluster.pack_size` is null, the run of median cost is measured once per architecture and kind of device;
    the study's folder keeps the figures in pack_sizes.json. Runs that have several accelerators each are not packed.

    Args:
        seconds: what a run is predicted to take.
        device: the kind of device that is measured.
        measure: (run, sizes) -> models per hour, on a worker.
    """
    architectures = sorted({run.hyperparameters.architecture for run in runs})
    if cluster.pack_size is not None or cluster.accelerators_per_run > 1:
        return dict.fromkeys(architectures, Packing(cluster.pack_size or 1))
    file = folder.root / "pack_sizes.json"
    known = _measured(file)
    packings = {}
    for architecture in architectures:
        key = f"{device} {architecture}"
        if key not in known:
            alike = sorted((run for run in runs if run.hyperparameters.architecture == architecture), key=seconds)
            known[key] = measure(alike[len(alike) // 2], SIZES)
            write_atomically(file, json.dumps(_named(known), indent=1).encode())
        rates = known[key]
        best = packings[architecture] = max(rates, key=lambda packing: rates[packing], default=Packing(1))
        shown = ", ".join(f"{rate:,.0f} in packs of {_name(packing)}" for packing, rate in rates.items())
        console.print(f"{architecture}: packs of {_name(best)}; models per hour and worker: {shown}")
    return packings


def _named(known: Mapping[str, Rates]) -> dict[str, dict[str, float]]:
    """As JSON has it, whose keys are strings."""
    return {key: {_name(packing): rate for packing, rate in rates.items()} for key, rates in known.items()}


def _name(packing: Packing) -> str:
    return f"{packing.size}{CAPTURED * packing.is_captured}"


def _packing(name: str) -> Packing:
    return Packing(int(name.removesuffix(CAPTURED)), name.endswith(CAPTURED))


def _measured(file: Location) -> dict[str, Rates]:
    """What was measured earlier, by device and architecture; what is not such a file is measured again."""
    try:
        known = json.loads(read(file))
        return {
            key: {_packing(name): rate for name, rate in rates.items() if math.isfinite(rate)}
            for key, rates in known.items()
        }
    except (FileNotFoundError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}
