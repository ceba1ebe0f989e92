"""Part `traffic`: what a run asks of an object store, counted at a proxy before one, by checkpoint and evaluation.

python -m tests.benchmarks traffic
"""

from __future__ import annotations

import io
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from sweep.launch import launch
from sweep.settings.compose import load_settings
from tests.benchmarks.measuring import Options, Row
from tests.chaos.faulty_proxy import FaultyProxy, faulty_bucket

SMALL = (
    *("cluster=inprocess", "alg=wae-mmd", "budget=1", "study.seeds=1", "study.width=4", "study.steps=8"),
    *("study.fid_samples=200", "study.evaluation_images=50", "study.pretraining_steps=2"),
)
ONCE, MORE = "study.evaluation_steps=[8]", 3
VARIANTS = {  # what there is MORE of than in the first
    "run": (ONCE,),
    "checkpoint": (ONCE, "checkpoint_steps=2"),  # after 2, 4 and 6 steps
    "evaluation": ("study.evaluation_steps=[2,4,6,8]",),  # each of which makes a checkpoint too
}
RUN_ID = "wae-mmd-00000-s0"


def measure(options: Options, say: Callable[[str], None]) -> list[Row]:
    """Launch each variant once: the counts are the same every time."""
    counted: dict[str, Counter[str]] = {}
    with faulty_bucket() as proxy, tempfile.TemporaryDirectory() as scratch:
        for name, words in VARIANTS.items():
            counted[name] = _requests(proxy, name, Path(scratch), words)
            say(f"{name}: {dict(counted[name])}")
    of_one = counted["run"]
    rows = [Row("requests of a run with one evaluation", (float(of_one.total()),), "", note=_words(of_one))]
    for name in ("checkpoint", "evaluation"):
        more = Counter({method: counted[name][method] - of_one[method] for method in counted[name] | of_one})
        rows.append(Row(f"requests of one more {name}", (more.total() / MORE,), "", note=_words(more, MORE)))
    return rows


def _requests(proxy: FaultyProxy, name: str, scratch: Path, words: tuple[str, ...]) -> Counter[str]:
    """The requests by method that concern the run: its work folder, its record, and deletions, which are POSTs."""
    proxy.requests.clear()
    places = [f"results=s3://chaos/{name}", f"tracking=sqlite:///{scratch}/{name}.db"]
    launch(load_settings([*SMALL, *words, *places]), Console(file=io.StringIO()))
    return Counter(method for method, path in proxy.requests if RUN_ID in path or method == "POST")


def _words(requests: Counter[str], parts: int = 1) -> str:
    return ", ".join(f"{count / parts:g} {method}" for method, count in requests.most_common() if count)
