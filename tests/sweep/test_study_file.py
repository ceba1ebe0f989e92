"""study.yaml: the same study may go on in its folder, any other is refused, and reading it runs no code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from search_spaces import SearchSpace
from sweep.checks import SettingsError
from sweep.settings import Study
from sweep.study_file import claim


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.yaml"


def refusal(path: Path, study: Study) -> str:
    before = path.read_bytes()
    with pytest.raises(SettingsError) as caught:
        claim(path, study)
    assert path.read_bytes() == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_line(study: Study, name: str, **changes: Any) -> Study:
    data = study.space.as_dict()
    data[name] |= changes
    return replace(study, space=SearchSpace.from_dict(study.space.name, data))


def test_the_file_is_plain_yaml_that_says_all_of_the_study(path: Path, study: Study) -> None:
    claim(path, study)
    written = yaml.safe_load(path.read_text())
    assert (written["study"], written["seed"], written["seeds"]) == ("test", 5, 3)
    assert written["protocol"]["evaluation_steps"] == list(study.protocol.evaluation_steps)
    assert written["protocol"]["width"] == study.protocol.width
    assert SearchSpace.from_dict("mine", written["space"]) == study.space
    assert written["packages"]["torch"]
    assert written["git_commit"]
    assert [file.name for file in path.parent.iterdir()] == ["study.yaml"], "no temporary file stays"


def test_the_same_study_is_accepted_and_the_file_stays_as_it_was(path: Path, study: Study) -> None:
    claim(path, study)
    # Another machine, another commit: still the same study.
    path.write_text(path.read_text().replace("git_commit:", "git_commit: x"))
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    claim(path, replace(study))
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def _protocol(**changes: Any) -> Callable[[Study], Study]:
    return lambda study: replace(study, protocol=replace(study.protocol, **changes))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda study: replace(study, seed=9), "seed is 5 there and 9 in this launch"),
        (lambda study: replace(study, seeds=9), "seeds is 3 there and 9 in this launch"),
        (_protocol(steps=5), "protocol.steps is 4 there and 5 in this launch"),
        (_protocol(fid_samples=2000), "protocol.fid_samples is 200 there and 2000 in this launch"),
        (_protocol(input_noise=0.5), "protocol.input_noise is 0.01 there and 0.5 in this launch"),
        (
            _protocol(steps=7, evaluation_steps=(7,), width=7),
            "protocol.width is 2 there and 7 in this launch",  # the first of three
        ),
        (
            lambda study: with_line(study, "wae_lambda", high=60),
            "space.wae_lambda.high is 50.0 there and 60.0 in this launch",
        ),
        (
            lambda study: with_line(study, "latent_dim", values=[4, 8]),
            "space.latent_dim.values is [4, 8, 16] there and [4, 8] in this launch",
        ),
    ],
    ids=["seed", "seeds", "steps", "fid_samples", "input_noise", "several", "interval", "set"],
)
def test_another_version_of_the_study_is_refused_with_the_first_difference(
    path: Path, study: Study, change: Callable[[Study], Study], named: str
) -> None:
    claim(path, study)
    sentence = refusal(path, change(study))
    assert f": {named};" in sentence
    assert str(path.parent) in sentence
    assert "results" in sentence


def test_a_changed_provenance_of_an_interval_is_no_other_study(path: Path, study: Study) -> None:
    """The source of a line is words about it; who confirms an interval with the PDF may go on."""
    claim(path, study)
    claim(path, with_line(study, "wae_lambda", source="P: confirmed with the PDF"))


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
def test_a_file_that_is_none_of_ours_is_refused(path: Path, study: Study, content: bytes) -> None:
    path.write_bytes(content)
    sentence = refusal(path, study)
    assert str(path) in sentence
    assert len(sentence) < 600
    assert " object at 0x" not in sentence


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir", "!!python/object/new:os.mkdir"])
def test_a_foreign_tag_is_refused_and_runs_no_code(path: Path, study: Study, tag: str) -> None:
    claim(path, study)
    made = path.parent / "made"
    path.write_text(path.read_text() + f"\nextra: {tag} [{str(made)!r}]\n")
    sentence = refusal(path, study)
    assert str(path) in sentence
    assert " object at 0x" not in sentence
    assert not made.exists()
