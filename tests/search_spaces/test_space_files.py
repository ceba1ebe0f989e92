"""Search-space files: every mistake in one is named in one sentence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from search_spaces import SearchSpace, SpaceError, load

VALID = """\
latent_dim: {algorithms: all, distribution: choice, values: [8, 16], source: O}
batch_size: {algorithms: all, distribution: choice, values: [32, 64], source: O}
learning_rate: {algorithms: all, distribution: log_uniform, low: 1.0e-5, high: 1.0e-2, source: O}
adversary_learning_rate: {algorithms: [wae-gan], distribution: fixed, value: 0.1, source: O}
kernel_scale: {algorithms: [wae-mmd], distribution: uniform, low: 1, high: 16, source: O}
wae_lambda: {algorithms: [wae-mmd, wae-gan], distribution: uniform, low: 1, high: 16, source: O}
decoder_variance: {algorithms: [vae], distribution: uniform, low: 0.1, high: 1, source: O}
architecture: {algorithms: all, distribution: fixed, value: plain, source: O}
encoder: {algorithms: [wae-mmd, wae-gan], distribution: fixed, value: stochastic, source: O}
"""


def edited(replacement: str) -> str:
    """VALID with the line of the replacement's key replaced; latent_dim's where it is no such key."""
    key = replacement.split(":")[0]
    replaced = key if f"{key}:" in VALID else "latent_dim"
    rows = VALID.splitlines(keepends=True)
    return "".join(f"{replacement}\n" if row.startswith(f"{replaced}:") else row for row in rows)


def refusal(name_or_path: Any) -> str:
    with pytest.raises(SpaceError) as caught:
        load(name_or_path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def assert_says(message: str, expected: str) -> None:
    """The fragments between the … stand in the message, in this order."""
    rest = message
    for fragment in expected.split(" … "):
        before, found, rest = rest.partition(fragment)
        assert found, f"{fragment!r} is missing in {message!r} after {before!r}"


# A line put into the file, and below it what the sentence must say.
REFUSED = """
latent_dims: {algorithms: all, distribution: choice, values: [8], source: O}
    'latent_dims' is no hyperparameter … did you mean latent_dim … latent_dim, batch_size
8: {algorithms: all, distribution: choice, values: [8], source: O}
    8 is no hyperparameter … allowed are latent_dim
latent_dim: 8
    latent_dim is 8 … mapping
learning_rate: {algorithms: all, distribution: uniform, lo: 1, high: 2, source: O}
    learning_rate … 'lo' … did you mean low … low, high
learning_rate: {algorithms: all, distribution: uniform, low: 1, high: 2, values: [1], source: O}
    learning_rate … 'values' is no key of distribution uniform … low, high
learning_rate: {algorithms: all, distribution: uniform, high: 2, source: O}
    learning_rate lacks low … low, high
learning_rate: {algorithms: all, distribution: fixed, value: 1}
    learning_rate lacks source
learning_rate: {algorithms: all, distribution: fixed, value: 1, source: ' '}
    learning_rate … source is ' ' … text
learning_rate: {algorithms: all, distribution: fixed, value: 1, source: 3}
    learning_rate … source is 3 … text
learning_rate: {algorithms: all, distribtion: fixed, value: 1, source: O}
    learning_rate … distribtion … lacks distribution … choice, uniform, log_uniform, fixed
learning_rate: {algorithms: all, distribution: loguniform, low: 1, high: 2, source: O}
    learning_rate … 'loguniform' … choice, uniform, log_uniform, fixed … did you mean log_uniform
learning_rate: {algorithms: all, distribution: [uniform], low: 1, high: 2, source: O}
    learning_rate … ['uniform'] … choice, uniform, log_uniform, fixed
learning_rate: {algorithms: all, distribution: uniform, low: 2, high: 1, source: O}
    learning_rate … low is 2.0 and high is 1.0 … below
learning_rate: {algorithms: all, distribution: log_uniform, low: 2, high: 2.0, source: O}
    learning_rate … 2.0 … a range of zero width: write distribution: fixed
learning_rate: {algorithms: all, distribution: log_uniform, low: 0, high: 1, source: O}
    learning_rate … low (of log_uniform) is 0 … above 0
learning_rate: {algorithms: all, distribution: log_uniform, low: -0.5, high: 1, source: O}
    learning_rate … low (of log_uniform) is -0.5 … above 0
kernel_scale: {algorithms: [wae-mmd], distribution: uniform, low: -1, high: 1, source: O}
    kernel_scale … low (of uniform) is -1 … above 0
