"""The tables of a report, by name, each a frame whose columns are ready to be read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis.configurations import fid_matrix, judged_fids
from analysis.report.confirmation import confirmation
from analysis.report.contents import Contents
from analysis.report.table1 import table_1
from analysis.report.verdict import compare
from analysis.report.words import share, show
from analysis.sensitivity import PARTS, at_edges, divergence, judged_configurations
from analysis.uncertainty import honest_winner, median, selection_bias, spread
from search_spaces import SearchSpace
from sweep.results.schema import COMPLETED, STATUSES
from wae_core.flops import show_flops

LIKELY = 0.05  # an edge is told from chance below this, divided by the number of edges that were looked at


def summary(contents: Contents) -> pd.DataFrame:
    """Return, per algorithm, what it reaches, with intervals."""
    rows = []
    for name in contents.algorithms:
        own = contents.runs[contents.runs["algorithm"] == name]
        matrix, judged = fid_matrix(contents.runs, name).to_numpy(), contents.judged(name).to_numpy(dtype=float)
        finished = own[own["status"] == COMPLETED]
        best = finished.nsmallest(1, "best_fid")
        rows.append(
            {
                "algorithm": name,
                "configurations": len(judged),
                "median configuration": show(median(judged)) if len(judged) else "–",
                "best configuration, honestly": show(honest_winner(matrix))
                if len(matrix) and matrix.shape[1] > 1
                else "–",
                "best run": f"{best['best_fid'].iloc[0]:.1f}" if len(best) else "–",
                "the same, confirmed": f"{best['confirmed_fid'].iloc[0]:.1f}" if len(best) else "–",
            }
        )
    return pd.DataFrame(rows)


def improvements(contents: Contents) -> pd.DataFrame:
    """Return the probability that a configuration of the row's algorithm beats one of the column's."""
    names = contents.with_results
    rows = [
        {"": name} | {rival: "–" if rival == name else show(compare(contents, name, rival)) for rival in names}
        for name in names
    ]
    return pd.DataFrame(rows) if len(names) > 1 else pd.DataFrame()


def ledger(contents: Contents) -> pd.DataFrame:
    """Return what each algorithm was to train, what became of that, and what it has spent."""
    rows = []
    for name in contents.algorithms:
        status = contents.runs.loc[contents.runs["algorithm"] == name, "status"]
        counts = {each: int((status == each).sum()) for each in STATUSES}
        planned = contents.planned.get(name, len(status))
        rows.append({"algorithm": name, "planned": planned, **counts, "missing": planned - len(status)})
    spent = contents.ledger
    shown = pd.DataFrame(
        {
            "algorithm": spent["algorithm"],
            "steps": spent["steps"].map("{:,}".format),
            "images": spent["images"].map("{:,}".format),
            "FLOPs": spent["flops"].map(lambda flops: "–" if pd.isna(flops) else show_flops(flops)),
            "device-hours": ((spent["train_seconds"] + spent["eval_seconds"]) / 3600).map("{:,.2f}".format),
            "steps done again": spent["wasted_steps"].map("{:,}".format),
        }
    )
    return pd.DataFrame(rows).merge(shown, on="algorithm", how="left").fillna("–") if rows else pd.DataFrame()


def variances(contents: Contents) -> pd.DataFrame:
    """Return, per algorithm: how much seeds and configurations scatter, and how much the kept checkpoint flatters."""
    rows = []
    for name in contents.with_results:
        row: dict[str, object] = {"algorithm": name}
        matrix = fid_matrix(contents.runs, name).to_numpy()
        finite = matrix[np.isfinite(matrix).all(axis=1)]
        if len(finite) > 1 and finite.shape[1] > 1:
            found = spread(np.log(finite))
            row |= {
                "between configurations": f"±{np.sqrt(found.between):.0%}",
                "between seeds": f"±{np.sqrt(found.within):.0%}",
                "seeds disagree on an order": f"{found.disagreement:.0%}",
            }
        own = contents.runs[(contents.runs["algorithm"] == name) & (contents.runs["status"] == COMPLETED)]
        if len(own):
            columns = [own[column].to_numpy() for column in ("best_fid", "confirmed_fid", "config_index")]
            bias = selection_bias(*columns)
            row["kept checkpoint is too good by"] = show(bias, share)
        rows.append(row)
    return pd.DataFrame(rows).fillna("–")


def rescores(contents: Contents) -> pd.DataFrame:
    """Return, per way in which stored models were scored again and per algorithm: how the new order is to the old."""
    rows = []
    kind = ["fid_features", "fid_reference", "fid_samples"]
    scored = contents.rescores.merge(contents.runs[["run_id", "best_fid"]], on="run_id")
    for (features, reference, samples, algorithm), own in scored.groupby([*kind, "algorithm"]):
        finite = own[np.isfinite(own["fid"])]
        best = finite.nsmallest(1, "fid")
        rows.append(
            {
                "scored by": f"{features}, reference {reference}, {samples:,} samples",
                "algorithm": algorithm,
                "models": len(own),
                "best of them": best["run_id"].iloc[0] if len(best) else "–",
                "its FID": f"{best['fid'].iloc[0]:.1f}" if len(best) else "–",
                "rank correlation with the study's FID": f"{rank_correlation(finite['fid'], finite['best_fid']):.2f}"
                if len(finite) > 2
                else "–",
                "warning": next(iter(own["fid_warning"].dropna()), "–"),
            }
        )
    return pd.DataFrame(rows)


def rank_correlation(a: pd.Series[float], b: pd.Series[float]) -> float:
    """Return Spearman's rank correlation of two series of the same index; ties have their mean rank."""
    return float(a.rank().corr(b.rank()))


