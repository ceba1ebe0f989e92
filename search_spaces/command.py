"""`bigwae space NAME`: a search space as a table, remarks on it, a picture of 1,000 draws."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from search_spaces.distributions import Choice, Fixed
from search_spaces.hyperparameters import Hyperparameter
from search_spaces.lint import remarks
from search_spaces.sentences import SpaceError, listed
from search_spaces.space import SearchSpace, load


def main(words: Sequence[str], seeds: Mapping[str, int] | None = None) -> int:
    """Run the command; returns its exit code: 0, or 2 where the space is not valid, with all its mistakes told.

    Args:
        seeds: of spaces by name, the seed of the study that draws from it; of others it is 0.

    Raises:
        SpaceError: the picture cannot be drawn or written.
    """
    parser = argparse.ArgumentParser(prog="bigwae space", description=__doc__)
    parser.add_argument("space", help="a file of search_spaces/ by its name, or the path of a YAML file")
    parser.add_argument("--seed", type=int, help="of the draws (default: that of the study whose space it is, or 0)")
    parser.add_argument("--images", type=int, help="training images of the data set, to compare the batches with")
    parser.add_argument("--out", type=Path, help="the picture (default: space-<name>.png in the results folder)")
    parser.add_argument("--results", type=Path, default=Path("results"), help="that folder (default: results)")
    arguments = parser.parse_args(words)
    try:
        space = load(arguments.space)
    except SpaceError as error:
        for sentence in error.sentences:
            print(f"error: {sentence}", file=sys.stderr)
        return 2
    console = Console(soft_wrap=True, markup=False, highlight=False)
    console = console if console.is_terminal else Console(width=160, soft_wrap=True, markup=False, highlight=False)
    console.print(_table(space))
    for remark in remarks(space, arguments.images):
        console.print(f"warning: {remark}", style="yellow")
    picture = arguments.out or arguments.results / f"space-{space.name}.png"
    try:
        from search_spaces.plot import DRAWS, draws_figure  # a second, and not in every installation

        picture.parent.mkdir(parents=True, exist_ok=True)
        seed = (seeds or {}).get(arguments.space, 0) if arguments.seed is None else arguments.seed
        draws_figure(space, seed).savefig(picture, format="png")
    except ImportError as error:
        raise SpaceError("the picture needs matplotlib: pip install 'bigwae[notebooks]'") from error
    except OSError as error:
        raise SpaceError(f"{picture} cannot be written: {error.strerror}") from error
    console.print(f"{DRAWS:,} draws: {picture}")
    return 0


def _table(space: SearchSpace) -> Table:
    table = Table(title=f"search space {space.name}", title_justify="left")
    for column in ("hyperparameter", "who", "distribution", "values", "source"):
        table.add_column(column, overflow="fold")
    for line in space.hyperparameters:
        who = "all" if line.algorithms == space.algorithms else listed(line.algorithms)
        table.add_row(line.name, who, line.distribution.name, _values(line), line.source)
    return table


def _values(line: Hyperparameter) -> str:
    """The values of the line, and what they depend on: [1, 20] in steps of 0.5, at least learning_rate."""
    distribution = line.distribution
    if isinstance(distribution, Choice | Fixed):
        values = (
            f"{{{listed(distribution.support)}}}" if isinstance(distribution, Choice) else str(distribution.value)
        )
    else:
        values = f"[{distribution.low:g}, {distribution.high:g}]" + (
            f" in steps of {distribution.step:g}" if distribution.step else ""
        )
    at = [f"{key.replace('_', ' ')} {name}" for key, name in line.bounds.items()]
    when = [f"when {line.when.name} is {' or '.join(str(v) for v in line.when.values)}"] if line.when else []
    return ", ".join([values, *at, *when])
