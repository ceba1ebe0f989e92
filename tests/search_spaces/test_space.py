"""What a search space draws: always inside, distributed as declared, equal wherever it is asked for again."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from scipy import stats

import search_spaces
from search_spaces import SearchSpace, SpaceError, load
from search_spaces.distributions import Distribution, LogUniform
from wae_core.domains import Value

FOLDER = Path(search_spaces.__file__).parent
# A space of the tests' own: the shipped intervals may be corrected without touching a test.
TEXT = """\
latent_dim: {algorithms: all, distribution: choice, values: [8, 16, 32], source: O}
batch_size: {algorithms: all, distribution: fixed, value: 64, source: O}
learning_rate: {algorithms: all, distribution: log_uniform, low: 1.0e-5, high: 1.0e-2, source: O}
adversary_learning_rate: {algorithms: [wae-gan], distribution: fixed, value: 1, source: O}
kernel_scale: {algorithms: [wae-mmd], distribution: uniform, low: 1, high: 16, source: O}
wae_lambda: {algorithms: [wae-gan, wae-mmd], distribution: choice, values: [1, 10.5], source: O}
decoder_variance: {algorithms: [vae], distribution: uniform, low: 0.01, high: 1, source: O}
architecture: {algorithms: all, distribution: choice, values: [plain, deep], source: O}
encoder:
  {algorithms: [wae-mmd, wae-gan], distribution: choice, values: [deterministic, stochastic], source: P}
"""


@pytest.fixture
def data() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(TEXT)
    return loaded


@pytest.fixture
def space(data: dict[str, Any]) -> SearchSpace:
    return SearchSpace.from_dict("mine", data)


def test_whole_numbers_in_the_file_are_real_numbers_where_the_hyperparameter_is(space: SearchSpace) -> None:
    drawn = [space.sample("wae-gan", index, study_seed=0) for index in range(20)]
    assert {type(d["adversary_learning_rate"]) for d in drawn} == {float}
    assert {(type(d["wae_lambda"]), d["wae_lambda"]) for d in drawn} == {(float, 1.0), (float, 10.5)}


def expected_u(study_seed: int, name: str, index: int) -> float:
    """The stream written down a second time: 14 hex digits are 56 bits, of which the top 53 stay."""
    digits = hashlib.sha256(b"%d/%s/%d" % (study_seed, name.encode(), index)).hexdigest()
    return (int(digits[:14], 16) >> 3) / 2**53


@pytest.mark.parametrize("study_seed", [0, 7, -3, 2**70])
def test_draws_follow_the_declared_formula(space: SearchSpace, study_seed: int) -> None:
    for index in (0, 1, 2, 699, 700, 10**12):
        wae, vae = (space.sample(algorithm, index, study_seed) for algorithm in ("wae-mmd", "vae"))
        assert wae["latent_dim"] == [8, 16, 32][int(3 * expected_u(study_seed, "latent_dim", index))]
        assert wae["encoder"] == (
            "stochastic" if expected_u(study_seed, "encoder", index) >= 0.5 else "deterministic"
        )
        # 10^(3u − 5) and not exp(log …): the 6 digits are the same whichever way the power is computed.
        power = 10 ** (3 * expected_u(study_seed, "learning_rate", index) - 5)
        assert wae["learning_rate"] == float(f"{power:.5e}")
        assert wae["kernel_scale"] == float(f"{1 + 15 * expected_u(study_seed, 'kernel_scale', index):.5e}")
        assert vae["decoder_variance"] == float(
            f"{0.01 + 0.99 * expected_u(study_seed, 'decoder_variance', index):.5e}"
        )


# Computed once with sha256sum and bc, from the formulas, not by the package.
GOLDEN = {
    (0, 0): {"latent_dim": 16, "learning_rate": 7.80933e-5, "kernel_scale": 5.22629, "architecture": "deep"},
    (42, 700): {
        "latent_dim": 32,
        "learning_rate": 3.8781e-3,
        "kernel_scale": 6.99066,
        "architecture": "plain",
    },
}


@pytest.mark.parametrize(("study_seed", "index"), GOLDEN)
def test_golden_values(space: SearchSpace, study_seed: int, index: int) -> None:
    expected = GOLDEN[study_seed, index]
    drawn = space.sample("wae-mmd", index, study_seed)
    assert {key: drawn[key] for key in expected} == expected


FROZEN = json.loads((Path(__file__).parent / "golden" / "draws.json").read_text("utf-8"))


@pytest.mark.parametrize("name", FROZEN)
def test_the_first_versions_of_the_shipped_spaces_draw_what_they_drew(name: str) -> None:
    """Bit for bit, as of the first release: `declared` is a copy, so that a shipped interval may be corrected."""
    frozen = SearchSpace.from_dict(name, FROZEN[name]["declared"])
    assert frozen.as_dict() == FROZEN[name]["declared"]
    for coordinates, expected in FROZEN[name]["draws"].items():
        algorithm, index, study_seed = coordinates.split("/")
        drawn = frozen.sample(algorithm, int(index), int(study_seed))
        assert drawn == expected
        assert [type(value) for value in drawn.values()] == [type(expected[key]) for key in drawn]


@pytest.fixture
def related(data: dict[str, Any]) -> SearchSpace:
    """A rate that is at least another's, an interval by case, whole numbers and decimals on grids."""
    rate = {"algorithms": ["wae-gan"], "distribution": "log_uniform", "low": 1e-4, "high": 1e-1, "source": "O"}
    scale = {"algorithms": ["wae-mmd"], "distribution": "uniform", "source": "O"}
    data["adversary_learning_rate"] = rate | {"at_least": "learning_rate"}
    data["kernel_scale"] = [
        scale | {"when": {"latent_dim": [8, 16]}, "low": 1, "high": 4},
        scale | {"when": {"latent_dim": 32}, "low": 20, "high": 30},
    ]
    data["batch_size"] |= {"distribution": "log_uniform", "low": 8, "high": 32, "step": 8}
    del data["batch_size"]["value"]
    data["decoder_variance"] |= {"low": 0.1, "high": 0.5, "step": 0.1}
    return SearchSpace.from_dict("related", data)


