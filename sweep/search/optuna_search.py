"""Optuna proposes configurations: a study per algorithm in one journal file, told what the rows say."""

from __future__ import annotations

import fcntl
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from sweep.errors import SettingsError
from sweep.results.judging import judged_fid
from sweep.results.schema import RunRow
from sweep.search.optuna_space import as_proposal, configure
from sweep.search.plan import seeded_runs
from sweep.search.samplers import make_sampler
from sweep.settings.settings import Study
from wae_core import checks
from wae_core.run import Hyperparameters, Run

TRIES = 100  # to propose a configuration that is not planned yet; a space may have no other
CONFIGURATION = "configuration"  # the trial's attribute that holds the config_id


class OptunaSearch:
    """Proposes configurations, one at a time.

    Plan and rows are the truth, and Optuna's storage follows them: a configuration that Optuna proposed and nobody
    planned, since the driver was killed in between, is a failed trial; where the storage is lost or says something
    else than the rows, its study is written again from them.
    """

    def __init__(
        self,
        study: Study,
        algorithms: Sequence[str],
        storage: Path,
        planned: Iterable[Run],
        rows: Iterable[RunRow],
    ) -> None:
        """Open the storage, and make it say what plan and rows say.

        Raises:
            SettingsError: the storage cannot be read or written, or there is no such sampler.
        """
        assert study.optuna is not None
        self._study, self._optuna = study, study.optuna
        self._planned: dict[str, dict[str, Hyperparameters]] = {algorithm: {} for algorithm in algorithms}
        self._rows: defaultdict[str, dict[int, RunRow]] = defaultdict(dict)
        for run in planned:
            if run.algorithm in algorithms:
                self._planned[run.algorithm][run.config_id] = run.hyperparameters
        for row in rows:
            self._rows[row.config_id][row.seed] = row
        make_sampler(self._optuna.sampler, study.seed, algorithms[0], 0)
        self._storage = _open(storage)
        self._studies = {algorithm: self._settle(algorithm) for algorithm in algorithms}

    def propose(self, algorithm: str, index: int) -> list[Run]:
        """The runs of one more configuration.

        They are to be planned durably before the first of them starts.
        """
        planned, study = self._planned[algorithm], self._studies[algorithm]
        study.sampler = make_sampler(self._optuna.sampler, self._study.seed, algorithm, index)
        for attempt in range(1, TRIES + 1):
            trial = study.ask()
            hyperparameters = self._suggest(algorithm, trial)
            if hyperparameters not in planned.values() or attempt == TRIES:
                break
            study.tell(trial, state=TrialState.FAIL)
        runs = seeded_runs(self._study, algorithm, index, hyperparameters)
        trial.set_user_attr(CONFIGURATION, runs[0].config_id)
        planned[runs[0].config_id] = hyperparameters
        return runs

    def note(self, row: RunRow) -> None:
        """Take in a run's row; with the last seed's, Optuna is told how good the configuration is."""
        rows = self._rows[row.config_id]
        rows[row.seed] = row
        if len(rows) == self._study.seeds:
            study = self._studies[row.algorithm]
            for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if trial.user_attrs.get(CONFIGURATION) == row.config_id:
                    self._tell(study, trial)

    def _suggest(self, algorithm: str, trial: Trial) -> Hyperparameters:
        values = configure(self._study.space, algorithm, lambda parameter: parameter.value(parameter.suggest(trial)))
        return Hyperparameters(**values)  # type: ignore[arg-type]

    def _settle(self, algorithm: str) -> optuna.Study:
        """The algorithm's Optuna study, in line with plan and rows."""
        name = f"{self._study.name}/{algorithm}"
        study = optuna.create_study(
            storage=self._storage, study_name=name, direction=StudyDirection.MINIMIZE, load_if_exists=True
        )
        trials = {}
        for trial in study.get_trials(deepcopy=False):
            config_id = trial.user_attrs.get(CONFIGURATION)
            if config_id in self._planned[algorithm]:
                trials[config_id] = trial
            elif trial.state == TrialState.RUNNING:
                study.tell(trial.number, state=TrialState.FAIL)
        planned = self._planned[algorithm]
        if any(config_id not in trials or not self._agrees(algorithm, trials[config_id]) for config_id in planned):
            return self._write_again(name, algorithm)
        for trial in trials.values():
            if trial.state == TrialState.RUNNING:
                self._tell(study, trial)
        return study

    def _agrees(self, algorithm: str, trial: FrozenTrial) -> bool:
        """Whether the trial is the planned configuration, and is told nothing that the rows do not say."""
        config_id = trial.user_attrs[CONFIGURATION]
        planned = asdict(self._planned[algorithm][config_id])
        _, distributions = as_proposal(self._study.space, algorithm, planned)
        if trial.distributions != distributions:
            return False
        values = configure(self._study.space, algorithm, lambda p: p.value(trial.params[p.label]))
        if any(planned[name] != value for name, value in values.items()):
            return False
        return trial.state == TrialState.RUNNING or (trial.state, trial.value) == self._outcome(config_id)

    def _write_again(self, name: str, algorithm: str) -> optuna.Study:
        """The Optuna study anew, from plan and rows; a sampler's place in its sequence is kept."""
        attributes = self._storage.get_study_system_attrs(self._storage.get_study_id_from_name(name))
        optuna.delete_study(study_name=name, storage=self._storage)
        study = optuna.create_study(storage=self._storage, study_name=name, direction=StudyDirection.MINIMIZE)
        study_id = self._storage.get_study_id_from_name(name)
        for key, value in attributes.items():
            self._storage.set_study_system_attr(study_id, key, value)
        for config_id, hyperparameters in self._planned[algorithm].items():
            params, distributions = as_proposal(self._study.space, algorithm, asdict(hyperparameters))
            state, value = self._outcome(config_id)
            study.add_trial(
                create_trial(
                    state=state,
                    value=value,
                    params=params,
                    distributions=distributions,
                    user_attrs={CONFIGURATION: config_id},
                )
            )
        return study

    def _tell(self, study: optuna.Study, trial: FrozenTrial) -> None:
        state, value = self._outcome(trial.user_attrs[CONFIGURATION])
        if state != TrialState.RUNNING:
            study.tell(trial.number, value, state)

    def _outcome(self, config_id: str) -> tuple[TrialState, float | None]:
        """What Optuna is to know of a configuration, once all its seeds have their rows."""
        rows = self._rows.get(config_id, {})
        if len(rows) < self._study.seeds:
            return TrialState.RUNNING, None
        value = score(rows.values(), self._optuna.quantile)
        return (TrialState.FAIL, None) if value is None else (TrialState.COMPLETE, value)


