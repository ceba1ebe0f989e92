"""Optuna's proposals: planned once, told what the rows say, the same after a kill, conditional where the space is."""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from search_spaces import SearchSpace
from sweep.errors import SettingsError
from sweep.events import Ended, Task
from sweep.results.folder import StudyFolder
from sweep.results.plan_file import PlanFile, planned_runs
from sweep.results.schema import RunRow
from sweep.search.optuna_search import OptunaSearch, score
from sweep.search.samplers import rehearse
from sweep.search.schedule import Schedule, standings
from sweep.settings.settings import Optuna, Study
from tests.places import local
from tests.sweep.conftest import SPACE
from wae_core.run import Hyperparameters, Run

COMPLETE, FAIL, RUNNING = TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING
CONDITIONAL = SPACE.replace(
    "wae_lambda: {algorithms: [wae-mmd, wae-gan], distribution: uniform, low: 1, high: 50, source: O}",
    """wae_lambda:
  - {algorithms: [wae-mmd, wae-gan], when: {encoder: deterministic},
     distribution: uniform, low: 1, high: 2, source: O}
  - {algorithms: [wae-mmd, wae-gan], when: {encoder: stochastic},
     distribution: uniform, low: 40, high: 50, source: O}
""",
).replace("low: 1, high: 16, source: O}", "low: 1, high: 16, step: 0.5, source: O}")
BOUNDED = CONDITIONAL.replace(
    "adversary_learning_rate: {algorithms: [wae-gan],",
    "adversary_learning_rate: {algorithms: [wae-gan], at_least: learning_rate,",
)


@dataclass(frozen=True)
class Launch:
    search: OptunaSearch
    schedule: Schedule

    def propose(self) -> list[Run]:
        """What is to be trained next: what was planned before, then new configurations."""
        task = self.schedule.next()
        return list(task.runs) if task else []


class Sweep:
    """A launch without training: every proposed run ends as `fid` says, in the order of the proposals."""

    def __init__(self, folder: StudyFolder, study: Study, make_result: Callable[..., Any]) -> None:
        self.folder, self.study, self.make_result = folder, study, make_result
        self.storage = local(folder.root) / "optuna.journal"

    def open(self, configurations: int, algorithms: Sequence[str] = ("wae-mmd",)) -> Launch:
        rows = [RunRow(**row) for row in self.folder.read_table("runs").to_pylist()]
        planned = planned_runs(self.folder, self.study)
        search = OptunaSearch(self.study, algorithms, self.storage, planned, rows)
        budget = configurations * self.study.seeds
        standing = standings(self.folder, "none", rows)
        schedule = Schedule(
            self.study,
            algorithms,
            budget,
            search,
            planned,
            standing,
            pack=lambda runs: [Task(tuple(runs))],
            plan=lambda runs: None,  # who is killed before it is durable has not planned
        )
        return Launch(search, schedule)

    def end(self, launch: Launch, run: Run, status: str = "completed", **overrides: Any) -> None:
        done = {"steps_done": run.protocol.steps} | overrides
        row, evaluations = self.make_result(run, status, fids=(fid(run),), **done)
        self.folder.publish(row, evaluations)
        launch.schedule.note(Ended(run, row))

    def go(self, configurations: int, algorithms: Sequence[str] = ("wae-mmd",)) -> list[Run]:
        """Launch, finish what is planned, propose and finish the rest; returns all runs of the budget."""
        launch = self.open(configurations, algorithms)
        while runs := launch.propose():
            PlanFile(self.folder).extend(runs)
            for run in runs:
                self.end(launch, run)
        return launch.schedule.runs

    def trials(self, algorithm: str = "wae-mmd") -> list[optuna.trial.FrozenTrial]:
        storage = JournalStorage(JournalFileBackend(str(self.storage)))
        return optuna.load_study(storage=storage, study_name=f"test/{algorithm}").trials

    def told(self, algorithm: str = "wae-mmd") -> dict[str, tuple[TrialState, Any]]:
        return {
            trial.user_attrs["configuration"]: (trial.state, trial.value)
            for trial in self.trials(algorithm)
            if "configuration" in trial.user_attrs
        }