DRAWN = 2000


@pytest.mark.parametrize("study_seed", [0, 1])
def test_a_bound_cuts_the_distribution_where_the_other_value_lies(related: SearchSpace, study_seed: int) -> None:
    """P(X ≤ x | X ≥ y) of log-uniform X is (log x − log y) / (log high − log y), whatever y is: uniform on [0, 1]."""
    drawn = [related.sample("wae-gan", index, study_seed) for index in range(DRAWN)]
    pairs = [(float(d["adversary_learning_rate"]), max(1e-4, float(d["learning_rate"]))) for d in drawn]
    quantiles = [math.log(rate / least) / math.log(0.1 / least) for rate, least in pairs]
    assert stats.kstest(quantiles, "uniform").pvalue > 0.01
    assert {d["learning_rate"] for d in drawn} == {
        related.sample("vae", index, study_seed)["learning_rate"] for index in range(DRAWN)
    }


def test_a_bound_leaves_a_draw_from_which_it_takes_nothing(related: SearchSpace, data: dict[str, Any]) -> None:
    """A referent below the interval does not move the draw, so a bound changes only what it binds."""
    free = copy.deepcopy(data)
    del free["adversary_learning_rate"]["at_least"]
    unbound = SearchSpace.from_dict("free", free)
    pairs = [(related.sample("wae-gan", index, 0), unbound.sample("wae-gan", index, 0)) for index in range(300)]
    below = [(bound, free) for bound, free in pairs if float(bound["learning_rate"]) <= 1e-4]
    assert 50 < len(below) < 150
    assert all(bound == free for bound, free in below)


@pytest.mark.parametrize("study_seed", [0, 1])
def test_each_case_has_the_distribution_of_its_line(related: SearchSpace, study_seed: int) -> None:
    drawn = [related.sample("wae-mmd", index, study_seed) for index in range(DRAWN)]
    small = [d["kernel_scale"] for d in drawn if d["latent_dim"] != 32]
    large = [d["kernel_scale"] for d in drawn if d["latent_dim"] == 32]
    assert stats.kstest(small, stats.uniform(1, 3).cdf).pvalue > 0.01
    assert stats.kstest(large, stats.uniform(20, 10).cdf).pvalue > 0.01