def score(rows: Iterable[RunRow], quantile: float | None) -> float | None:
    """How good a configuration is, lower is better: mean or quantile over its seeds of the best FID.

    Each run counts as `judged_fid` says; None where all have failed. The quantile is one of the values, not between
    two.
    """
    fids = sorted(fid for row in rows if (fid := judged_fid(row.status, row.best_fid)) is not None)
    if not fids:
        return None
    return math.fsum(fids) / len(fids) if quantile is None else fids[math.ceil(quantile * (len(fids) - 1))]


class _JournalLock(JournalFileOpenLock):
    """`flock` of the journal itself, which a killed process holds no longer, and which leaves no file.

    Optuna's own are a link or a file beside it: a killed process holds them for 30 seconds more, and where the disk
    fails they answer with a RuntimeError.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path

    def acquire(self) -> bool:
        self._file = self._path.open("ab")
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        self._file.close()


def _open(path: Path) -> BaseStorage:
    """The journal; the half line that a kill has left at its end is cut off.

    Raises:
        SettingsError: it is no journal of Optuna's, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        checks.file("optuna.storage", path)
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if content and not content.startswith(b'{"op_code":'):  # before anything of somebody else's is cut
            raise ValueError("it does not begin as a journal")
        if len(whole) < len(content):
            with path.open("rb+") as file:
                file.truncate(len(whole))
        return JournalStorage(JournalFileBackend(str(path), lock_obj=_JournalLock(path)))
    except Exception as error:  # of a damaged journal, Optuna raises whatever its lines lead to
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise SettingsError(
            f"Optuna's storage {path} cannot be used ({reason}); where it is damaged, delete it: "
            "it is written again from the rows"
        ) from error