def importances(contents: Contents) -> pd.DataFrame:
    """Return how much each hyperparameter explains, per algorithm; R² is that of the forest on held-out data."""
    rows = [
        {
            "algorithm": name,
            "hyperparameter": row["hyperparameter"],
            "importance": f"{max(0.0, row['importance']):.2f} ± {row['sd']:.2f}",
            "R² of all": f"{row['r2']:.2f}",
        }
        for name, found in contents.importances.items()
        for row in found.to_dict("records")
    ]
    return pd.DataFrame(rows)


def edges(contents: Contents) -> pd.DataFrame:
    """Return the ends of ranges at which the best configurations crowd, and the limit there."""

    def show_crowded(found: pd.DataFrame) -> pd.DataFrame:
        crowded = found[found["p"] < LIKELY / max(1, len(found))]
        return pd.DataFrame(
            {
                **{name: crowded[name] for name in ("hyperparameter", "edge")},
                "limit": crowded["limit"].map(str),
                "of the best tenth": crowded["share"].map("{:.0%}".format),
                "of all": crowded["expected"].map("{:.0%}".format),
                "p": crowded["p"].map("{:.1g}".format),
            }
        )

    return _per_algorithm(contents, at_edges, show_crowded)


def divergences(contents: Contents) -> pd.DataFrame:
    """Return in which thirds of which ranges configurations diverge, where any does."""

    def show_thirds(found: pd.DataFrame) -> pd.DataFrame:
        found = found[found.groupby("hyperparameter")["diverged"].transform("sum") > 0]
        if found.empty:
            return found
        shares = [
            f"{share:.0%} [{low:.0%}, {high:.0%}]"
            for share, low, high in zip(found["share"], found["low"], found["high"], strict=True)
        ]
        wide = found.assign(share=shares).pivot(index="hyperparameter", columns="part", values="share")
        return wide.reindex(columns=list(PARTS)).add_suffix(" third").reset_index()

    return _per_algorithm(contents, divergence, show_thirds)


def provenance(contents: Contents) -> pd.DataFrame:
    """Return how the study was made: its data, its commit, its versions."""
    document = contents.document
    protocol = document.get("protocol", {})
    packages = document.get("packages", {})
    commits = sorted(set(contents.runs["git_commit"]))
    said = {
        "data set": protocol.get("dataset"),
        "its sha256": document.get("data_sha256"),
        "steps": protocol.get("steps"),
        "study seed": document.get("seed"),
        "commit of study.yaml": document.get("git_commit"),
        "commits of the rows": ", ".join(commits),
        "Python": document.get("python"),
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items()),
        "devices": ", ".join(sorted(set(contents.runs["device"]))),
    }
    return pd.DataFrame([(name, value) for name, value in said.items() if value], columns=["what", "value"])


def space(contents: Contents) -> pd.DataFrame:
    """Return the lines of the study's search space, with the source of each: P, S or O."""
    lines = contents.space.hyperparameters if contents.space else ()
    rows = [
        {
            "hyperparameter": line.name,
            "algorithms": ", ".join(line.algorithms),
            "distribution": line.distribution.name,
            "values": " … ".join(map(str, line.distribution.support))
            if line.distribution.name.endswith("uniform")
            else ", ".join(map(str, line.distribution.support)),
            "source": line.source,
        }
        for line in lines
    ]
    return pd.DataFrame(rows)


def configurations_by_rank(contents: Contents) -> pd.DataFrame:
    """Return the table of configurations, best first, for who reads on with another program."""
    table = contents.table if contents.confirmation is None else contents.confirmation.beside(contents.table)
    return table.sort_values(["algorithm", "fid_mean", "config_index"], ignore_index=True)


def why_missing(contents: Contents) -> list[str]:
    """Say, per algorithm, why importance or edges cannot be computed."""
    if contents.space is None:
        return ["the study's space is not known"]
    said = []
    for name in contents.with_results:
        try:
            judged_configurations(contents.table, name)
        except ValueError as error:
            said.append(str(error))
    return said


def kinds_of_fid(contents: Contents) -> list[str]:
    """Return the kinds of FID among the rows; figures of different kinds must not be compared."""
    own = contents.runs[judged_fids(contents.runs).notna()]
    columns = own[["fid_features", "fid_reference", "fid_samples"]].dropna().drop_duplicates()
    return [
        f"{features}, reference {reference}, {samples:,} samples"
        for features, reference, samples in columns.to_numpy()
    ]


def warnings(contents: Contents) -> list[str]:
    """Return why the FIDs of the study mean little, if they do."""
    return sorted({str(contents.document.get("fid_warning") or ""), *contents.runs["fid_warning"].dropna()} - {""})


def _per_algorithm(
    contents: Contents,
    compute: Callable[[pd.DataFrame, SearchSpace, str], pd.DataFrame],
    show: Callable[[pd.DataFrame], pd.DataFrame],
) -> pd.DataFrame:
    """One frame below the other, of the algorithms of which it can be computed."""
    found = []
    if contents.space is not None:
        for name in contents.with_results:
            try:
                frame = show(compute(contents.table, contents.space, name))
            except ValueError:  # too few configurations, as `why_missing` says
                continue
            if len(frame):
                frame.insert(0, "algorithm", name)
                found.append(frame)
    return pd.concat(found, ignore_index=True).fillna("–") if found else pd.DataFrame()


TABLES: dict[str, Callable[[Contents], pd.DataFrame]] = {  # by the file's name
    "ledger": ledger,
    "summary": summary,
    "table_1": table_1,
    "confirmation": confirmation,
    "improvements": improvements,
    "importances": importances,
    "edges": edges,
    "divergences": divergences,
    "variances": variances,
    "rescores": rescores,
    "provenance": provenance,
    "space": space,
}