learning_rate: {algorithms: all, distribution: uniform, low: .nan, high: 1, source: O}
    learning_rate … low (of uniform) is nan … finite
learning_rate: {algorithms: all, distribution: uniform, low: 1, high: .inf, source: O}
    learning_rate … high (of uniform) is inf … finite
latent_dim: {algorithms: all, distribution: fixed, value: 010, source: O}
    latent_dim … value is '010' … whole number … read as text: write 10)
latent_dim: {algorithms: all, distribution: fixed, value: 1:30, source: O}
    latent_dim … value is '1:30' … whole number
latent_dim: {algorithms: all, distribution: fixed, value: 0x10, source: O}
    latent_dim … value is '0x10' … whole number
latent_dim: {algorithms: all, distribution: fixed, value: 0b11, source: O}
    latent_dim … value is '0b11' … whole number
latent_dim: {algorithms: all, distribution: fixed, value: 1_6, source: O}
    latent_dim … value is '1_6' … whole number … read as text: write 16)
latent_dim: {algorithms: all, distribution: fixed, value: 1e2, source: O}
    latent_dim … value is 100.0 … whole number
learning_rate: {algorithms: all, distribution: fixed, value: 010.5, source: O}
    learning_rate … value is '010.5' … number … write 10.5)
learning_rate: {algorithms: all, distribution: fixed, value: 1:30.5, source: O}
    learning_rate … value is '1:30.5' … number
learning_rate: {algorithms: all, distribution: fixed, value: -010, source: O}
    learning_rate … value is '-010' … number
learning_rate: {algorithms: all, distribution: fixed, value: 1_000.5, source: O}
    learning_rate … value is '1_000.5' … number
latent_dim: {algorithms: all, distribution: fixed, value: !!int 010, source: O}
    line 1 … not plain YAML … '010' is no decimal number
latent_dim: {algorithms: all, distribution: fixed, value: !!float 1:30, source: O}
    line 1 … not plain YAML … '1:30' is no decimal number
latent_dim: {algorithms: all, distribution: fixed, value: 1000000000, source: O}
    latent_dim … value is 1000000000 … at least 1 and at most 65536
batch_size: {algorithms: all, distribution: choice, values: [32, 65537], source: O}
    batch_size … 65537 … at most 65536
latent_dim: {algorithms: all, distribution: uniform, low: 1, high: 1000000001, step: 1000000000, source: O}
    latent_dim … high (of uniform) is 1000000001 … at most 65536
learning_rate: {algorithms: all, distribution: fixed, value: 1e31, source: O}
    learning_rate … value is 1e+31 … finite number above 0 (from 1e-30 to 1e+30)
learning_rate: {algorithms: all, distribution: fixed, value: 1e-31, source: O}
    learning_rate … value is 1e-31 … finite number above 0 (from 1e-30 to 1e+30)
learning_rate: {algorithms: all, distribution: fixed, value: small, source: O}
    learning_rate … value is 'small' … number
learning_rate: {algorithms: all, distribution: fixed, value: yes, source: O}
    learning_rate … value is True … number
learning_rate: {algorithms: all, distribution: fixed, value: , source: O}
    learning_rate … value is None … number
wae_lambda: {algorithms: [wae-gan, wae-mmd], distribution: choice, values: [1, -1], source: O}
    wae_lambda … values … -1 … above 0
latent_dim: {algorithms: all, distribution: choice, values: [], source: O}
    latent_dim … values is [] … at least one
latent_dim: {algorithms: all, distribution: choice, values: 8, source: O}
    latent_dim … values is 8 … list
latent_dim: {algorithms: all, distribution: choice, values: [8, 16, 8], source: O}
    latent_dim … values has 8 twice … once
wae_lambda: {algorithms: [wae-gan, wae-mmd], distribution: choice, values: [1, 1.0], source: O}
    wae_lambda … values has 1.0 twice … once
latent_dim: {algorithms: all, distribution: choice, values: [8.0], source: O}
    latent_dim … 8.0 … whole number
latent_dim: {algorithms: all, distribution: fixed, value: '8', source: O}
    latent_dim … value is '8' … whole number … write 8)
latent_dim: {algorithms: all, distribution: choice, values: [true], source: O}
    latent_dim … True … whole number
latent_dim: {algorithms: all, distribution: choice, values: [0, 1], source: O}
    latent_dim … 0 … at least 1
