"""`bigwae rescore`: scores the stored best models of a study again, into a table of its own; nothing is trained.

The same words again go on where it was interrupted. The words of a launch say where it runs and where data and
weights are: cluster=gpu cluster.workers=4 data=… data_source=… inception=….
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console

from sweep.errors import SettingsError
from sweep.events import Task
from sweep.places import results_location
from sweep.reports.status import make_console
from sweep.rescoring.progress import Progress
from sweep.rescoring.scoring import score_task
from sweep.rescoring.table import RescoreTable
from sweep.results.belonging import Rules
from sweep.results.folder import StudyFolder
from sweep.results.judging import judged_fid
from sweep.results.lock import results_lock
from sweep.results.nodes.book import NodeBook
from sweep.results.schema import kind_of_fid, run_of
from sweep.results.study_file import read_rules
from sweep.running.executor import describe, open_executor
from sweep.running.preflight import check_cluster, check_scorable
from sweep.running.staging.driver import fetch_missing, offer
from sweep.running.training import worker_context
from sweep.search.fixed_plan import FixedPlan
from sweep.settings.compose import load_settings
from sweep.settings.settings import Settings
from wae_core import checks
from wae_core.data.images import data_sha256, load_dataset
from wae_core.domains import LARGEST_SAMPLE
from wae_core.evaluation.evaluator import reference_of
from wae_core.evaluation.features import feature_network, features_name
from wae_core.names import REFERENCES
from wae_core.protocol import Protocol
from wae_core.run import Run
from wae_core.storage.files import listed

WORDS = (
    "data",
    "data_source",
    "inception",
    "cluster",
    "failures.tries",
    "failures.worker_deaths",
)  # of a launch, beside cluster.*


def main(words: Sequence[str]) -> int:
    """Score again what is not scored in this way yet; returns 1 where some model could not be.

    Raises:
        SettingsError: a word is wrong, there is no such study or model, or it cannot be scored in this way.
        ResultsError: a file of the study is damaged, or of another version.
        OSError: the storage is unavailable, the lock was lost, or the workers were.
    """
    arguments = _parser().parse_args(words)
    for word in arguments.words:
        key = word.partition("=")[0]
        if key not in WORDS and not key.startswith("cluster."):
            raise SettingsError(
                f"{word!r} is no word of rescore: those are {', '.join(WORDS)} and cluster.*, key=value"
            )
        if key == "cluster.accelerators_per_run":
            raise SettingsError(f"{word!r} is no word of rescore: a model is scored by one worker")
    settings, console = load_settings(arguments.words), make_console()
    folder = StudyFolder(results_location(arguments.results).absolute(), arguments.study)
    rules, seed = _study(folder)
    protocol = _protocol(arguments, rules.protocol)
    settings = fetch_missing(settings, protocol, rules.data_sha256, console.print)
    kind = _kind(settings, rules, protocol, console)
    rows = _stored(folder, arguments.best)
    with results_lock(folder.root / "rescore.lock") as check:
        table = RescoreTable(folder, kind, check)
        scored = table.steps()
        left = {row["run_id"]: row for row in rows if scored.get(row["run_id"]) != row["best_step"]}
        console.print(f"{len(rows):,} stored models, of which {len(rows) - len(left):,} are in {table.path}")
        if not left:
            return 0
        console.print(f"starting {describe(settings.cluster, 'scoring')}")
        runs = [run_of(row, rules.study, seed, protocol) for row in left.values()]
        progress = Progress(table, {run_id: row["best_step"] for run_id, row in left.items()}, console)
        source = offer(settings, protocol, rules.data_sha256, folder.root.parent, console.print)
        context = worker_context(settings, folder, rules.data_sha256, source)
        try:
            book = NodeBook(folder.root / "rescore-nodes.json")
            with open_executor(settings.cluster, context, protocol, book, progress.say) as executor:
                plan = FixedPlan(runs, set(), _one_by_one)
                executor.train(plan, context, settings.failures, progress.note, score_task)
        finally:
            table.write()
    console.print(f"{len(left) - progress.failures:,} models scored again: {table.path}")
    return int(progress.failures > 0)


def _study(folder: StudyFolder) -> tuple[Rules, int]:
    try:
        return read_rules(folder)
    except FileNotFoundError as error:
        names = ", ".join(path.parent.name for path in listed(folder.root.parent, "*/study.yaml"))
        there_are = f"there are {names}" if names else "there is none: run make sweep first"
        raise SettingsError(f"there is no study {folder.root.name!r} in {folder.root.parent}: {there_are}") from error


def _protocol(arguments: argparse.Namespace, trained: Protocol) -> Protocol:
    """The study's protocol, but for how models are scored."""
    samples = trained.fid_samples if arguments.samples is None else arguments.samples
    features, split = arguments.features or trained.fid_features, arguments.reference or trained.fid_reference
    count = trained.fid_reference_images if split == trained.fid_reference else None
    count = count if arguments.reference_images is None else arguments.reference_images
    try:
        checks.integer("--samples", samples, 4, LARGEST_SAMPLE)
        if arguments.best is not None:
            checks.integer("--best", arguments.best, 1)
        if count is not None:
            checks.integer("--reference-images", count, 2, LARGEST_SAMPLE)
        feature_network(features)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    return replace(
        trained,
        fid_features=features,
        fid_samples=samples,
        fid_reference=split,
        fid_reference_images=count,
        accept_few_images=arguments.accept_few_images,
    )