@pytest.mark.parametrize("study_seed", [0, 1])
def test_a_grid_has_the_weights_of_its_cells(related: SearchSpace, study_seed: int) -> None:
    """Uniform: equal; log-uniform: the logarithm of (value + step) / value."""
    drawn = [related.sample("vae", index, study_seed) for index in range(DRAWN)]
    variances = [d["decoder_variance"] for d in drawn]
    assert set(variances) == {0.1, 0.2, 0.3, 0.4, 0.5}  # and not 0.30000000000000004
    assert stats.chisquare([variances.count(v) for v in (0.1, 0.2, 0.3, 0.4, 0.5)]).pvalue > 0.01
    sizes = [d["batch_size"] for d in drawn]
    assert {(type(size), size) for size in sizes} == {(int, 8), (int, 16), (int, 24), (int, 32)}
    expected = [DRAWN * math.log((size + 8) / size) / math.log(40 / 8) for size in (8, 16, 24, 32)]
    assert stats.chisquare([sizes.count(size) for size in (8, 16, 24, 32)], expected).pvalue > 0.01


def test_a_step_is_compared_in_decimals(data: dict[str, Any]) -> None:
    """In binary 0.3 − 0.1 is less than 0.2."""
    data["decoder_variance"] |= {"low": 0.1, "high": 0.3, "step": 0.2}
    space = SearchSpace.from_dict("mine", data)
    assert {space.sample("vae", index, 0)["decoder_variance"] for index in range(50)} == {0.1, 0.3}


def test_a_bound_on_a_grid_keeps_to_its_values(data: dict[str, Any]) -> None:
    data["batch_size"] = {"algorithms": "all", "distribution": "choice", "values": [31, 56], "source": "O"}
    grid = {"distribution": "uniform", "low": 5, "high": 65, "step": 10}
    data["kernel_scale"] |= grid | {"at_most": "batch_size", "at_least": "latent_dim"}
    data["latent_dim"]["values"] = [14, 15]
    space = SearchSpace.from_dict("grid", data)
    drawn = [space.sample("wae-mmd", index, 0) for index in range(200)]
    assert {(d["batch_size"], d["kernel_scale"]) for d in drawn} == {
        *((31, scale) for scale in (15.0, 25.0)),
        *((56, scale) for scale in (15.0, 25.0, 35.0, 45.0, 55.0)),
    }


def test_another_choice_of_values_gets_the_same_distributions(related: SearchSpace) -> None:
    """What an adaptive search proposes from: each hyperparameter once, after those that it depends on."""
    asked: dict[str, Distribution] = {}

    def lowest(name: str, distribution: Distribution) -> Value:
        assert name not in asked
        asked[name] = distribution
        return min(distribution.support)

    values = related.configure("wae-gan", lowest)
    assert list(values) == [h.name for h in related.hyperparameters if "wae-gan" in h.algorithms]
    assert list(asked)[:4] == ["latent_dim", "batch_size", "architecture", "learning_rate"]
    assert asked["adversary_learning_rate"] == LogUniform(1e-4, 1e-1)
    assert values["adversary_learning_rate"] == 1e-4