batch_size: {algorithms: all, distribution: choice, values: [1, 2], source: O}
    batch_size … 1 … at least 2
latent_dim: {algorithms: all, distribution: uniform, low: 1, high: 9, source: O}
    latent_dim … uniform … whole number … choice or fixed
architecture: {algorithms: all, distribution: log_uniform, low: 1, high: 9, source: O}
    architecture … log_uniform … text … choice or fixed
architecture: {algorithms: all, distribution: choice, values: [50], source: O}
    architecture … 50 … text
encoder: {algorithms: [wae-gan, wae-mmd], distribution: choice, values: [random], source: O}
    encoder … 'random' … deterministic or stochastic
encoder: {algorithms: [wae-gan, wae-mdm], distribution: fixed, value: stochastic, source: O}
    encoder … 'wae-mdm' … [wae-mmd, wae-gan] … did you mean wae-mmd
encoder: {algorithms: [[]], distribution: fixed, value: stochastic, source: O}
    encoder … algorithms has [] … must be [wae-mmd, wae-gan]
encoder: {algorithms: wae-gan, distribution: fixed, value: stochastic, source: O}
    encoder … algorithms is 'wae-gan' … [wae-mmd, wae-gan]
encoder: {algorithms: [vae], distribution: fixed, value: stochastic, source: O}
    encoder … algorithms is ['vae'] … vae does not have … [wae-mmd, wae-gan]
encoder: {algorithms: all, distribution: fixed, value: stochastic, source: O}
    encoder … algorithms is 'all' … vae does not have … [wae-mmd, wae-gan]
latent_dim: {algorithms: [vae, wae-gan], distribution: fixed, value: 8, source: O}
    latent_dim … algorithms is ['vae', 'wae-gan'] … must be all
latent_dim: {algorithms: [], distribution: fixed, value: 8, source: O}
    latent_dim … algorithms is [] … must be all
kernel_scale: {algorithms: [wae-mmd, wae-mmd], distribution: fixed, value: 8, source: O}
    kernel_scale … algorithms is ['wae-mmd', 'wae-mmd'] … [wae-mmd] … once
latent_dim: {algorithms: all, distribution: fixed, value: 8, value: 9, source: O}
    line 1 … 'value' stands twice
latent_dim: {algorithms: all, distribution: fixed, value: !!python/object/apply:os.getcwd [], source: O}
    line 1 … python/object/apply:os.getcwd … refused … plain
latent_dim: {algorithms: all, distribution: fixed, value: !dim 8, source: O}
    line 1 … '!dim' is refused … plain
latent_dim: !!bool maybe
    not plain YAML … 'maybe'