def _kind(settings: Settings, rules: Rules, protocol: Protocol, console: Console) -> str:
    """The kind of FID that is asked for, after it was found that it can be measured here."""
    try:
        found, data = data_sha256(protocol.dataset, settings.data), load_dataset(protocol.dataset, settings.data)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    if found != rules.data_sha256:
        raise SettingsError(
            f"study {rules.study} is of other data: the sha256 of data set {protocol.dataset} is "
            f"{rules.data_sha256!r} in its study.yaml and {found!r} in {settings.data}; give the old data (data=)"
        )
    check_cluster(settings.cluster)
    check_scorable(protocol, data, settings.inception, _as_option)
    reference, warning = reference_of(protocol, settings.data)
    if warning:
        console.print(f"warning: {warning}", style="yellow")
    return kind_of_fid(features_name(protocol.fid_features), reference, protocol.fid_samples)


def _stored(folder: StudyFolder, best: int | None) -> list[dict[str, Any]]:
    """The rows of the runs whose models are stored, those of lowest FID first; `best` of each algorithm."""

    def rank(row: dict[str, Any]) -> tuple[float, str]:
        fid = judged_fid(row["status"], row["best_fid"])
        return math.inf if fid is None else fid, row["run_id"]

    stored = [row for row in folder.read_table("runs").to_pylist() if row["checkpoint_path"] is not None]
    if not stored:
        raise SettingsError(f"no model of study {folder.root.name!r} is stored in {folder.root.parent}")
    counts: Counter[str] = Counter()
    rows = []
    for row in sorted(stored, key=rank):
        counts[row["algorithm"]] += 1
        if best is None or counts[row["algorithm"]] <= best:
            rows.append(row)
    return rows


def _one_by_one(runs: Sequence[Run]) -> list[Task]:
    return [Task((run,)) for run in runs]


def _as_option(name: str, value: object) -> str:
    option = f"--{name.removeprefix('fid_').replace('_', '-')}"
    return option if value is True else f"{option} {value}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bigwae rescore", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*", metavar="key=value", help="words of a launch, as above")
    parser.add_argument("--results", default="results", help="the results folder, local or s3://… (default: results)")
    parser.add_argument("--study", default="digits", help="default: digits")
    parser.add_argument("--features", help="digits, efficientnet or inception (default: the study's)")
    parser.add_argument("--samples", type=int, help="generated images per FID (default: the study's)")
    parser.add_argument("--reference", choices=REFERENCES, help="the split to measure against (default: the study's)")
    parser.add_argument("--reference-images", type=int, help="its first so many (default: as the study, or all)")
    parser.add_argument("--best", type=int, help="so many models of lowest FID of each algorithm (default: all)")
    parser.add_argument(
        "--accept-few-images", action="store_true", help="with fewer reference images than dimensions, warn alone"
    )
    return parser
