"""The benchmark suite: ratios within one run, interleaved, as one table and as JSON (`make bench`).

python -m tests.benchmarks                                     all parts, about 15 minutes on 2 cores
python -m tests.benchmarks step frechet --device cuda          these parts, with torch, numpy and safetensors alone
python -m tests.benchmarks orchestration --runs 300            a quick look
python -m tests.benchmarks scale --runs 10000 --rounds 3       a finished study: launch, status, reading

A part is a module here with `measure(options, say) -> list[Row]`, named in PARTS or ON_DEMAND.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.measuring import Options, Row, describe_machine
from wae_core.device import select_device

# Each is imported when it is asked for: not every machine has what each of them needs.
PARTS = ("step", "packs", "celeba", "frechet", "orchestration")
ON_DEMAND = ("scale", "cluster", "traffic", "tracking")


def main() -> int:
    arguments = _arguments()
    try:
        device = select_device(arguments.device)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    options = Options(device, arguments.runs, arguments.rounds, arguments.pythae)
    document: dict[str, Any] = {"machine": describe_machine(), "device": arguments.device, "parts": {}}
    rows: dict[str, list[Row]] = {}
    began = time.monotonic()

    def say(words: str) -> None:
        print(f"[{time.monotonic() - began:5.0f} s] {words}", file=sys.stderr, flush=True)

    for part in arguments.parts or PARTS:
        say(part)
        rows[part] = importlib.import_module(f"tests.benchmarks.{part}").measure(options, say)
        document["parts"][part] = [row.as_json() for row in rows[part]]
        # After each part, so that none is lost with a later one.
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    _print_table(rows, document["machine"])
    print(f"written to {arguments.json}")
    return 0


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
    bound = f"≤ {row.at_most:g}" if row.at_least is None else f"≥ {row.at_least:g}"
    return f"{bound}: {'yes' if row.meets_target else 'NO'}"


if __name__ == "__main__":
    sys.exit(main())
