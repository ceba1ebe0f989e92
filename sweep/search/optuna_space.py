"""How Optuna sees a search space: a parameter per hyperparameter, conditional ones where their condition holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import Trial

from search_spaces import SearchSpace
from search_spaces.distributions import Choice, Distribution, Fixed, LogUniform, Uniform
from search_spaces.hyperparameters import Hyperparameter
from wae_core.domains import Value

Drawn = Choice | Uniform | LogUniform  # Distributions that leave something to propose
BISECTIONS = 60


@dataclass(frozen=True)
class Parameter:
    """One hyperparameter of a configuration that is being proposed.

    Its label names its condition, so that Optuna learns of each case by itself. A choice and an interval are Optuna's
    own; what has a step, or bounds that move from one configuration to the next, is proposed as a quantile in [0, 1].
    """

    label: str
    name: str
    distribution: Drawn
    optuna: BaseDistribution

    @classmethod
    def of(cls, line: Hyperparameter, distribution: Drawn) -> Parameter:
        """Return the parameter of a line whose bounds leave `distribution`."""
        label = line.name
        if line.when:
            label += f" where {line.when.name} is {' or '.join(map(str, line.when.values))}"
        if line.bounds or (not isinstance(distribution, Choice) and distribution.step is not None):
            return cls(f"{label} (quantile)", line.name, distribution, FloatDistribution(0, 1))
        if isinstance(distribution, Choice):
            return cls(label, line.name, distribution, CategoricalDistribution(distribution.values))
        is_log = isinstance(distribution, LogUniform)
        return cls(label, line.name, distribution, FloatDistribution(distribution.low, distribution.high, log=is_log))

    @property
    def _is_quantile(self) -> bool:
        return self.label.endswith(" (quantile)")

    def value(self, proposed: Any) -> Value:
        """The hyperparameter's value, as a random draw would give it: real numbers to 6 significant digits."""
        if self._is_quantile:
            return self.distribution.draw(min(proposed, 1 - 2**-53))
        if isinstance(self.distribution, Choice):
            return next(value for value in self.distribution.values if value == proposed)
        return float(min(max(float(f"{proposed:.6g}"), self.distribution.low), self.distribution.high))

    def proposal(self, value: Value) -> Any:
        """What Optuna would have proposed for the value."""
        if not self._is_quantile:
            return value
        if isinstance(self.distribution, Choice):
            return (self.distribution.values.index(value) + 0.5) / len(self.distribution.values)
        assert not isinstance(value, str), "an interval holds numbers"
        low, high = 0.0, 1.0  # the quantile function ascends
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if self.distribution.draw(middle) < value else (low, middle)
        return high

    def suggest(self, trial: Trial) -> Any:
        """Optuna's proposal."""
        if isinstance(self.optuna, CategoricalDistribution):
            return trial.suggest_categorical(self.label, self.optuna.choices)
        assert isinstance(self.optuna, FloatDistribution)
        return trial.suggest_float(self.label, self.optuna.low, self.optuna.high, log=self.optuna.log)


def configure(space: SearchSpace, algorithm: str, answer: Callable[[Parameter], Value]) -> dict[str, Value]:
    """A configuration whose every value, other than the fixed ones, `answer` gives."""
    chosen: dict[str, Value] = {}

    def choose(name: str, distribution: Distribution) -> Value:
        if isinstance(distribution, Fixed):
            chosen[name] = distribution.value
        else:
            chosen[name] = answer(Parameter.of(_line(space, algorithm, name, chosen), distribution))
        return chosen[name]

    return space.configure(algorithm, choose)


def as_proposal(
    space: SearchSpace, algorithm: str, values: Mapping[str, Value | None]
) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """A planned configuration as Optuna's params and distributions."""
    params: dict[str, Any] = {}
    distributions: dict[str, BaseDistribution] = {}

    def answer(parameter: Parameter) -> Value:
        value = values[parameter.name]
        assert value is not None, "a planned configuration has all that its algorithm has"
        params[parameter.label] = parameter.proposal(value)
        distributions[parameter.label] = parameter.optuna
        return value

    configure(space, algorithm, answer)
    return params, distributions


def _line(space: SearchSpace, algorithm: str, name: str, chosen: Mapping[str, Value]) -> Hyperparameter:
    """The line of the hyperparameter that holds, given what was chosen before."""
    return next(
        line
        for line in space.hyperparameters
        if line.name == name
        and algorithm in line.algorithms
        and (line.when is None or chosen[line.when.name] in line.when.values)
    )