def fid(run: Run) -> float:
    """Lowest at a learning rate of 1e-3, other for each seed."""
    return 100 * abs(math.log10(run.hyperparameters.learning_rate) + 3) + 10 + run.seed


def configurations(runs: Sequence[Run]) -> dict[str, Hyperparameters]:
    return {run.config_id: run.hyperparameters for run in runs}


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the thousands of small writes here none has to outlive the machine."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def make_sweep(tmp_path: Path, study: Study, make_result: Callable[..., Any]) -> Callable[..., Sweep]:
    def make(name: str = "a", sampler: str = "tpe", space: str = SPACE, **changes: Any) -> Sweep:
        folder = StudyFolder(tmp_path / name, "test")
        folder.records.mkdir(parents=True)
        read = SearchSpace.from_dict("mine", yaml.safe_load(space))
        return Sweep(folder, replace(study, space=read, optuna=Optuna(sampler, None), **changes), make_result)

    return make


@pytest.mark.slow
def test_a_budget_is_whole_configurations_that_optuna_is_told_with_their_means(
    make_sweep: Callable[..., Sweep],
) -> None:
    sweep = make_sweep()
    runs = sweep.go(14)
    assert [run.run_id for run in runs] == [f"wae-mmd-{i:05d}-s{seed}" for i in range(14) for seed in range(3)]
    assert planned_runs(sweep.folder, sweep.study) == runs
    assert len(set(configurations(runs).values())) == 14
    assert sweep.told() == {
        runs[i].config_id: (COMPLETE, pytest.approx(sum(map(fid, runs[i : i + 3])) / 3)) for i in range(0, 42, 3)
    }
    assert not sweep.open(14).schedule.has_more


@pytest.mark.slow
def test_tpe_looks_where_the_fid_is_low(make_sweep: Callable[..., Sweep]) -> None:
    learned, drawn = (
        [fid(run) for run in make_sweep(name, sampler).go(30)[::3]]
        for name, sampler in (("a", "tpe"), ("b", "optuna.samplers.RandomSampler"))
    )
    assert sum(learned[15:]) / 15 < 0.7 * sum(drawn) / 30


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "count"), [("tpe", 12), ("qmc", 4), ("optuna.samplers.RandomSampler", 3)])
def test_one_seed_gives_the_same_proposals_and_another_others(
    make_sweep: Callable[..., Sweep], sampler: str, count: int
) -> None:
    first, second, other = (
        configurations(make_sweep(name, sampler, seed=seed).go(count))
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == second
    assert not set(first.values()) & set(other.values())


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "qmc"])
def test_launches_that_stop_anywhere_propose_what_one_launch_does(
    make_sweep: Callable[..., Sweep], sampler: str
) -> None:
    undisturbed = make_sweep("undisturbed", sampler).go(14)
    sweep = make_sweep("disturbed", sampler)
    for configurations_then, rows in ((3, 1), (6, 3), (11, 0), (12, 2)):
        sweep.go(configurations_then - 1)
        search = sweep.open(configurations_then)
        runs = search.propose()
        PlanFile(sweep.folder).extend(runs)
        for run in runs[:rows]:
            sweep.end(search, run)
    assert sweep.go(14) == undisturbed
    assert len(sweep.trials()) == 14


@pytest.mark.slow
def test_a_proposal_that_was_never_planned_is_made_again(make_sweep: Callable[..., Sweep]) -> None:
    undisturbed = make_sweep("undisturbed").go(12)
    sweep = make_sweep()
    sweep.go(11)
    lost = sweep.open(12).propose()
    assert sweep.go(12) == undisturbed
    assert lost == undisturbed[-3:]
    assert [trial.state for trial in sweep.trials()] == [COMPLETE] * 11 + [FAIL, COMPLETE]


