"""The benchmark suite: ratios within one run, interleaved, as one table and as JSON (`make bench`).

python -m tests.benchmarks                                     all parts, about 15 minutes on 2 cores
python -m tests.benchmarks --device cuda                       on a GPU, with torch, numpy and safetensors alone
python -m tests.benchmarks orchestration --runs 300            a quick look
python -m tests.benchmarks scale --runs 10000 --rounds 3       a finished study: launch, status, reading

A part is a module here with `measure(options, say) -> list[Row]`, named in DEVICE_PARTS, PARTS or ON_DEMAND. On a GPU
they share --minutes, 7 of them: what one part leaves goes to those behind it, none begins a round that would end too
late, and each has a first one.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import importlib.util
import json
import math
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.measuring import Options, Row, describe_machine
from wae_core.device import select_device

# Each is imported when it is asked for: not every machine has what each of them needs. Those of a device need torch,
# numpy and safetensors; with them stands how they share the time that there is.
DEVICE_PARTS = {"numerics": 1, "celeba": 3, "processes": 3, "packs": 6, "step": 1, "frechet": 2}
PARTS = (*DEVICE_PARTS, "orchestration")
ON_DEMAND = ("scale", "cluster", "traffic", "tracking")
MINUTES_ON_CUDA = 7


def main() -> int:
    arguments = _arguments()
    try:
        device = select_device(arguments.device)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    options = Options(device, arguments.runs, arguments.rounds, arguments.pythae)
    parts = arguments.parts or _parts(arguments.device)
    document: dict[str, Any] = {"machine": describe_machine(), "device": arguments.device, "parts": {}}
    rows: dict[str, list[Row]] = {}
    began = time.monotonic()

    def say(words: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {words}", file=sys.stderr, flush=True)

    end = began + 60 * (arguments.minutes or (MINUTES_ON_CUDA if arguments.device == "cuda" else math.inf))
    failed = False
    for place, part in enumerate(parts):
        say(part)
        share = DEVICE_PARTS.get(part, 1) / sum(DEVICE_PARTS.get(other, 1) for other in parts[place:])
        until = time.monotonic() + share * (end - time.monotonic())
        try:
            measure = importlib.import_module(f"tests.benchmarks.{part}").measure
            rows[part] = measure(dataclasses.replace(options, until=until), say)
        except Exception as error:  # the parts behind it may have come a long way for their figures
            traceback.print_exc()
            rows[part] = [Row(f"not measured: {type(error).__name__}", (), "", note=str(error).partition("\n")[0])]
            failed = True
        document["parts"][part] = [row.as_json() for row in rows[part]]
        # After each part, so that none is lost with a later one.
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    _print_table(rows, document["machine"])
    print(f"written to {arguments.json}")
    return int(failed)


def _parts(device: str) -> tuple[str, ...]:
    """Those that are measured where none is named."""
    if device == "cpu" and importlib.util.find_spec("ray") is not None:
        return PARTS
    print("orchestration is left out: it needs Ray and no device; name it to have it measured", file=sys.stderr)
    return tuple(DEVICE_PARTS)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "parts",
        nargs="*",
        choices=[[], *PARTS, *ON_DEMAND],
        metavar="part",
        help=f"of {', '.join(PARTS + ON_DEMAND)}; all but {', '.join(ON_DEMAND)} if left out",
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for the parts that train or evaluate")
    parser.add_argument("--minutes", type=float, help="the most that the parts share; 7 on cuda, no limit on cpu")
    parser.add_argument("--runs", type=_positive, default=5000, help="of the orchestration's long block, or of scale")
    parser.add_argument("--rounds", type=_positive, default=5, help="interleaved repetitions")
    parser.add_argument("--pythae", type=Path, help="a Python that has pythae and torch, to compare with its trainer")
    parser.add_argument("--json", type=Path, default=Path("results/bench.json"), help="where the figures go")
    return parser.parse_args()


def _positive(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is not a whole number of at least 1")
    return int(word)


def _print_table(rows: dict[str, list[Row]], machine: dict[str, Any]) -> None:
    lines = [(part, row) for part, own in rows.items() for row in own]
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:  # a GPU machine with torch, numpy and safetensors alone
        for part, row in lines:
            print(part, row.what, _figures(row), _target(row), row.note, sep=" | ")
        return
    gpu = machine["gpu"] or "no GPU"
    hardware = f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gb']} GB, {gpu}"
    table = Table(title=f"{hardware}; commit {machine['git_commit']}", show_lines=True)
    for name in ("part", "figure", "median (min–max)", "target", "note"):
        table.add_column(name)
    for part, row in lines:
        style = "red" if row.meets_target is False else None
        table.add_row(part, row.what, _figures(row), _target(row), row.note, style=style)
    Console(width=None if sys.stdout.isatty() else 140).print(table, highlight=False)


def _figures(row: Row) -> str:
    if row.value is None:
        return "–"
    spread = f" ({_number(min(row.values))}–{_number(max(row.values))})" if len(row.values) > 1 else ""
    return f"{_number(row.value)}{spread} {row.unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _target(row: Row) -> str:
    if row.meets_target is None:
        return ""
    bound = f"≤ {row.at_most:.3g}" if row.at_least is None else f"≥ {row.at_least:.3g}"
    return f"{bound}: {'yes' if row.meets_target else 'NO'}"


if __name__ == "__main__":
    sys.exit(main())
