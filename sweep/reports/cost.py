"""What a run costs: FLOPs from its shapes, and device-seconds by what ended runs like it have taken."""

from __future__ import annotations

from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from sweep.errors import SettingsError
from sweep.events import Ended, Event
from sweep.results.schema import COMPLETED, RunRow, accelerators_of, run_of
from sweep.settings.settings import Cluster, Settings, Study
from wae_core.data.images import image_shape
from wae_core.flops import Shape, run_flops
from wae_core.run import Run

Kind = tuple[str, int]


class CostModel:
    """Predicts the seconds that a worker spends on a run, training and evaluation: FLOPs × seconds per FLOP.

    A worker has one device, or several that share the run; only runs of as many teach it.

    Seconds per FLOP are the median over the study's completed runs of the same kind (architecture and batch size);
    where there is none, of the same architecture; then of all. Where the cluster has devices of several kinds, they
    are told apart: what a run is predicted to take is the mean over them, each counted as often as it has completed a
    run, since the faster one will train as many more of those that are left. Before any run has completed, the
    cluster's assumed `teraflops` are the rate: predictions can then be compared, but are no more than a guess.

    Args:
        image_shape: (C, H, W) of the study's data set.
    """

    def __init__(self, study: Study, image_shape: Shape, cluster: Cluster) -> None:
        self._study = study
        self._image_shape = image_shape
        self._device, self._count = cluster.device, cluster.accelerators_per_run
        self._assumed = 1e-12 / cluster.teraflops / self._count
        # Ascending, by likeness, then by device.
        self._measured: defaultdict[tuple[str | int, ...], defaultdict[str, list[float]]] = defaultdict(
            lambda: defaultdict(list)
        )

    @property
    def measured_runs(self) -> int:
        """The number of completed runs that the rates are taken from; 0 means that they are assumed."""
        return sum(map(len, self._measured.get((), {}).values()))

    @property
    def devices(self) -> list[str]:
        """The kinds of device that they were measured on."""
        return sorted(self._measured.get((), {}))

    def learn(self, row: RunRow) -> None:
        """Take in an ended run of the study; one that did not complete, or ran on another device, is left out.

        Raises:
            ValueError: the run's networks cannot be built.
        """
        for measured, seconds_per_flop in self._measurements(row):
            insort(measured, seconds_per_flop)

    def learn_all(self, rows: Iterable[RunRow]) -> None:
        """Take in ended runs of the study, as `learn` does one by one."""
        for row in rows:
            for measured, seconds_per_flop in self._measurements(row):
                measured.append(seconds_per_flop)
        for by_device in self._measured.values():
            for measured in by_device.values():
                measured.sort()

    def note(self, event: Event) -> None:
        """Learn from a run that has ended."""
        if isinstance(event, Ended):
            self.learn(event.row)

    def flops(self, run: Run) -> int:
        """Count the FLOPs of the whole run, training and evaluation.

        Raises:
            ValueError: the run's networks cannot be built.
        """
        return run_flops(run, self._image_shape)

    def seconds_per_flop(self, kind: Kind) -> float:
        """Return the seconds per FLOP of a worker with runs of this kind, whichever of the devices it has."""
        runs: Mapping[str, Sequence[float]] = self._measured.get((), {})
        for likeness in _likenesses(kind):
            if by_device := self._measured.get(likeness):
                counts = {device: len(runs[device]) for device in by_device}
                return sum(counts[device] * _median(by_device[device]) for device in counts) / sum(counts.values())
        return self._assumed

    def seconds(self, run: Run) -> float:
        """Predict the worker-seconds of the whole run.

        Raises:
            ValueError: the run's networks cannot be built.
        """
        return self.flops(run) * self.seconds_per_flop(kind(run))

    def _measurements(self, row: RunRow) -> Iterator[tuple[list[float], float]]:
        """What a row measures, and among which measurements it counts."""
        is_ours = row.device.startswith(self._device) and accelerators_of(row.device) == self._count
        if row.status != COMPLETED or not is_ours:
            return
        run = run_of(vars(row), self._study.name, self._study.seed, self._study.protocol)
        seconds_per_flop = (row.train_seconds + row.eval_seconds) / (self.flops(run) * row.share_done)
        for likeness in _likenesses(kind(run)):
            yield self._measured[likeness][row.device], seconds_per_flop


def cost_model(settings: Settings, runs: Sequence[Run]) -> CostModel:
    """Return the cost of the runs, at the cluster's assumed rate.

    Raises:
        SettingsError: the networks of a run cannot be built, or the shape of the images is not known.
    """
    study = settings.study
    try:
        cost = CostModel(study, image_shape(study.protocol.dataset, settings.data), settings.cluster)
        for run in runs:
            cost.flops(run)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    return cost


def kind(run: Run) -> Kind:
    """Return the run's kind, which decides its seconds per FLOP: small batches use a device less well, for one."""
    return run.hyperparameters.architecture, run.hyperparameters.batch_size


def _median(ascending: Sequence[float]) -> float:
    """As `statistics.median`, which would sort them anew for each run whose cost is asked for."""
    middle = len(ascending) // 2
    return ascending[middle] if len(ascending) % 2 else (ascending[middle - 1] + ascending[middle]) / 2


def _likenesses(kind: Kind) -> tuple[tuple[str | int, ...], ...]:
    """Whose measurements count for a kind, the nearest first: its own, its architecture's, all."""
    return kind, kind[:1], ()
