"""How many runs a pack holds: as the cluster says, or as a short measurement on one of its workers finds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from rich.console import Console

from sweep.results.folder import StudyFolder
from sweep.settings.settings import Cluster
from wae_core.run import Run
from wae_core.storage.files import write_atomically

SIZES = (1, 3, 6, 12, 24, 48)

Rates = dict[str, float]  # models per hour by pack size; JSON's keys are strings


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
    known: dict[str, Rates] = json.loads(file.read_bytes()) if file.exists() else {}
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
