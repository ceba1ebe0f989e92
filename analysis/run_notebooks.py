"""`bigwae notebooks`: run the notebooks on a results folder, and write them as HTML."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def main(words: Sequence[str]) -> int:
    """Run every notebook in a process of its own; returns the exit code of nbconvert."""
    parser = argparse.ArgumentParser(prog="bigwae notebooks", description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("results"), help="the results folder (default: results)")
    parser.add_argument("--out", type=Path, help="where the HTML goes (default: notebooks in the results folder)")
    arguments = parser.parse_args(words)
    notebooks = sorted(map(str, (Path(__file__).parent / "notebooks").glob("*.ipynb")))
    out = arguments.out or arguments.results / "notebooks"
    command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "html", "--output-dir", str(out), *notebooks]
    return subprocess.run(command, env=os.environ | {"RESULTS": str(arguments.results.absolute())}).returncode
