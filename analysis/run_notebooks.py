"""`bigwae notebooks`: run the notebooks on a results folder, and write them as HTML."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from wae_core.storage.files import location
from wae_core.storage.objects import ObjectPath


def main(words: Sequence[str]) -> int:
    """Run every notebook in a process of its own; returns the exit code of nbconvert."""
    parser = argparse.ArgumentParser(prog="bigwae notebooks", description=__doc__)
    parser.add_argument("--results", default="results", help="the results folder, local or s3://… (default: results)")
    parser.add_argument("--study", default="digits", help="a study of it (default: digits)")
    parser.add_argument("--out", type=Path, help="where the HTML goes (default: notebooks in the results folder)")
    arguments = parser.parse_args(words)
    notebooks = sorted(map(str, (Path(__file__).parent / "notebooks").glob("*.ipynb")))
    results = location(arguments.results).absolute()
    out = arguments.out or Path("." if isinstance(results, ObjectPath) else results) / "notebooks"
    command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "html", "--output-dir", str(out), *notebooks]
    parameters = {"RESULTS": str(results), "STUDY": arguments.study}
    return subprocess.run(command, env=os.environ | parameters).returncode