def test_a_lost_journal_is_written_again_from_plan_and_rows(make_sweep: Callable[..., Sweep]) -> None:
    sweep = make_sweep(space=BOUNDED)
    sweep.go(4, ["wae-gan"])
    search = sweep.open(5, ["wae-gan"])
    PlanFile(sweep.folder).extend(search.propose())
    before, params = sweep.told("wae-gan"), [trial.params for trial in sweep.trials("wae-gan")]
    sweep.storage.unlink()
    search = sweep.open(5, ["wae-gan"])
    assert sweep.told("wae-gan") == before
    for trial, own in zip(sweep.trials("wae-gan"), params, strict=True):
        assert trial.params.keys() == own.keys()
        for name, value in own.items():
            assert trial.params[name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-3))
    assert [run.config_index for run in search.schedule.runs[::3]] == [0, 1, 2, 3, 4]
    assert [run.config_index for run in search.propose()] == [4, 4, 4]
    assert not search.schedule.has_more


def test_quasi_random_proposals_go_on_behind_a_lost_journal(make_sweep: Callable[..., Sweep]) -> None:
    sweep = make_sweep(sampler="qmc")
    sweep.go(5)
    sweep.storage.unlink()
    assert len(set(configurations(sweep.go(9)).values())) == 9


def test_a_journal_that_says_other_than_the_rows_is_put_right(make_sweep: Callable[..., Sweep]) -> None:
    """As after retry=failed: the rows of a configuration are others than those that Optuna was told."""
    sweep = make_sweep()
    sweep.go(3)
    (sweep.folder.records / "wae-mmd-00001-s0.parquet").unlink()
    search = sweep.open(3)
    assert [state for state, _ in sweep.told().values()] == [COMPLETE, RUNNING, COMPLETE]
    sweep.end(search, search.schedule.runs[3], best_fid=1000.0)
    others = sum(map(fid, search.schedule.runs[4:6]))
    assert sweep.told()["wae-mmd-00001"] == (COMPLETE, pytest.approx((1000 + others) / 3))


def test_a_half_line_at_the_end_of_the_journal_is_cut_off(make_sweep: Callable[..., Sweep]) -> None:
    sweep = make_sweep()
    sweep.go(2)
    content = sweep.storage.read_bytes()
    sweep.storage.write_bytes(content + content.splitlines()[-1][:-5])
    sweep.go(4)
    assert len(sweep.trials()) == 4


