"""The study's Table 1: FID and sharpness by algorithm, beside the paper's where these may stand beside each other."""

from __future__ import annotations

import json
import math

import pandas as pd

from analysis.load import best_runs
from analysis.report.contents import Contents
from wae_core.storage.files import read

# Tolstikhin et al., "Wasserstein Auto-Encoders", ICLR 2018, Table 1 (CelebA): FID on 10,000 samples, and sharpness.
PAPER = {"vae": ("63", "3e-3"), "wae-mmd": ("55", "6e-3"), "wae-gan": ("42", "6e-3"), "real images": ("2", "2e-2")}
# bigVAE, bigWAE-MMD and bigWAE-GAN, Appendix D: not read in the paper, but recalled.
RECALLED = {"vae": "45", "wae-mmd": "37", "wae-gan": "35"}
REAL = "real images"


def is_the_papers(contents: Contents) -> bool:
    """Say whether the study's FIDs are of the paper's kind: CelebA, Inception's features, 10,000 samples."""
    protocol = contents.document.get("protocol", {})
    kind = tuple(protocol.get(key) for key in ("dataset", "fid_features", "fid_samples"))
    return kind == ("celeba", "inception", 10_000)


def table_1(contents: Contents) -> pd.DataFrame:
    """Return FID and sharpness of each algorithm's best run and of real images; and the paper's, if of one kind."""
    rows = [
        {
            "algorithm": best["algorithm"],
            "best run": best["run_id"],
            "FID": _figure(best["best_fid"]),
            "FID, confirmed": _figure(best["confirmed_fid"]),
            "sharpness": _sharpness(best["best_sharpness"]),
        }
        for best in best_runs(contents.runs, 1).to_dict("records")
    ]
    if not rows:
        return pd.DataFrame()
    real = _real_images(contents)
    if real:
        figures = {"FID": _figure(real["fid"]), "sharpness": _sharpness(real["sharpness"])}
        rows.append({"algorithm": REAL, "best run": "–", "FID, confirmed": "–"} | figures)
    table = pd.DataFrame(rows)
    if is_the_papers(contents):
        table["paper: FID"] = [PAPER.get(name, ("–", "–"))[0] for name in table["algorithm"]]
        table["paper: sharpness"] = [PAPER.get(name, ("–", "–"))[1] for name in table["algorithm"]]
        table["paper's large study: FID (recalled)"] = [RECALLED.get(name, "–") for name in table["algorithm"]]
    return table


def about_table_1(contents: Contents) -> str:
    """Say what stands beside the table, or why the paper's does not."""
    if is_the_papers(contents):
        return (
            "The paper's FIDs are of Section 4, as published on 10,000 samples; its large study's are recalled, "
            "not read there. Sharpness is of pixels in [0, 1]."
        )
    return (
        "The paper's Table 1 does not stand beside it: that is of CelebA, Inception's features and 10,000 samples. "
        "Sharpness is of pixels in [0, 1]."
    )


def _real_images(contents: Contents) -> dict[str, float]:
    file = contents.folder.real_images_file
    try:
        real = json.loads(read(file)) if file.exists() else {}
        return {name: float(real[name]) for name in ("fid", "sharpness")} if real else {}
    except (ValueError, LookupError, TypeError):  # the next model measures it again
        return {}


def _figure(fid: float) -> str:
    return f"{fid:.1f}" if math.isfinite(fid) else "–"


def _sharpness(value: float) -> str:
    return f"{value:.2g}" if math.isfinite(value) else "–"
