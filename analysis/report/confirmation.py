"""What the report says of a study's confirmation: its headline, and the table of the configurations."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.report.contents import Contents
from analysis.report.words import listed, number, share, show
from analysis.uncertainty import first_of, ratio_of_firsts, selection_bias

FEWEST = 10  # configurations, of whose flattery an interval is given: of fewer it covers too seldom


def headline(contents: Contents) -> str:
    """Say what the best configuration of each algorithm is worth by fresh seeds, and whose is the best.

    It is empty where nothing has been confirmed.
    """
    confirmation = contents.confirmation
    if confirmation is None:
        return ""
    fids = {name: confirmation.fids(contents.table, name) for name in contents.algorithms}
    fids = {name: matrix for name, matrix in fids.items() if len(matrix)}
    if not fids:
        return ""
    values = {name: matrix.to_numpy() for name, matrix in fids.items()}
    ranked = sorted(fids, key=lambda name: first_of(values[name]).value)
    ids = contents.table.set_index(["algorithm", "config_index"])["config_id"]
    worth = [f"{show(first_of(values[name]))} with {name} ({ids[name, fids[name].index[0]]})" for name in ranked]
    seeds = f"{confirmation.seeds} fresh seed{'s' * (confirmation.seeds > 1)}"
    sentence = (
        f"Trained again with {seeds} and scored on fresh samples, the configuration that the study ranks first has "
        f"a mean FID of {listed(worth)}."
    )
    leader, *rivals = ranked
    ratios = {rival: ratio_of_firsts(values[leader], values[rival]) for rival in rivals}
    sure = [f"{rival} ({show(ratios[rival])} times its FID)" for rival in rivals if ratios[rival].high < 1]
    unsure = [f"{rival} ({show(ratios[rival])} times its FID)" for rival in rivals if ratios[rival].high >= 1]
    if sure:
        sentence += f" That of {leader} is better than that of {listed(sure)}."
    if unsure:
        sentence += f" Whether that of {leader} is better than that of {listed(unsure, 'or')} cannot be told."
    return sentence + _flattery(contents)


def confirmation(contents: Contents) -> pd.DataFrame:
    """Return a row per confirmed configuration, in the study's order: what picked it, and what it is worth."""
    found = _confirmed(contents)
    if contents.confirmation is None or found.empty:
        return pd.DataFrame()
    rows = []
    for name in contents.algorithms:
        matrix = contents.confirmation.fids(contents.table, name)
        own = found[found["algorithm"] == name].set_index("config_index").reindex(matrix.index)
        for position, (index, row) in enumerate(own.iterrows()):
            rows.append(
                {
                    "algorithm": name,
                    "rank": position + 1,
                    "configuration": index,
                    "FID that picked it": number(row["fid_mean"]),
                    f"with {contents.confirmation.seeds} fresh seeds": number(row["fresh_mean"]),
                    "and on fresh samples": show(first_of(np.roll(matrix.to_numpy(), -position, axis=0))),
                    "was too good by": share(1 - row["fid_mean"] / row["fresh_confirmed_mean"])
                    if np.isfinite(row["fresh_confirmed_mean"])
                    else "–",
                }
            )
    return pd.DataFrame(rows)


def _confirmed(contents: Contents) -> pd.DataFrame:
    """The rows of the table of configurations that are confirmed."""
    if contents.confirmation is None:
        return pd.DataFrame()
    table = contents.confirmation.beside(contents.table)
    return table[table["fresh_seeds"].notna()]


def _flattery(contents: Contents) -> str:
    """By how much the mean FIDs that picked the configurations were too good, in a sentence."""
    found = _confirmed(contents)
    finite = found[np.isfinite(found["fresh_confirmed_mean"])]
    if finite.empty:
        return ""
    bias = selection_bias(
        finite["fid_mean"].to_numpy(), finite["fresh_confirmed_mean"].to_numpy(), np.arange(len(finite))
    )
    interval = f" [{share(bias.low)}, {share(bias.high)}]" if len(finite) >= FEWEST else ""
    diverged = len(found) - len(finite)
    without = f", beside {diverged} with a fresh seed that diverged" if diverged else ""
    return (
        f" The mean FIDs that had picked the {len(finite)} confirmed configurations{without} were too good by "
        f"{share(bias.value)}{interval}."
    )