def test_a_journal_needs_no_file_beside_it_and_waits_for_no_dead_process(
    make_sweep: Callable[..., Sweep], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna's own lock is a symbolic link, which not every disk has, and which a killed process leaves for 30 s."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    sweep, began = make_sweep(), time.monotonic()
    sweep.folder.records.mkdir(parents=True, exist_ok=True)
    sweep.storage.with_name("optuna.journal.lock").symlink_to(sweep.storage)
    for name in ("symlink", "link", "rename"):
        monkeypatch.setattr(os, name, refuse)
    search = sweep.open(1).search
    assert len(search.propose("wae-mmd", 0)) == sweep.study.seeds
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("content", [b"SQLite format 3\0 and so on", b"no journal\n{}\n", b'{"op_code": 99}\n'])
def test_what_is_no_journal_is_refused_and_stays(make_sweep: Callable[..., Sweep], content: bytes) -> None:
    sweep = make_sweep()
    sweep.storage.write_bytes(content)
    with pytest.raises(SettingsError, match=r"Optuna's storage .*optuna\.journal cannot be used"):
        sweep.open(1)
    assert sweep.storage.read_bytes() == content


@pytest.mark.parametrize(
    "sampler", ["nosuch", "no.such.Sampler", "optuna.samplers.NoSuch", "pathlib.Path", "os.path"]
)
def test_an_unknown_sampler_is_one_sentence(make_sweep: Callable[..., Sweep], sampler: str) -> None:
    with pytest.raises(SettingsError, match=f"optuna.sampler is '{sampler}', but it is tpe, qmc or the path") as said:
        make_sweep(sampler=sampler).open(1)
    assert "\n" not in str(said.value)


def test_a_smaller_budget_leaves_the_rest_as_it_was(make_sweep: Callable[..., Sweep]) -> None:
    sweep = make_sweep()
    sweep.go(3)
    search = sweep.open(4)
    PlanFile(sweep.folder).extend(search.propose())
    before = sweep.told()
    smaller = sweep.open(2)
    assert not smaller.schedule.has_more
    assert [run.config_index for run in smaller.schedule.runs] == [0, 0, 0, 1, 1, 1]
    assert sweep.told() == before
    assert [state for state, _ in before.values()] == [COMPLETE] * 3 + [RUNNING]


def test_algorithms_take_turns(make_sweep: Callable[..., Sweep]) -> None:
    sweep = make_sweep()
    runs = sweep.go(2, ["wae-mmd", "wae-gan", "vae"])
    assert [run.config_id for run in runs[::3]] == [
        f"{algorithm}-{index:05d}" for index in range(2) for algorithm in ("wae-mmd", "wae-gan", "vae")
    ]
    assert len(sweep.told("vae")) == 2
    assert [run.algorithm for run in sweep.open(2, ["vae"]).schedule.runs] == ["vae"] * 6


@pytest.mark.slow
def test_a_pipe_in_the_place_of_the_journal_is_refused_and_not_waited_for(make_sweep: Callable[..., Sweep]) -> None:
    sweep = make_sweep()
    sweep.storage = sweep.storage.parent / "elsewhere"  # in the study's folder, all files are looked at before
    os.mkfifo(sweep.storage)
    with pytest.raises(SettingsError, match=r"optuna\.storage is '.*', but it is a file, and no pipe"):
        sweep.open(1)


class StrangeSampler(optuna.samplers.RandomSampler):
    """It draws ten times, and then cannot any more."""

    def sample_independent(self, study: Any, trial: Any, name: str, distribution: Any) -> Any:
        if trial.number == 10:
            raise RuntimeError("no\nmore")
        return super().sample_independent(study, trial, name, distribution)


@pytest.mark.parametrize(
    ("sampler", "reason"),
    [
        ("optuna.samplers.BruteForceSampler", "ValueError: "),  # it needs steps, and the space has intervals
        (f"{__name__}.StrangeSampler", r"RuntimeError: no more\)$"),
        ("optuna.samplers.GridSampler", "TypeError: "),  # it needs a grid
        ("optuna.samplers.BaseSampler", "TypeError: "),
    ],
)
def test_a_sampler_that_cannot_draw_from_the_space_is_refused_beforehand(
    study: Study, sampler: str, reason: str
) -> None:
    with pytest.raises(SettingsError, match=rf"^optuna.sampler is '{sampler}', but it .*{reason}"):
        rehearse(replace(study, optuna=Optuna(sampler, None)), study.space.algorithms)


@pytest.mark.parametrize("sampler", ["tpe", "qmc", "optuna.samplers.NSGAIISampler"])
@pytest.mark.parametrize("space", [SPACE, BOUNDED], ids=["plain", "conditional"])
def test_a_sampler_that_can_is_not_refused(study: Study, sampler: str, space: str) -> None:
    read = SearchSpace.from_dict("small", yaml.safe_load(space))
    rehearse(replace(study, space=read, optuna=Optuna(sampler, None)), read.algorithms)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "qmc"])
