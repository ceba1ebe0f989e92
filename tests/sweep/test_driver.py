"""The searcher that hands packs to Tune: each once, again after a worker's death, and not for ever."""

from __future__ import annotations

from collections.abc import Callable

from sweep.driver import DEATHS_ALLOWED, PackSearcher
from sweep.plan import Pack
from wae_core.run import Run

MakeRun = Callable[..., Run]


def test_a_pack_whose_worker_died_comes_again_without_the_runs_that_have_ended(make_run: MakeRun) -> None:
    runs = tuple(make_run("vae", seed=seed) for seed in range(3))
    lost: list[Pack] = []
    searcher = PackSearcher([Pack(runs)], lost.append)
    assert searcher.suggest("a")["pack"].value == Pack(runs)
    searcher.note_ended(runs[1])
    searcher.on_trial_complete("a", error=True)
    rest = Pack((runs[0], runs[2]))
    for death in range(1, DEATHS_ALLOWED):
        assert lost == []
        assert searcher.suggest(str(death))["pack"].value == rest
        searcher.on_trial_complete(str(death), error=True)
    assert lost == [rest]
    assert not searcher.has_more


def test_a_worker_that_dies_after_its_last_row_costs_nothing(make_run: MakeRun) -> None:
    run = make_run("vae")
    lost: list[Pack] = []
    searcher = PackSearcher([Pack((run,))], lost.append)
    searcher.suggest("a")
    searcher.note_ended(run)
    searcher.on_trial_complete("a", error=True)
    assert [run for pack in lost for run in pack.runs] == []
    assert not searcher.has_more
