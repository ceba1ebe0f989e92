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


def test_more_packs_are_proposed_when_none_waits_and_the_search_ends_with_the_proposals(make_run: MakeRun) -> None:
    first, *proposed = (Pack((make_run("vae", config_index=index),)) for index in range(3))
    later = [[pack] for pack in proposed]
    searcher = PackSearcher([first], lambda pack: None, lambda: later.pop(0) if later else [])
    handed = []
    for name in "abc":
        handed.append(searcher.suggest(name)["pack"].value)
        assert searcher.has_more
        assert len(later) == 3 - len(handed), "a pack is proposed when it is wanted, and not before"
        searcher.on_trial_complete(name)
    assert handed == [first, *proposed]
    assert searcher.suggest("d") == PackSearcher.FINISHED
    assert not searcher.has_more


def test_what_goes_wrong_in_proposing_waits_for_the_packs_that_run(make_run: MakeRun) -> None:
    def propose() -> list[Pack]:
        raise OSError("the disk is full")

    searcher = PackSearcher([Pack((make_run("vae"),))], lambda pack: None, propose)
    searcher.suggest("a")
    assert searcher.suggest("b") is None
    assert isinstance(searcher.error, OSError)
    searcher.on_trial_complete("a")
    assert searcher.suggest("c") == PackSearcher.FINISHED