def test_conditional_hyperparameters_are_conditional_in_the_sampler(
    make_sweep: Callable[..., Sweep], sampler: str
) -> None:
    sweep = make_sweep(sampler=sampler, space=BOUNDED)
    sweep.go(14, ["wae-gan", "wae-mmd"])
    encoders = set()
    for algorithm in ("wae-gan", "wae-mmd"):
        hyperparameters = configurations([r for r in sweep.go(14, [algorithm]) if r.algorithm == algorithm])
        for trial in sweep.trials(algorithm):
            own = hyperparameters[trial.user_attrs["configuration"]]
            (label,) = [name for name in trial.params if name.startswith("wae_lambda")]
            assert label == f"wae_lambda where encoder is {own.encoder}"
            low, high = (1, 2) if own.encoder == "deterministic" else (40, 50)
            assert own.wae_lambda is not None
            assert low <= own.wae_lambda <= high
            encoders.add(own.encoder)
            if own.adversary_learning_rate is not None:
                assert own.learning_rate <= own.adversary_learning_rate <= 1e-2
            else:
                assert own.kernel_scale is not None
                assert (2 * own.kernel_scale).is_integer()
    assert encoders == {"deterministic", "stochastic"}


def test_a_space_of_two_configurations_is_drawn_whole_before_one_comes_again(
    make_sweep: Callable[..., Sweep],
) -> None:
    data = {
        name: {**line, "distribution": "fixed", "value": value}
        for name, line, value in (
            ("latent_dim", {"algorithms": "all", "source": "O"}, 4),
            ("batch_size", {"algorithms": "all", "source": "O"}, 16),
            ("learning_rate", {"algorithms": "all", "source": "O"}, 1e-3),
            ("adversary_learning_rate", {"algorithms": ["wae-gan"], "source": "O"}, 1e-3),
            ("kernel_scale", {"algorithms": ["wae-mmd"], "source": "O"}, 1),
            ("wae_lambda", {"algorithms": ["wae-mmd", "wae-gan"], "source": "O"}, 1),
            ("decoder_variance", {"algorithms": ["vae"], "source": "O"}, 1),
            ("architecture", {"algorithms": "all", "source": "O"}, "dcgan_small"),
        )
    }
    data["encoder"] = {
        "algorithms": ["wae-mmd", "wae-gan"],
        "distribution": "choice",
        "values": ["deterministic", "stochastic"],
        "source": "O",
    }
    runs = make_sweep(space=yaml.safe_dump(data)).go(3)
    assert {run.hyperparameters.encoder for run in runs[:6]} == {"deterministic", "stochastic"}


@pytest.mark.parametrize(
    ("fids", "statuses", "quantile", "told"),
    [
        ((3.0, 1.0, 5.0), "ccc", None, 3.0),
        ((3.0, 1.0, 5.0), "ccc", 0.5, 3.0),
        ((3.0, 1.0, 5.0), "ccc", 0.0, 1.0),
        ((3.0, 1.0, 5.0), "ccc", 1.0, 5.0),
        ((3.0, 1.0, 5.0), "ccd", None, math.inf),  # whatever the diverged one had reached
        ((3.0, 1.0, 5.0), "ccd", 0.5, 3.0),
        ((3.0, 1.0, 5.0), "ddd", 0.5, math.inf),
        ((3.0, 1.0, 5.0), "ccf", None, 2.0),
        ((3.0, 1.0, 5.0), "fff", None, None),
    ],
)
def test_score_of_a_configuration(
    make_run: Callable[..., Run],
    make_result: Callable[..., Any],
    fids: tuple[float, ...],
    statuses: str,
    quantile: float | None,
    told: float | None,
) -> None:
    names = {"c": "completed", "d": "diverged", "f": "failed"}
    runs = [make_run("vae", seed=seed) for seed in range(3)]
    rows = [
        make_result(run, names[status], fids=(fid,))[0] for run, status, fid in zip(runs, statuses, fids, strict=True)
    ]
    assert score(rows, quantile) == told


def test_a_configuration_that_diverged_is_told_as_the_worst_and_one_that_failed_as_failed(
    make_sweep: Callable[..., Sweep],
) -> None:
    sweep = make_sweep()
    search = sweep.open(12)
    for status in ("diverged", "failed"):
        runs = search.propose()
        PlanFile(sweep.folder).extend(runs)
        for run in runs:
            sweep.end(search, run, status)
    assert sweep.told() == {"wae-mmd-00000": (COMPLETE, math.inf), "wae-mmd-00001": (FAIL, None)}
    sweep.go(12)  # TPE takes both
