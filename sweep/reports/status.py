"""`bigwae status`: how far the studies are; planned = completed + diverged + failed + missing."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence

import pandas as pd
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweep.errors import ResultsError, SettingsError
from sweep.places import results_location
from sweep.reports.ledger import print_ledger
from sweep.results.folder import STUDY_FILE_ERRORS, StudyFolder
from sweep.results.judging import judged_fid
from sweep.results.nodes.book import left_out_in
from sweep.results.plan_file import read_plan
from sweep.results.schema import COMPLETED, STATUSES
from wae_core.run import ALGORITHMS
from wae_core.storage.files import Location, listed, read


def status_frame(folder: StudyFolder) -> pd.DataFrame:
    """Return one row per planned algorithm: planned, each status, missing, and the best, confirmed and median FID.

    The best is that of a completed run; in the median a diverged one counts as infinite, and a failed one not at all.

    Raises:
        FileNotFoundError: the folder holds no plan.
        ResultsError: one of its files is damaged, or of another version.
    """
    return _frame(folder, folder.read_table("runs").to_pandas())


def _frame(folder: StudyFolder, runs: pd.DataFrame) -> pd.DataFrame:
    plan = read_plan(folder).select(["run_id", "algorithm"]).to_pandas()
    runs = runs.drop(columns="algorithm").merge(plan, on="run_id")
    rows = []
    for algorithm in (name for name in ALGORITHMS if name in set(plan["algorithm"])):
        mine = runs[runs["algorithm"] == algorithm]
        planned = int((plan["algorithm"] == algorithm).sum())
        fids = pd.Series(map(judged_fid, mine["status"], mine["best_fid"]), dtype=float)
        best = mine[mine["status"] == COMPLETED].nsmallest(1, "best_fid")
        rows.append(
            {
                "algorithm": algorithm,
                "planned": planned,
                **{status: int((mine["status"] == status).sum()) for status in STATUSES},
                "missing": planned - len(mine),
                "best_fid": best["best_fid"].max(),
                "confirmed_fid": best["confirmed_fid"].max(),
                "median_fid": fids.median(),
                "best_run": best["run_id"].iloc[0] if len(best) else None,
            }
        )
    return pd.DataFrame(rows)


def print_status(folder: StudyFolder, console: Console) -> None:
    """Print the status table of one study and its ledger, and why runs diverged or failed, if some did.

    Raises:
        FileNotFoundError: the folder holds no plan.
        ResultsError: one of its files is damaged, or of another version.
    """
    title = Text(f"study {folder.root.name} in {folder.root.parent}")  # a path may hold brackets
    table = Table(title=title, title_justify="left")
    for name in ("algorithm", "planned", *STATUSES, "missing", "best FID", "confirmed", "median", "best run"):
        table.add_column(name, justify="left" if name in ("algorithm", "best run") else "right")
    runs = folder.read_table("runs").to_pandas()
    for row in _frame(folder, runs).to_dict("records"):
        figures = [row[name] for name in ("best_fid", "confirmed_fid", "median_fid")]
        table.add_row(
            row["algorithm"],
            *(str(row[name]) for name in ("planned", *STATUSES, "missing")),
            *("–" if pd.isna(figure) else f"{figure:.2f}".replace("inf", "∞") for figure in figures),
            "–" if pd.isna(row["best_run"]) else row["best_run"],
        )
    console.print(table)
    print_ledger(folder, console)
    if folder.real_images_file.exists():
        console.print(_real_images(folder.real_images_file))
    if len(runs):
        console.print(f"attempts: {runs['attempts'].sum():,} at {len(runs):,} ended runs")
    warnings = set(runs["fid_warning"].dropna())
    if folder.study_file.exists():
        warnings |= _print_study_file(folder, console)
    for warning in sorted(warnings):
        console.print(f"warning: {warning}", style="yellow", markup=False)
    for line in _why(runs):
        console.print(line, markup=False)
    for each in left_out_in(folder.nodes_file):
        until = "for the rest of the sweep" if each.is_barred else "until it is found well"
        console.print(f"left out, {until}: {each.node}: {each.reason}", style="yellow", markup=False)


def _why(runs: pd.DataFrame) -> Iterator[str]:
    """A line for each reason why runs ended as they did, the most frequent first: how many, and the first of them."""
    told = runs[runs["status_reason"].notna()]
    alike = told["status_reason"].str.replace(r"\d+", "…", regex=True)  # reasons that differ in a step alone
    groups = [same for _, same in told.groupby([told["status"], alike], sort=True)]
    for same in sorted(groups, key=lambda same: (STATUSES.index(same["status"].iloc[0]), -len(same))):
        first = same.sort_values("run_id").iloc[0]
        yield f"{len(same)} {first['status']}, e.g. {first['run_id']}: {first['status_reason']}"


def _print_study_file(folder: StudyFolder, console: Console) -> set[str]:
    """Print which study this one confirms, if it does, and the failure policy; returns what study.yaml warns of."""
    try:
        document = yaml.safe_load(read(folder.study_file))
        policy, confirms, warning = document["failures"], document.get("confirms"), document.get("fid_warning")
        tries, deaths = int(policy["tries"]), int(policy["worker_deaths"])
        if confirms:
            first = int(confirms["first_seed"])
            console.print(
                f"it confirms study {confirms['study']}: its best configurations, trained again with seeds {first} "
                f"to {first + int(document['seeds']) - 1}, which did not pick them"
            )
    except STUDY_FILE_ERRORS as error:
        raise ResultsError(f"{folder.study_file} cannot be used: it is not a study file of this version") from error
    console.print(
        f"a run is failed after {tries} exceptions (failures.tries), or {deaths} deaths of its "
        "worker without a new checkpoint (failures.worker_deaths), and diverged where loss or FID is not finite; "
        "out of memory halves a pack; a full disk is waited for"
    )
    return {str(warning)} if warning else set()


def _real_images(path: Location) -> str:
    try:
        real = json.loads(read(path))
        fid, count, sharpness = float(real["fid"]), int(real["count"]), float(real["sharpness"])
        images = {"train": "training", "held_out": "held-out"}[real.get("split", "train")]  # older files have none
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError) as error:
        raise ResultsError(f"{path} cannot be used: delete it, and the next model measures it again") from error
    warning = f"; {real['warning']}" if real.get("warning") else ""
    return f"real images: FID {fid:.2f} ({count:,} of the {images} images{warning}), sharpness {sharpness:.2g}"


def make_console() -> Console:
    """Return the terminal at its own width; or a file or a pipe, which has none, wide enough for the tables."""
    console = Console(soft_wrap=True, markup=False)  # a path may hold brackets
    return console if console.is_terminal else Console(width=140, soft_wrap=True, markup=False)


def main(words: Sequence[str]) -> int:
    """Print the status of the studies, or check their files; returns 1 where that has found a problem.

    Raises:
        SettingsError: there is no such study, or none at all.
        ResultsError: a file of a study is damaged, or of another version.
    """
    parser = argparse.ArgumentParser(prog="bigwae status", description=__doc__)
    parser.add_argument("--results", default="results", help="the results folder (default: results)")
    parser.add_argument("--study", help="one study; all of the folder if left out")
    parser.add_argument(
        "--check", action="store_true", help="read every file whole, models included, and compare them"
    )
    arguments = parser.parse_args(words)
    results = results_location(arguments.results).absolute()
    names = (
        [arguments.study]
        if arguments.study
        else sorted(path.parent.name for path in listed(results, "*/plan.parquet"))
    )
    folders = [StudyFolder(results, name) for name in names]
    if not folders or not all(folder.plan_file.exists() for folder in folders):
        wanted = f"study {arguments.study!r}" if arguments.study else "a study"
        raise SettingsError(f"there is no plan of {wanted} in {results}: run make sweep first")
    if arguments.check:
        from sweep.reports.check import check_study  # torch: only who asks for it pays for that

        return int(sum(check_study(folder, make_console()) for folder in folders) > 0)
    for folder in folders:
        print_status(folder, make_console())
    return 0
