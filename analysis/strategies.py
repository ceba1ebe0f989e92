"""What strategies do with a finished study's configurations: fewer seeds, and ASHA; and what judges their picks."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.configurations import fid_matrix
from sweep.results.schema import COMPLETED, DIVERGED
from sweep.search.asha import is_promoted, rungs

SWEEPS = 300  # drawn from a study
# A sweep drawn from a study has a quarter of its configurations: the best of nearly as many as there are would be the
# same few again and again, and sweeps would seem to scatter less than they do.
SHARE = 4
FEWEST = 6 * SHARE  # configurations of a study
UNSEEN, FRESH = "a seed that it did not see", "fresh samples of the same seeds"  # what judges a pick


@dataclass(frozen=True)
class Finished:
    """The configurations of one algorithm for which all seeds have ended, none of them failed.

    fids: [configurations, seeds, evaluation steps] the best FID up to the step; infinite where there is none and,
        since a diverged run can be stopped by nobody but itself, from its divergence on.
    spent: [configurations, seeds, evaluation steps] steps that were trained up to the step.
    best: [configurations, seeds] the FID by which the run is judged at its end, infinite where it diverged.
    confirmed: [configurations, seeds] that of the same checkpoint on fresh samples.
    """

    steps: np.ndarray
    fids: np.ndarray
    spent: np.ndarray
    best: np.ndarray
    confirmed: np.ndarray


@dataclass(frozen=True)
class Sweep:
    """A sweep that might have been: configurations in the order in which they come, and who sees which seeds.

    order: [n] configurations of the study, some of them several times.
    seen: the seeds that a strategy may train, in their order.
    judge: the seed that none sees; None where there is no other: then fresh samples judge.
    """

    order: np.ndarray
    seen: tuple[int, ...]
    judge: int | None


@dataclass(frozen=True)
class Outcome:
    """What a strategy does in each of several sweeps, each [sweeps, n] in the order in which configurations come.

    spent: steps on the configuration.
    picked_by: the figure by which it would be picked; infinite for what was stopped or has diverged.
    value: what it is worth, by what the strategy did not see.
    """

    name: str
    judge: str
    spent: np.ndarray
    picked_by: np.ndarray
    value: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """[sweeps] the steps of all configurations."""
        return np.asarray(self.spent.sum(axis=1))

    def picks(self, budget: float) -> tuple[np.ndarray, np.ndarray]:
        """Return what is found for so many steps: how many configurations [sweeps], and the pick's value [sweeps].

        The value is infinite where nothing can be picked, and not a number where no configuration is finished.
        """
        counts = (np.cumsum(self.spent, axis=1) <= budget).sum(axis=1)
        came = np.arange(self.spent.shape[1])[None] < counts[:, None]
        figures = np.where(came, self.picked_by, np.inf)
        values = self.value[np.arange(len(counts)), figures.argmin(axis=1)]
        values = np.where(np.isfinite(figures.min(axis=1)), values, np.inf)
        return counts, np.where(counts > 0, values, np.nan)


def finished(runs: pd.DataFrame, evaluations: pd.DataFrame, algorithm: str) -> Finished:
    """The algorithm's finished configurations.

    Raises:
        ValueError: there is none, or the runs were not all to do the same steps.
    """
    best_fids = fid_matrix(runs, algorithm)
    own = runs[(runs["algorithm"] == algorithm) & runs["config_index"].isin(best_fids.index)]
    own = own.sort_values(["config_index", "seed"])
    if own.empty or own["steps_planned"].nunique() != 1:
        raise ValueError("has no configuration that ended with all its seeds at one number of steps")
    if ((own["status"] == COMPLETED) & (own["steps_done"] < own["steps_planned"])).any():
        raise ValueError("was stopped early itself: what its runs would have reached nobody knows")
    steps = np.array(sorted(evaluations.loc[evaluations["run_id"].isin(own["run_id"]), "step"].unique()))
    fids = evaluations.pivot(index="run_id", columns="step", values="fid").reindex(own["run_id"], columns=steps)
    reached = own["steps_done"].to_numpy()[:, None]
    diverged = (own["status"] == DIVERGED).to_numpy()[:, None]
    best = np.minimum.accumulate(fids.where(np.isfinite(fids), np.inf).to_numpy(dtype=float), axis=1)
    best_so_far = np.where(diverged & (steps[None] >= reached), np.inf, best)
    seeds = own["seed"].nunique()
    return Finished(
        steps=steps,
        fids=best_so_far.reshape(-1, seeds, len(steps)),
        spent=np.minimum(steps[None], reached).reshape(-1, seeds, len(steps)),
        best=best_fids.to_numpy(),
        confirmed=np.where(
            np.isfinite(best_fids), own["confirmed_fid"].to_numpy(dtype=float).reshape(-1, seeds), np.inf
        ),
    )


def drawn_sweeps(study: Finished, count: int = SWEEPS) -> list[Sweep]:
    """Return sweeps of a quarter of the study's configurations, drawn with replacement; always the same.

    Each seed is the judge in turn, and those that are seen come in every order.
    """
    generator = np.random.default_rng(0)
    size, seeds = study.best.shape
    sweeps = []
    for number in range(count):
        order = generator.integers(0, size, size // SHARE)
        seen = [int(seed) for seed in generator.permutation(seeds) if seeds == 1 or seed != number % seeds]
        sweeps.append(Sweep(order, tuple(seen), number % seeds if seeds > 1 else None))
    return sweeps


def seeds_alone(study: Finished, count: int, sweeps: Sequence[Sweep]) -> Outcome:
    """`count` seeds of each configuration to their end: the first of those that may be seen."""
    spent = [study.spent[sweep.order][:, sweep.seen[:count], -1].sum(axis=1) for sweep in sweeps]
    figures = [study.best[sweep.order][:, sweep.seen[:count]].mean(axis=1) for sweep in sweeps]
    return _outcome(study, f"{count} seed{'s' * (count > 1)}", sweeps, spent, figures)


def asha(study: Finished, reduction: float, sweeps: Sequence[Sweep]) -> Outcome:
    """ASHA, decided per configuration on the mean over the seen seeds of the best FID so far.

    The configurations come one after the other, and what stops them is the live schedule's own rule.

    Args:
        reduction: η.
    """
    decide = [int(np.searchsorted(study.steps, rung)) for rung in rungs(study.steps.tolist(), reduction)]
    spent, figures = [], []
    for sweep in sweeps:
        means, steps = study.fids[:, sweep.seen].mean(axis=1), study.spent[:, sweep.seen].sum(axis=1)
        reached: dict[int, list[float]] = {rung: [] for rung in decide}
        ends, picked_by = [], []
        for configuration in sweep.order:
            stopped_at = None
            for rung in decide:
                insort(reached[rung], means[configuration, rung])
                if not is_promoted(means[configuration, rung], reached[rung], reduction):
                    stopped_at = rung
                    break
            ends.append(steps[configuration, -1 if stopped_at is None else stopped_at])
            picked_by.append(np.inf if stopped_at is not None else study.best[configuration, sweep.seen].mean())
        spent.append(np.array(ends))
        figures.append(np.array(picked_by))
    return _outcome(study, f"ASHA, η = {reduction:g}", sweeps, spent, figures)


def compare(study: Finished, reductions: Sequence[float] = (2, 3, 4)) -> list[Outcome]:
    """All seeds, as the study did; all but the judge; fewer; and ASHA with those.

    Raises:
        ValueError: the study has fewer than FEWEST configurations.
    """
    size, seeds = study.best.shape
    if size < FEWEST:
        raise ValueError(f"needs at least {FEWEST} configurations that ended with all their seeds, and has {size}")
    sweeps = drawn_sweeps(study)
    fewer = [seeds_alone(study, count, sweeps) for count in range(1, max(2, seeds))]
    stopped = [asha(study, reduction, sweeps) for reduction in reductions]
    if seeds == 1:
        return [*fewer, *stopped]
    everything = [Sweep(sweep.order, tuple(range(seeds)), None) for sweep in sweeps]
    return [seeds_alone(study, seeds, everything), *reversed(fewer), *stopped]


def _outcome(
    study: Finished, name: str, sweeps: Sequence[Sweep], spent: Sequence[np.ndarray], figures: Sequence[np.ndarray]
) -> Outcome:
    """What came out, each pick judged by what its sweep did not see."""
    worth = [
        study.confirmed[sweep.order][:, sweep.seen].mean(axis=1)
        if sweep.judge is None
        else study.best[sweep.order, sweep.judge]
        for sweep in sweeps
    ]
    judge = FRESH if sweeps[0].judge is None else UNSEEN
    return Outcome(name, judge, np.array(spent), np.array(figures), np.array(worth))
