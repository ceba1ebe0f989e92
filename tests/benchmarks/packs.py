"""Part `packs`: how many models an hour one process trains, by the number of models that it fuses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median

from tests.benchmarks.measuring import PROTOCOL, Options, Row, within
from tests.benchmarks.models import LIKE_DIGITS, random_images, run_of
from wae_core.device import has_graphs
from wae_core.run import ALGORITHMS
from wae_core.training import throughput
from wae_core.training.throughput import Packing

SIZES = {"cpu": (1, 3), "cuda": (1, 3, 6, 12, 24, 48)}
ARCHITECTURES = ("dcgan_small", "resnet11v2")
ALONE = Packing(1)
Rates = dict[Packing, float]  # models an hour


def measure(options: Options, say: Callable[[str], None]) -> list[Row]:
    device = options.device
    data = random_images(LIKE_DIGITS, 4000).to(device)
    cases = [(algorithm, architecture) for architecture in ARCHITECTURES for algorithm in ALGORITHMS]
    found: dict[tuple[str, str], list[Rates]] = {case: [] for case in cases}
    for number in within(options.rounds, options.until):
        say(f"round {number + 1} of {len(cases)} cases with packs of {', '.join(map(str, SIZES[device.type]))}")
        for left, case in zip(range(len(cases), 0, -1), cases, strict=True):
            now = time.monotonic()
            sizes = _until(now + (options.until - now) / left, SIZES[device.type])
            found[case].append(throughput.models_per_hour(run_of(*case), data, device, sizes))
    return [row for case, rates in found.items() for row in _rows(", ".join(case), rates, options)]


def _until(end: float, sizes: Sequence[int]) -> Iterator[int]:
    """The first size, and those behind it while it is not so late."""
    for size in sizes:
        if size == sizes[0] or time.monotonic() < end:
            yield size


def _rows(case: str, rates: list[Rates], options: Options) -> list[Row]:
    """What one process makes of one model at a time, and what packs gain over it, round by round."""
    of = f"models of {PROTOCOL.steps:,} steps, evaluations left out"
    rows = [Row(f"{case}: one model after the other", tuple(own[ALONE] for own in rates), "models/h", note=of)]
    target = 5 if options.device.type == "cuda" else None
    for packing in dict.fromkeys(packing for own in rates for packing in own if packing != ALONE):
        having = [own for own in rates if packing in own]
        gains = tuple(own[packing] / own[ALONE] for own in having)
        how = f"{packing.size} fused" + " by CUDA graphs" * packing.is_captured
        note = f"{median(own[packing] for own in having):,.0f} models/h"
        rows.append(Row(f"{case}: models an hour, {how} / one after the other", gains, "×", target, note=note))
    if has_graphs(options.device):
        sizes = {packing.size for own in rates for packing in own}
        captured = {packing.size for own in rates for packing in own if packing.is_captured}
        for size in sorted(sizes - captured):
            what = f"{case}: {size} fused by CUDA graphs"
            rows.append(Row(what, (), "×", note="not used: its loss is another than the step's, or memory ended"))
    return rows
