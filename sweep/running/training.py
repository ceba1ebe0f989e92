"""The training part of a launch: tasks go to an executor, and what becomes of the runs to all who want to know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from rich.console import Console

from sweep.commit import git_commit
from sweep.events import Ended, Event, GivenUp, Observer, Search, WorkerContext
from sweep.results.folder import StudyFolder
from sweep.results.nodes.book import NodeBook
from sweep.results.opening import OpenStudy
from sweep.results.work.waiting import patiently
from sweep.running.executor import Say, open_executor
from sweep.running.packs import Packer
from sweep.running.publishing import publish_failure
from sweep.running.staging.driver import offer
from sweep.settings.settings import Settings, Study
from wae_core.run import Run
from wae_core.storage.files import Location


def train(
    settings: Settings,
    study: OpenStudy,
    search: Search,
    packer: Packer,
    drawn: Sequence[Run],
    observers: Sequence[Observer],
    console: Console,
) -> None:
    """Train what the search hands out, and tell the observers.

    Args:
        packer: the one that the search asks; the sizes of packs are found before it does.
        drawn: stand for what is not planned yet.
    """

    def say(sentence: str) -> None:
        console.print(sentence, style="yellow")

    protocol, results = settings.study.protocol, study.folder.root.parent
    source = offer(settings, protocol, study.data_sha256, results, console.print)
    context = worker_context(settings, study.folder, study.data_sha256, source)
    book = NodeBook(study.folder.nodes_file)
    with open_executor(settings.cluster, context, protocol, book, say) as executor:
        if search.depends_on_order and executor.has_several:
            console.print(
                f"with several workers, {search.depends_on_order} depends on which run ends first: it is "
                "not reproducible (with cluster.workers=1 it is)"
            )
        samples = [*drawn, *search.runs]
        if search.depends_on_order:
            samples += _one_of_each_architecture(settings.study, drawn)
        packer.find_packings(
            study.folder,
            samples,
            settings.cluster,
            executor.device,
            lambda run, sizes: executor.measure(run, sizes, context),
            console,
        )
        context = replace(context, captured=packer.captured)
        executor.train(search, context, settings.failures, teller([search, *observers], context, say))


def worker_context(
    settings: Settings, folder: StudyFolder, data_sha256: str, data_source: Location | None
) -> WorkerContext:
    """Return what the workers of a launch must know."""
    inception = settings.inception
    return WorkerContext(
        results=folder.root.parent,
        data=settings.data.absolute(),
        data_sha256=data_sha256,
        inception=inception.absolute() if inception else None,
        device=settings.cluster.device,
        git_commit=git_commit(),
        checkpoint_steps=settings.checkpoint_steps,
        accelerators_per_run=settings.cluster.accelerators_per_run,
        data_source=data_source,
    )


def teller(observers: Sequence[Observer], context: WorkerContext, say: Say) -> Callable[[Event], None]:
    """Return what tells all observers of an event; a run that is given up fails."""

    def tell(event: Event) -> None:
        for observer in observers:
            observer.note(event)
        if isinstance(event, GivenUp):
            run, reason, host = event.run, event.reason, event.host
            root = StudyFolder(context.results, run.study).root
            tell(Ended(run, patiently(root, lambda: publish_failure(run, context, reason, host), say)))

    return tell


def _one_of_each_architecture(study: Study, drawn: Sequence[Run]) -> list[Run]:
    """A run of every architecture that may be proposed."""
    (line,) = [line for line in study.space.hyperparameters if line.name == "architecture"]
    return [
        replace(drawn[0], hyperparameters=replace(drawn[0].hyperparameters, architecture=str(architecture)))
        for architecture in line.distribution.support
    ]
