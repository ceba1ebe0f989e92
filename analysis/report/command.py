"""`bigwae report`: writes the page, and beside it each table as CSV and Markdown, each figure as PNG and PDF."""

from __future__ import annotations

import argparse
import base64
import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from analysis.report import tables
from analysis.report.comparison import Comparison, load_other
from analysis.report.contents import Contents
from analysis.report.figures import FIGURES, UNITS, draw
from analysis.report.table1 import about_table_1
from analysis.report.verdict import verdict
from sweep.results.folder import StudyFolder, confirmed_study
from wae_core.storage.files import location

DPI = 130  # of the figures in the page: it stays small


def write_report(
    contents: Contents, sentence: str, out: Path, comparison: Comparison | None = None, unit: str = "runs"
) -> Path:
    """Write the report of a study into a folder; returns the page, which needs no other file.

    Args:
        sentence: the verdict, which opens the page.
        comparison: with another study, which comes next.
        unit: one of UNITS, in which the budget of the best of n is counted.

    Raises:
        OSError: the folder cannot be written.
    """
    frames = {name: compute(contents) for name, compute in tables.TABLES.items()}
    frames |= {"comparison": comparison.table()} if comparison else {}
    frames = {name: frame for name, frame in frames.items() if len(frame)}
    out.mkdir(parents=True, exist_ok=True)
    for name, frame in [*frames.items(), ("configurations", tables.configurations_by_rank(contents))]:
        frame.to_csv(out / f"{name}.csv", index=False)
        (out / f"{name}.md").write_text(_markdown(frame))
    images: dict[str, str] = {}
    not_drawn: dict[str, str] = {}
    for name in FIGURES:
        figure = draw(contents, name, unit)
        if isinstance(figure, str):
            not_drawn[name] = figure
            continue
        for ending in ("png", "pdf"):
            figure.savefig(out / f"{name}.{ending}")
        images[name] = _base64(figure)
    environment = Environment(
        loader=PackageLoader("analysis.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("page.html.j2").render(
        study=contents.study,
        verdict=sentence,
        kinds=tables.kinds_of_fid(contents),
        warnings=tables.warnings(contents),
        tables=frames,
        images=images,
        not_drawn=not_drawn,
        captions={name: caption for name, (caption, _) in FIGURES.items()},
        about_table_1=about_table_1(contents),
        paired=contents.is_paired,
        reasons=tables.why_missing(contents),
        comparison=comparison.verdict() if comparison else None,
        unconfirmed=contents.confirmation.unfinished if contents.confirmation else [],
    )
    path = out / "index.html"
    path.write_text(page)
    return path


def main(words: Sequence[str]) -> None:
    """Write the report of a study, finished or not.

    Raises:
        ValueError: there is no such study, one of its files is damaged, the two studies' FIDs are of different kinds,
            or the report cannot be written.
    """
    parser = argparse.ArgumentParser(prog="bigwae report", description=__doc__)
    parser.add_argument("--results", default="results", help="the results folder, local or s3://… (default: results)")
    parser.add_argument("--study", default="digits", help="a study, finished or under way (default: digits)")
    parser.add_argument(
        "--with",
        dest="other",
        metavar="OTHER",
        help="a study to compare it with: another one, or another results folder that has one of its name",
    )
    parser.add_argument("--budget-in", choices=UNITS, default="runs", help="of the best of n (default: runs)")
    parser.add_argument("--out", type=Path, help="the report's folder (default: <results>/report/<study>)")
    arguments = parser.parse_args(words)
    out = arguments.out or Path("." if "://" in arguments.results else arguments.results) / "report" / arguments.study
    confirmed = confirmed_study(StudyFolder(location(arguments.results), arguments.study))
    if confirmed is not None:
        raise ValueError(
            f"study {arguments.study} confirms study {confirmed}: its results are in the report of that one, "
            f"--study {confirmed}"
        )
    try:
        contents = Contents.load(arguments.results, arguments.study)
        other = load_other(arguments.results, arguments.study, arguments.other) if arguments.other else None
    except FileNotFoundError as error:
        raise ValueError(str(error)) from error
    comparison = Comparison(contents, other) if other else None
    try:
        page = write_report(contents, sentence := verdict(contents), out, comparison, arguments.budget_in)
    except OSError as error:
        raise ValueError(f"{out} cannot be written: {error.strerror}") from error
    print(sentence)
    if comparison:
        print(comparison.verdict())
    print(page)


def _base64(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI)
    return base64.b64encode(buffer.getvalue()).decode()


def _markdown(frame: pd.DataFrame) -> str:
    rows = [list(map(str, frame.columns)), ["---"] * len(frame.columns), *frame.to_numpy().tolist()]
    return "".join(f"| {' | '.join(str(cell).replace('|', '∣') for cell in row)} |\n" for row in rows)
