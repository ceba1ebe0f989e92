"""From settings to the runs of a budget, drawn at random."""

from __future__ import annotations

from sweep.results.schema import RunRow
from sweep.settings.settings import Study
from wae_core.run import Hyperparameters, Run


def plan_runs(study: Study, algorithm: str, budget: int) -> list[Run]:
    """All runs of `algorithm` within `budget` models: whole configurations, in order, with all their seeds.

    A pure function: a larger budget gives the same runs and then more.
    """
    return [run for index in range(budget // study.seeds) for run in draw_configuration(study, algorithm, index)]


def draw_configuration(study: Study, algorithm: str, index: int) -> list[Run]:
    """The runs of one configuration that is drawn at random."""
    values = study.space.sample(algorithm, index, study.seed)
    return seeded_runs(study, algorithm, index, Hyperparameters(**values))  # type: ignore[arg-type]


def seeded_runs(study: Study, algorithm: str, index: int, hyperparameters: Hyperparameters) -> list[Run]:
    """One run of the configuration for each of the study's seeds."""
    return [
        Run(study.name, study.seed, algorithm, index, seed, hyperparameters, study.protocol)
        for seed in study.seed_numbers
    ]


class RandomProposals:
    """Configurations drawn at random, one by one; it implements `Proposer`."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def propose(self, algorithm: str, index: int) -> list[Run]:
        return draw_configuration(self._study, algorithm, index)

    def note(self, row: RunRow) -> None:
        """No draw depends on a result."""