@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_another_process_draws_the_same_and_imports_no_heavy_library(hash_seed: str) -> None:
    code = (
        "import sys, search_spaces; print(search_spaces.load('bigwae').sample('wae-gan', 9, 4));"
        "print([m for m in ('torch', 'numpy', 'ray', 'sweep', 'matplotlib') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(load("bigwae").sample("wae-gan", 9, 4)), "[]"]


REAL = {
    "learning_rate": ("vae", stats.loguniform(1e-5, 1e-2)),
    "kernel_scale": ("wae-mmd", stats.uniform(1, 15)),
    "decoder_variance": ("vae", stats.uniform(0.01, 0.99)),
}
CHOSEN: dict[str, list[Any]] = {
    "latent_dim": [8, 16, 32],
    "wae_lambda": [1, 10.5],
    "architecture": ["plain", "deep"],
}


@pytest.mark.parametrize("study_seed", [0, 1])
@pytest.mark.parametrize("key", REAL)
def test_real_draws_follow_their_distribution(space: SearchSpace, key: str, study_seed: int) -> None:
    algorithm, distribution = REAL[key]
    drawn = [space.sample(algorithm, index, study_seed)[key] for index in range(2000)]
    assert stats.kstest(drawn, distribution.cdf).pvalue > 0.01


@pytest.mark.parametrize("study_seed", [0, 1])
@pytest.mark.parametrize("key", CHOSEN)
def test_choices_are_equally_frequent(space: SearchSpace, key: str, study_seed: int) -> None:
    drawn = [space.sample("wae-mmd", index, study_seed)[key] for index in range(2000)]
    assert set(drawn) == set(CHOSEN[key])
    assert stats.chisquare([drawn.count(value) for value in CHOSEN[key]]).pvalue > 0.01


def test_hyperparameters_indices_and_study_seeds_have_separate_streams(space: SearchSpace) -> None:
    drawn = [space.sample("wae-mmd", index, study_seed=0) for index in range(2000)]
    other_seed = [space.sample("wae-mmd", index, study_seed=1)["learning_rate"] for index in range(2000)]
    rates = [d["learning_rate"] for d in drawn]
    assert len(set(rates)) > 1990  # 6 digits: a few of 2,000 may meet
    for other in ([d["kernel_scale"] for d in drawn], other_seed, [*rates[1:], rates[0]]):
        assert stats.spearmanr(rates, other).pvalue > 0.01


def test_as_dict_shares_nothing_with_the_space(space: SearchSpace) -> None:
    before = copy.deepcopy(space)
    space.as_dict()["latent_dim"]["values"].append(7)
    assert space == before


SHIPPED = {
    "latent_dim": "choice",
    "batch_size": "choice",
    "learning_rate": "log_uniform",
    "adversary_learning_rate": "log_uniform",
    "kernel_scale": "uniform",
    "wae_lambda": "uniform",
    "decoder_variance": "uniform",
    "architecture": "choice",
    "encoder": "choice",
}
OF_DIGITS = dict.fromkeys(("kernel_scale", "wae_lambda", "decoder_variance"), "log_uniform") | {
    "architecture": "fixed"
}


@pytest.mark.parametrize(("name", "differences"), [("bigwae", {}), ("digits", OF_DIGITS)])
def test_shipped_spaces_declare_their_distributions_and_sources(name: str, differences: dict[str, str]) -> None:
    space = load(name)
    assert space.name == name
    papers = [h for h in space.hyperparameters if set(h.algorithms) & {"wae-mmd", "wae-gan", "vae"}]
    assert {h.name: h.distribution.name for h in papers} == SHIPPED | differences
    assert all(h.source[0] in ("O" if name == "digits" else "PO") for h in space.hyperparameters)


def test_one_edited_line_corrects_one_interval(tmp_path: Path) -> None:
    rows = (FOLDER / "bigwae.yaml").read_text("utf-8").splitlines(keepends=True)
    [row] = [row for row in rows if row.startswith("wae_lambda:")]
    corrected = "wae_lambda: {algorithms: [wae-gan, wae-mmd], distribution: uniform, low: 2, high: 3, source: P}\n"
    path = tmp_path / "bigwae.yaml"
    path.write_text("".join(rows).replace(row, corrected), "utf-8")
    pairs = zip(load(path).hyperparameters, load("bigwae").hyperparameters, strict=True)
    assert [new.name for new, shipped in pairs if new != shipped] == ["wae_lambda"]


def test_a_name_is_shipped_and_a_path_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bigwae.yaml").write_bytes((FOLDER / "digits.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    assert load("bigwae") == load(FOLDER / "bigwae.yaml")
    assert load("bigwae.yaml") == load("./bigwae.yaml") == load(tmp_path / "bigwae.yaml")
    assert load("bigwae.yaml").hyperparameters == load("digits").hyperparameters
    (tmp_path / "mine").write_text(TEXT)
    assert load("./mine").name == "mine"
    with pytest.raises(SpaceError, match=r"'mine' cannot be read.*bigwae, digits"):
        load("mine")


@pytest.mark.parametrize(
    ("algorithm", "index", "study_seed", "sentence"),
    [
        ("wae_mmd", 0, 0, r"algorithm is 'wae_mmd'.*wae-mmd, wae-gan, vae.*did you mean wae-mmd"),
        (None, 0, 0, r"algorithm is None.*wae-mmd, wae-gan, vae"),
        ("vae", -1, 0, r"index is -1.*at least 0"),
        ("vae", 1.0, 0, r"index is 1\.0.*whole number"),
        ("vae", True, 0, r"index is True.*whole number"),
        ("vae", 0, "0", r"study_seed is '0'.*whole number"),
        ("vae", 0, False, r"study_seed is False.*whole number"),
    ],
)
def test_a_question_that_has_no_answer_is_refused(
    space: SearchSpace, algorithm: Any, index: Any, study_seed: Any, sentence: str
) -> None:
    with pytest.raises(SpaceError, match=sentence):
        space.sample(algorithm, index, study_seed)