latent_dim: {algorithms: [all
    line 2 … not plain YAML … expected
latent_dim: 2018-02-30
    not plain YAML … day is out of range
? [8]
    line 1 … not plain YAML … unhashable key
"""
CASES = REFUSED.strip().split("\n")


@pytest.mark.parametrize(("line", "expected"), list(zip(CASES[::2], CASES[1::2], strict=True)))
def test_a_mistake_in_a_line_is_named(line: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(edited(line))
    assert_says(refusal(path), f"{path} … {expected.strip()}")


# A line's step and what it says of other lines; algorithms and source are added. Below it what the sentence must say.
RELATIONS = """
kernel_scale: distribution: uniform, low: 1, high: 16, step: 2
    high is 16.0, which steps of 2.0 from 1.0 do not meet: the last below it is 15.0
kernel_scale: distribution: uniform, low: 1, high: 16, step: 20
    step is 20.0 … at most high - low
kernel_scale: distribution: uniform, low: 1, high: 16, step: 1.0e-6
    step is 1e-06 … at least a millionth of high (16.0)
kernel_scale: distribution: uniform, low: 1, high: 16, step: 0
    step is 0 … above 0
kernel_scale: distribution: choice, values: [1, 2], step: 1
    'step' is no key of distribution choice
latent_dim: distribution: uniform, low: 1, high: 9, step: 0.5
    step is 0.5 … whole number
kernel_scale: distribution: uniform, low: 1, high: 9007199254740994, step: 9007199254740993
    high is 9007199254740994.0 … at most 2^53
kernel_scale: when: encoder, distribution: fixed, value: 1
    when is 'encoder' … must name one hyperparameter, such as {latent_dim: [4, 8]}
kernel_scale: when: {latent_dim: 8, encoder: stochastic}, distribution: fixed, value: 1
    when is {'encoder': 'stochastic', 'latent_dim': 8} … must name one hyperparameter
kernel_scale: when: {latent_dims: 8}, distribution: fixed, value: 1
    when names 'latent_dims' … did you mean latent_dim
kernel_scale: when: {latent_dim: small}, distribution: fixed, value: 1
    when: latent_dim: one is 'small' … whole number
kernel_scale: when: {latent_dim: []}, distribution: fixed, value: 1
    when: latent_dim is [] … at least one value
kernel_scale: when: {latent_dim: 8}, distribution: fixed, value: 1
    there are 0 lines for wae-mmd where latent_dim is 16, and there must be one
kernel_scale: when: {latent_dim: [8, 16, 32]}, distribution: fixed, value: 1
    when names latent_dim 32, which wae-mmd never has: it is one of 8, 16
kernel_scale: when: {learning_rate: 1}, distribution: fixed, value: 1
    when names learning_rate, which is drawn from an interval, and must name a choice or a fixed value
decoder_variance: when: {encoder: stochastic}, distribution: fixed, value: 1
    when names encoder, which vae does not have
learning_rate: when: {encoder: stochastic}, distribution: fixed, value: 1
    when names encoder … only … latent_dim, batch_size, architecture (what all algorithms share
learning_rate: distribution: fixed, value: 1, at_most: adversary_learning_rate
    at_most names adversary_learning_rate … only … latent_dim, batch_size, architecture (what all
latent_dim: distribution: fixed, value: 8, at_most: batch_size
    at_most names batch_size … which is nothing
batch_size: distribution: fixed, value: 8, at_least: batch_size
    at_least names batch_size … which is latent_dim (
kernel_scale: distribution: fixed, value: 1, at_least: latent_dims
    at_least names 'latent_dims' … did you mean latent_dim
kernel_scale: distribution: fixed, value: 1, at_least: [latent_dim]
    at_least names ['latent_dim'] … one of latent_dim
kernel_scale: distribution: fixed, value: 1, at_least: encoder
    at_least names encoder, and only numbers can be compared
encoder: distribution: fixed, value: stochastic, at_least: latent_dim
    at_least names latent_dim, and only numbers can be compared
kernel_scale: distribution: uniform, low: 1, high: 15, at_least: latent_dim
    for wae-mmd nothing is left of its values from 1.0 to 15.0 where latent_dim is 16: at_least latent_dim
kernel_scale: distribution: uniform, low: 33, high: 40, at_most: batch_size
    for wae-mmd nothing is left of its values from 33.0 to 40.0 where batch_size is 32: at_most batch_size
kernel_scale: distribution: choice, values: [9, 40], at_least: latent_dim, at_most: batch_size
    from 9.0 to 40.0 where latent_dim is 16 and batch_size is 32: at_least latent_dim, at_most batch_size
kernel_scale: distribution: uniform, low: 4, high: 84, step: 40, at_least: latent_dim, at_most: batch_size
    from 4.0 to 84.0 where latent_dim is 16 and batch_size is 32: at_least latent_dim, at_most batch_size
kernel_scale: distribution: fixed, value: 8, at_least: latent_dim, at_most: latent_dim
    at_least and at_most both name latent_dim
"""
RELATION_CASES = RELATIONS.strip().split("\n")
ALGORITHMS = {
    "kernel_scale": "[wae-mmd]",
    "decoder_variance": "[vae]",
    "encoder": "[wae-mmd, wae-gan]",
    "wae_lambda": "[wae-mmd, wae-gan]",
}


@pytest.mark.parametrize(("line", "expected"), list(zip(RELATION_CASES[::2], RELATION_CASES[1::2], strict=True)))
def test_a_relation_that_cannot_hold_is_named(line: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    name, _, rest = line.partition(": ")
    path.write_text(edited(f"{name}: {{algorithms: {ALGORITHMS.get(name, 'all')}, {rest}, source: O}}"))
    assert_says(refusal(path), f"{path}: {name} … {expected.strip()}")


LINE = "{{algorithms: {}, when: {}, distribution: fixed, value: 1, source: O}}"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            [("[wae-mmd, wae-gan]", "{latent_dim: 8}"), ("[wae-mmd, wae-gan]", "{latent_dim: [16, 8]}")],
            "wae_lambda: there are 2 lines for wae-mmd where latent_dim is 8, and there must be one",
        ),
        (
            [("[wae-mmd, wae-gan]", "{latent_dim: 8}"), ("[wae-mmd]", "{latent_dim: 16}")],
            "wae_lambda: there are 0 lines for wae-gan where latent_dim is 16",
        ),
        (
            [("[wae-mmd, wae-gan]", "{latent_dim: [8, 16]}"), ("[wae-mmd]", "{encoder: stochastic}")],
            "wae_lambda: the lines for wae-mmd must either be one, or all have a condition (when) on the same",
        ),
        (
            [("[wae-mmd]", "{latent_dim: 8}"), ("[wae-mmd]", "{latent_dim: 16}")],
            "wae_lambda: the lines are for wae-mmd, and must name each of wae-mmd, wae-gan",
        ),
    ],
    ids=["twice", "missing", "mixed", "one algorithm"],
)
def test_lines_with_conditions_must_share_out_the_cases(
    lines: list[tuple[str, str]], expected: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(edited(f"wae_lambda: [{', '.join(LINE.format(*line) for line in lines)}]"))
    assert_says(refusal(path), f"{path} … {expected}")


def test_what_a_run_costs_has_one_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(edited(f"batch_size: [{LINE.format('all', '{latent_dim: [8, 16]}')}]"))
    assert_says(
        refusal(path), f"{path} … batch_size is a list, and must be one line … costs … equal for all algorithms"
    )


def test_all_mistakes_of_a_file_are_told(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = edited("kernel_scale: {algorithms: [wae-gan], distribution: fixed, value: 1, source: O}")
    text = text.replace("low: 0.1, high: 1,", "low: 1, high: 0.1,").replace("latent_dim", "latent_dims")
    path.write_text(text)
    with pytest.raises(SpaceError) as caught:
        load(path)
    unknown, missing, owner, order = caught.value.sentences
    assert_says(unknown, "'latent_dims' is no hyperparameter … did you mean latent_dim")
    assert_says(missing, "lacks latent_dim")
    assert_says(owner, "kernel_scale: algorithms is ['wae-gan'], but wae-gan does not have this hyperparameter")
    assert_says(order, "decoder_variance: low is 1.0 and high is 0.1, and low must be below high")
    assert str(caught.value).startswith(unknown)
    assert "the first of 4 mistakes" in str(caught.value)


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x], " + ", ".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)  # 10⁹ words once its aliases are spelt out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "holds None … mapping … latent_dim"),
        ("- 1", "holds [1] … mapping"),
        ("bigwae", "holds 'bigwae' … mapping"),
        (VALID[: VALID.index("encoder")], "lacks encoder … latent_dim"),
        (VALID + "latent_dim: 8", "line 10 … 'latent_dim' stands twice"),
        (VALID + "---\n{}", "line 10 … another document"),
        (edited(f"latent_dim: 1{'0' * 5000}"), "not plain YAML … 4300 digits"),
        (VALID.replace("1.0e-5", f"1{'0' * 400}"), "learning_rate: low (of log_uniform) is 1000 … finite"),
        (edited("latent_dim: " + "[" * 1000), "not plain YAML … recursion"),
        (edited("latent_dim: \0"), "not plain YAML … #x0000"),
        (edited("latent_dim: {distribution: {" + BOMB + "}}"), "latent_dim: distribution is {'a': ['x', 'x'"),
    ],
    ids=lambda text: text[-20:],
)
def test_a_file_that_is_no_search_space(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    message = refusal(path)
    assert_says(message, f"{path} … {expected}")
    assert len(message) < len(str(path)) + 1000


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bigwea", "'bigwea' … did you mean bigwae … bigwae, digits"),
        ("configs/digit.yaml", "'configs/digit.yaml' … did you mean digits … bigwae, digits"),
        ("configs/digits", "'configs/digits' … bigwae, digits"),
        ("/", "'/' … directory"),
        ("", "'' … bigwae, digits"),
        ("BIGWAEX", "'BIGWAEX' … bigwae, digits"),
        ("..", "'..' … bigwae, digits"),
        ("a" * 300, "aaa … too long … bigwae, digits"),
        (3, "3 … name or the path"),
    ],
)
def test_a_space_that_is_not_there(asked: object, expected: str) -> None:
    assert_says(refusal(asked), expected)


@pytest.mark.parametrize("stem", ["My space", "-a", "_a", "a.b", "ä", "a\n"])
def test_a_name_that_cannot_be_a_folders(stem: str, tmp_path: Path) -> None:
    (tmp_path / f"{stem}.yaml").write_text(VALID)
    with pytest.raises(SpaceError, match=r"a-z, 0-9, _ and -"):
        load(tmp_path / f"{stem}.yaml")
    with pytest.raises(SpaceError, match=r"a-z, 0-9, _ and -"):
        SearchSpace.from_dict(stem, load("digits").as_dict())


def without(key: str) -> dict[str, Any]:
    data: dict[str, Any] = yaml.safe_load(VALID)
    del data[key]
    return data


def test_an_algorithm_that_no_line_names_is_left_out() -> None:
    space = SearchSpace.from_dict("mine", without("decoder_variance"))
    assert space.algorithms == ("wae-mmd", "wae-gan")
    assert {line.algorithms for line in space.hyperparameters if line.name == "latent_dim"} == {space.algorithms}
    with pytest.raises(SpaceError, match=r"algorithm is 'vae', and must be one of wae-mmd, wae-gan$"):
        space.sample("vae", 0, 0)


def test_an_algorithm_that_one_line_names_needs_all_of_its_lines() -> None:
    with pytest.raises(SpaceError, match=r"lacks kernel_scale, and each of latent_dim, .* must have its line"):
        SearchSpace.from_dict("mine", without("kernel_scale"))
    data = without("decoder_variance")
    data["latent_dim"]["algorithms"] = ["wae-mmd", "wae-gan", "vae"]
    with pytest.raises(SpaceError, match="lacks decoder_variance"):
        SearchSpace.from_dict("mine", data)


def test_a_line_for_no_algorithm_is_refused() -> None:
    data = yaml.safe_load(VALID)
    data["decoder_variance"]["algorithms"] = []
    with pytest.raises(SpaceError, match=r"decoder_variance: algorithms is \[\], and must be \[vae\]"):
        SearchSpace.from_dict("mine", data)


def test_the_file_before_the_mistakes_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(VALID)
    assert load(path).name == "mine"


def test_from_dict_names_the_space() -> None:
    data = load("digits").as_dict()
    data["latent_dim"]["values"] = [0]
    with pytest.raises(SpaceError, match=r"'mine'.*latent_dim.*0.*at least 1"):
        SearchSpace.from_dict("mine", data)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-5", 1e-5),
        ("1.0e5", 1e5),
        ("1E+2", 100.0),
        (".5", 0.5),
        ("2.", 2.0),
        ("+3", 3.0),
        ("3", 3.0),
        ("0.010", 0.01),
    ],
)
def test_a_number_is_what_it_looks_like(written: str, value: float, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(edited(f"learning_rate: {{algorithms: all, distribution: fixed, value: {written}, source: O}}"))
    [line] = [line for line in load(path).hyperparameters if line.name == "learning_rate"]
    assert line.distribution.support == (value,) and type(line.distribution.support[0]) is float


@pytest.mark.parametrize("word", ["010", "1:30", "0x10", "1_6"])
def test_what_looks_like_no_number_may_be_a_text(word: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(edited(f"architecture: {{algorithms: all, distribution: fixed, value: {word}, source: O}}"))
    [line] = [line for line in load(path).hyperparameters if line.name == "architecture"]
    assert line.distribution.support == (word,)


@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "link"])
def test_a_pipe_or_a_device_is_refused_and_not_waited_for(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    assert_says(refusal("/dev/zero" if kind == "/dev/zero" else path), "is a pipe or a device, and must be a file")


def test_a_folder_or_a_huge_file_is_no_space(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    assert_says(refusal(tmp_path / "folder.yaml"), "cannot be read: Is a directory")
    with (tmp_path / "huge.yaml").open("wb") as file:
        file.truncate(10 * 2**30)
    assert_says(refusal(tmp_path / "huge.yaml"), "is larger than 262144 bytes")


def test_a_choice_and_a_list_of_lines_have_an_end() -> None:
    """Each value is compared with every other one: 300,000 took hours."""
    data = load("digits").as_dict()
    data["wae_lambda"] |= {"distribution": "choice", "values": list(range(1, 300_001))}
    del data["wae_lambda"]["low"], data["wae_lambda"]["high"]
    with pytest.raises(SpaceError, match=r"wae_lambda: values are 300000, and must be at most 1000"):
        SearchSpace.from_dict("mine", data)
    data["wae_lambda"]["values"] = list(range(1, 1001))
    assert len(SearchSpace.from_dict("mine", data).as_dict()["wae_lambda"]["values"]) == 1000
    data["kernel_scale"] = [data["kernel_scale"]] * 1001
    with pytest.raises(SpaceError, match=r"kernel_scale has 1001 lines, and must have at most 1000"):
        SearchSpace.from_dict("mine", data)
