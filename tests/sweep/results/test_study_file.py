"""study.yaml: the same study may go on in its folder, any other is refused, and reading it runs no code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from search_spaces import SearchSpace
from sweep.errors import SettingsError
from sweep.results import study_file
from sweep.results.folder import StudyFolder
from sweep.results.plan_file import plan_table, planned_runs
from sweep.results.study_file import claim
from sweep.search.plan import plan_runs
from sweep.settings.settings import Confirms, FailurePolicy, Optuna, Study
from tests.places import local

POLICY = FailurePolicy(tries=3, worker_deaths=5)


@pytest.fixture
def path(folder: StudyFolder) -> Path:
    return local(folder.study_file)


def refusal(folder: StudyFolder, study: Study) -> str:
    before = folder.study_file.read_bytes()
    with pytest.raises(SettingsError) as caught:
        claim(folder, study, POLICY)
    assert folder.study_file.read_bytes() == before
    return str(caught.value)


def with_line(study: Study, name: str, **changes: Any) -> Study:
    data = study.space.as_dict()
    data[name] |= changes
    return replace(study, space=SearchSpace.from_dict(study.space.name, data))


def test_the_file_is_plain_yaml_that_says_all_of_the_study(path: Path, folder: StudyFolder, study: Study) -> None:
    claim(folder, study, POLICY)
    written = yaml.safe_load(path.read_text())
    assert (written["study"], written["seed"], written["seeds"]) == ("test", 5, 3)
    assert written["protocol"]["evaluation_steps"] == list(study.protocol.evaluation_steps)
    assert written["protocol"]["width"] == study.protocol.width
    assert SearchSpace.from_dict("mine", written["space"]) == study.space
    assert written["packages"]["torch"] and written["packages"]["bigwae"]
    assert written["git_commit"]
    assert {file.name for file in path.parent.iterdir()} == {"study.yaml", "records"}, "no temporary file stays"


def test_the_same_study_is_accepted_and_the_file_stays_as_it_was(
    path: Path, folder: StudyFolder, study: Study
) -> None:
    claim(folder, study, POLICY)
    # Another machine, another commit: still the same study.
    path.write_text(path.read_text().replace("git_commit:", "git_commit: x"))
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    claim(folder, replace(study), POLICY)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def _protocol(**changes: Any) -> Callable[[Study], Study]:
    return lambda study: replace(study, protocol=replace(study.protocol, **changes))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda study: replace(study, seed=9), "seed is 5 there and 9 in this launch"),
        (lambda study: replace(study, seeds=9), "seeds is 3 there and 9 in this launch"),
        (
            lambda study: replace(study, confirms=Confirms("test", 3)),
            "confirms is None there and {'first_seed': 3, 'study': 'test'} in this launch",
        ),
        (_protocol(steps=5, evaluation_steps=(2, 5)), "protocol.steps is 4 there and 5 in this launch"),
        (_protocol(fid_samples=2000), "protocol.fid_samples is 200 there and 2000 in this launch"),
        (_protocol(input_noise=0.5), "protocol.input_noise is 0.01 there and 0.5 in this launch"),
        (
            _protocol(steps=7, evaluation_steps=(7,), width=7),
            "protocol.width is 2 there and 7 in this launch",  # the first of three
        ),
    ],
    ids=["seed", "seeds", "confirms", "steps", "fid_samples", "input_noise", "several"],
)
def test_another_version_of_the_study_is_refused_with_the_first_difference(
    path: Path, folder: StudyFolder, study: Study, change: Callable[[Study], Study], named: str
) -> None:
    claim(folder, study, POLICY)
    sentence = refusal(folder, change(study))
    assert f": {named};" in sentence
    assert "\n" not in sentence
    assert str(path.parent) in sentence
    assert "results" in sentence


def test_a_changed_provenance_of_an_interval_is_no_other_study(path: Path, folder: StudyFolder, study: Study) -> None:
    """The source of a line is words about it; who confirms an interval with the PDF may go on."""
    claim(folder, study, POLICY)
    plan(folder, study, "wae-mmd")
    before = path.read_bytes()
    assert claim(folder, with_line(study, "wae_lambda", source="P: confirmed with the PDF"), POLICY) == []
    assert path.read_bytes() == before


def plan(folder: StudyFolder, study: Study, *algorithms: str) -> None:
    runs = [run for algorithm in algorithms for run in plan_runs(study, algorithm, budget=12)]
    pq.write_table(plan_table(runs), folder.plan_file)


def test_a_space_that_moves_a_planned_configuration_is_refused_with_all_differences(
    folder: StudyFolder, study: Study
) -> None:
    claim(folder, study, POLICY)
    plan(folder, study, "wae-mmd")
    moved = with_line(with_line(study, "wae_lambda", high=60), "decoder_variance", low=0.5)
    first, *differences = refusal(folder, moved).split("\n")
    before, after = (s.space.sample("wae-mmd", 0, study.seed)["wae_lambda"] for s in (study, moved))
    assert f"wae-mmd-00000 has wae_lambda {before} and not {after};" in first
    assert str(folder.root) in first
    assert differences == [
        "  space.wae_lambda.high: 50.0 → 60.0",
        "  space.decoder_variance.low: 0.02 → 0.5",
    ]


def test_where_optuna_proposes_wider_means_that_every_planned_configuration_is_allowed(
    folder: StudyFolder, study: Study
) -> None:
    study = replace(study, optuna=Optuna("tpe", None))
    claim(folder, study, POLICY)
    plan(folder, study, "vae")
    assert claim(folder, with_line(study, "decoder_variance", low=0.01), POLICY) == [
        "space.decoder_variance.low: 0.02 → 0.01"
    ]
    planned = planned_runs(folder, study)[0].hyperparameters.decoder_variance
    assert planned is not None
    said = refusal(folder, with_line(study, "decoder_variance", low=0.9, high=1))
    assert f"vae-00000 has decoder_variance {planned}" in said
    assert "space.decoder_variance.low: 0.01 → 0.9" in said


def test_another_search_is_refused(folder: StudyFolder, study: Study) -> None:
    claim(folder, replace(study, optuna=Optuna("tpe", None)), POLICY)
    assert "search.optuna.sampler is 'tpe' there and 'qmc'" in refusal(
        folder, replace(study, optuna=Optuna("qmc", None))
    )
    assert "search is {'optuna': {" in refusal(folder, study)


def test_a_wider_set_is_refused_at_the_first_configuration_that_it_moves(folder: StudyFolder, study: Study) -> None:
    """A larger set keeps the old values, but configuration i may now have another of them."""
    claim(folder, study, POLICY)
    plan(folder, study, "wae-mmd")
    sentence = refusal(folder, with_line(study, "latent_dim", values=[4, 8, 16, 32]))
    assert "space.latent_dim.values: [4, 8, 16] → [4, 8, 16, 32]" in sentence


def test_a_space_that_draws_the_plan_alike_is_wider_and_recorded(
    path: Path, folder: StudyFolder, study: Study
) -> None:
    """The lines of an algorithm that has no runs yet may change, and no longer once they have been drawn from."""
    claim(folder, study, POLICY)
    plan(folder, study, "wae-mmd", "vae")
    before = yaml.safe_load(path.read_text())
    wider = with_line(study, "adversary_learning_rate", high=0.1, at_least="learning_rate", source="P")
    assert claim(folder, wider, POLICY) == [
        "space.adversary_learning_rate.high: 0.01 → 0.1",
        "space.adversary_learning_rate.at_least: None → learning_rate",
    ]
    written = yaml.safe_load(path.read_text())
    assert SearchSpace.from_dict("mine", written["space"]) == wider.space
    assert {key: value for key, value in written.items() if value != before[key]}.keys() == {"space"}
    assert claim(folder, wider, POLICY) == []
    plan(folder, wider, "wae-gan")
    assert "wae-gan-00000 has adversary_learning_rate" in refusal(folder, study)


def test_before_anything_is_planned_the_space_is_free(folder: StudyFolder, study: Study) -> None:
    claim(folder, study, POLICY)
    assert claim(folder, with_line(study, "wae_lambda", high=60), POLICY) == ["space.wae_lambda.high: 50.0 → 60.0"]


def test_a_difference_is_shown_for_the_line_that_has_it(folder: StudyFolder, study: Study) -> None:
    def in_two(high: float, source: str) -> Study:
        data = study.space.as_dict()
        first, second = ({**data["wae_lambda"], "algorithms": [name]} for name in ("wae-mmd", "wae-gan"))
        data["wae_lambda"] = [first, {**second, "high": high, "source": source}]
        return replace(study, space=SearchSpace.from_dict("mine", data))

    claim(folder, in_two(9, "O"), POLICY)
    assert claim(folder, in_two(9, "P"), POLICY) == []
    assert claim(folder, in_two(8, "P"), POLICY) == ["space.wae_lambda.2.high: 9.0 → 8.0"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"just words",
        b"[1, 2]",
        b"study: digits",
        b"study: [unclosed",
        b"a: 1\n\tb: 2",
        b"\xff\xfe\x00binary",
        b"\x00\x01\x02",
        b"made: 2018-02-30",
        b"&a [*a, *a]",
        b"a: &x [b]\nseed: *y",
        b"[" * 500,
    ],
    ids=[
        "empty",
        "words",
        "list",
        "keys",
        "unclosed",
        "tab",
        "binary",
        "control",
        "date",
        "alias",
        "anchor",
        "deep",
    ],
)
def test_a_file_that_is_none_of_ours_is_refused(
    path: Path, folder: StudyFolder, study: Study, content: bytes
) -> None:
    path.write_bytes(content)
    sentence = refusal(folder, study)
    assert str(path) in sentence
    assert len(sentence) < 600
    assert " object at 0x" not in sentence


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir"])
def test_a_foreign_tag_is_refused_and_runs_no_code(path: Path, folder: StudyFolder, study: Study, tag: str) -> None:
    claim(folder, study, POLICY)
    made = path.parent / "made"
    path.write_text(path.read_text() + f"\nextra: {tag} [{str(made)!r}]\n")
    sentence = refusal(folder, study)
    assert str(path) in sentence
    assert " object at 0x" not in sentence
    assert not made.exists()


def test_the_failure_policy_may_change_and_the_file_says_the_last_one(folder: StudyFolder, study: Study) -> None:
    claim(folder, study, POLICY)
    assert claim(folder, study, FailurePolicy(tries=1, worker_deaths=2)) == []
    assert yaml.safe_load(folder.study_file.read_bytes())["failures"] == {"tries": 1, "worker_deaths": 2}


def test_a_folder_that_is_older_than_search_and_scheduler_goes_on(folder: StudyFolder, study: Study) -> None:
    claim(folder, study, POLICY)
    document = yaml.safe_load(folder.study_file.read_bytes())
    del document["search"], document["scheduler"], document["confirms"]
    local(folder.study_file).write_text(yaml.safe_dump(document))
    assert claim(folder, study, POLICY) == []
    assert "scheduler is 'none' there and {'asha': {'reduction': 3.0}}" in refusal(folder, replace(study, asha=3.0))


# --- which code it was


def test_a_source_tree_that_is_not_installed_has_no_version(
    folder: StudyFolder, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_file, "PACKAGES", ("not-installed", "torch"))
    claim(folder, study, POLICY)
    packages = yaml.safe_load(folder.study_file.read_bytes())["packages"]
    assert packages["not-installed"] == "unknown" and packages["torch"] != "unknown"
