"""The one rule by which a run is judged, wherever runs are compared: status, figures, Optuna, ASHA, counterfactual.

A diverged run is a result, and infinitely bad whatever it had reached before. A failed run says nothing about its
hyperparameters: it is left out, and counted.
"""

from __future__ import annotations

import math

from sweep.results.schema import COMPLETED, FAILED


def judged_fid(status: str, best_fid: float | None) -> float | None:
    """Return the FID by which a run is judged: infinite where it diverged or has none; None where it failed."""
    if status == FAILED:
        return None
    return best_fid if status == COMPLETED and best_fid is not None and math.isfinite(best_fid) else math.inf
