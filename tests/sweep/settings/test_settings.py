"""key=value words: what is good becomes one typed object, everything else one sentence that names it."""

from __future__ import annotations

import contextlib
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import search_spaces
from search_spaces import SpaceError
from sweep.errors import SettingsError
from sweep.settings import words
from sweep.settings.compose import load_settings
from sweep.settings.settings import Cluster, Optuna, Settings
from sweep.settings.words import CONF, studies

# The words of Hydra, OmegaConf, ANTLR and Python: a user of a sweep need not know them.
JARGON = re.compile(
    r"default.?s? list|struct\b|overrid|interpolation|full_key|object_type|hydra|omegaconf"
    r"|token recognition|viable|extraneous|mismatched input|<EOF>|traceback|error\(|raised",
    re.IGNORECASE,
)


def refusal(*words: str) -> str:
    """The one sentence with which the words are refused."""
    with pytest.raises((SettingsError, SpaceError)) as caught:
        load_settings(words)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert not re.search(r"[.;!?] [A-Z]", sentence), f"more than one sentence: {sentence}"
    without_words = sentence.replace(words[-1].strip(), "").replace(words[-1].partition("=")[0], "")
    assert not JARGON.search(without_words), sentence
    return sentence


# word: what its refusal names — the key, the value, what is allowed.
REFUSED = {
    # one of a list
    "alg=wae-mdm": ["alg", "'wae-mdm'", "wae-mmd", "wae-gan", "vae", "all"],
    "alg=": ["alg", "wae-mmd"],
    "alg=null": ["alg", "wae-mmd"],
    "study=digit": ["study", "'digit'", "'digits'"],
    "study=../x": ["study", "'../x'", "digits"],
    "study=": ["study", "digits"],
    "study=null": ["study", "digits"],
    "study={a:1}": ["study", "digits"],
    "cluster=locl": ["cluster", "'locl'", "local"],
    "cluster=null": ["cluster", "gpu", "local", "tpu"],
    "cluster.device=gpu": ["cluster.device", "'gpu'", "cpu", "cuda", "xla"],
    "search=tpe": ["search", "'tpe'", "random", "optuna"],
    "optuna.sampler=qmc": ["'optuna.sampler=qmc'", "search is 'random'", "search=optuna"],
    "optuna.storage=x": ["'optuna.storage=x'", "search=optuna"],
    "scheduler=hyperband": ["scheduler", "'hyperband'", "none", "asha"],
    "asha.reduction=2": ["'asha.reduction=2'", "scheduler is 'none'", "scheduler=asha"],
    "optuna.samplr=qmc": ["'optuna.samplr'", "did you mean 'optuna.sampler'"],
    "optuna=tpe": ["'optuna'", "did you mean 'optuna."],
    "retry=all": ["retry", "'all'", "none", "failed"],
    "dry_run=maybe": ["dry_run", "'maybe'", "true", "false"],
    "study.precision=float16": ["study.precision", "'float16'", "float32", "tf32", "bfloat16"],
    "cluster.pack_size=0": ["cluster.pack_size", "0"],
    "study.vae_likelihood=laplace": ["study.vae_likelihood", "'laplace'", "gaussian", "bernoulli"],
    "study.log_prior=0": ["study.log_prior", "0", "true", "false"],
    "dry_run=1": ["dry_run", "1", "true", "false"],
    # keys
    "budgte=3": ["'budgte'", "did you mean 'budget'"],
    "xyzzy=red": ["'xyzzy'", "alg", "budget", "results", "search", "space", "study.steps"],
    "study.stps=3": ["'study.stps'", "did you mean 'study.steps'"],
    "study@x=digits": ["study@x", "did you mean 'study'"],
    "hydra.run.dir=x": ["'hydra.run.dir'", "is one of", "budget"],
    "defaults=x": ["'defaults'"],
    "=3": ["''", "budget"],
    "budget": ["'budget'", "key=value"],
    "--multirun": ["'--multirun'", "key=value"],
    "~budget": ["'~budget'", "key=value"],
    "~budget=3": ["'~budget'", "did you mean 'budget'"],
    "++budget=3": ["'++budget'", "did you mean 'budget'"],
    "+x=1": ["'+x'", "budget"],
    "confirm_seeds=3": ["'confirm_seeds=3'", "confirm is null", "confirm=10"],
    # whole numbers
    "confirm=0": ["confirm", "0", "at least 1"],
    "confirm=-1": ["confirm", "-1", "at least 1"],
    "confirm=1.5": ["confirm", "1.5", "whole number"],
    "confirm=all": ["confirm", "'all'", "whole number"],
    "confirm=2": ["confirm is 2", "at most 1", "budget of 3"],
    "budget=2": ["budget", "2", "at least 3", "3 a configuration"],
    "budget=-3": ["budget", "-3", "at least 3"],
    "budget=abc": ["budget", "'abc'", "whole number"],
    "budget=3.5": ["budget", "3.5", "whole number"],
    "budget=1e3": ["budget", "whole number"],
    "budget=true": ["budget", "whole number"],
    "budget=": ["budget", "''", "whole number"],
    "budget='3'": ["budget", "'3'", "whole number"],
    "budget=???": ["budget", "whole number"],
    "budget=[1,2]": ["budget", "[1, 2]", "whole number"],
    "budget=1,2": ["'budget=1,2'", "budget takes one"],
    "budget=range(3,9)": ["'budget=range(3,9)'", "budget takes one"],
    "cluster.workers=0": ["cluster.workers", "0", "at least 1"],
    "cluster.accelerators_per_run=0": ["cluster.accelerators_per_run", "0", "at least 1"],
    # batches of 16 and 32, and of 100 in pre-training, are cut into equal parts
    "cluster.accelerators_per_run=8": [
        "cluster.accelerators_per_run is 8",
        "study.pretraining_images=100",
        "1, 2, 4",
    ],
    "cluster.gpus_per_worker=-1": ["cluster.gpus_per_worker", "-1", "at least 0"],
    "study.seeds=0": ["study.seeds", "0", "at least 1"],
    "study.width=true": ["study.width", "at least 1"],
    "study.seed=-1": ["study.seed", "-1", "at least 0"],
    "study.steps=0": ["study.steps", "0", "at least 1"],
    "study.fid_samples=x": ["study.fid_samples", "'x'", "at least 4"],
    # of each half of them a covariance is taken, for fid_infinity
    "study.fid_samples=3": ["study.fid_samples", "3", "at least 4"],
    # the covariance of one image is not a number
    "study.pretraining_images=1": ["study.pretraining_images", "1", "at least 2"],
    # numbers
    "cluster.teraflops=0": ["cluster.teraflops", "0", "above 0"],
    "cluster.teraflops=fast": ["cluster.teraflops", "'fast'", "above 0"],
    "study.prior_variance=0": ["study.prior_variance", "0", "above 0"],
    "study.prior_variance=nan": ["study.prior_variance", "nan", "above 0"],
    "study.cost_scale=inf": ["study.cost_scale", "inf", "above 0"],
    "study.cost_scale=true": ["study.cost_scale", "above 0"],
    "study.input_noise=-0.1": ["study.input_noise", "-0.1", "at least 0"],
    # one bound a kind: what is beyond it would overflow, or take all memory
    "study.steps=9223372036854775808": ["study.steps", "9223372036854775808", "at most 1000000000"],
    "study.pretraining_steps=1000000001": ["study.pretraining_steps", "at most 1000000000"],
    "study.width=1000000000": ["study.width", "1000000000", "at most 65536"],
    "study.pretraining_images=65537": ["study.pretraining_images", "at most 65536"],
    "study.fid_samples=1000000000000": ["study.fid_samples", "1000000000000", "at most 1000000"],
    "study.evaluation_images=1000001": ["study.evaluation_images", "at most 1000000"],
    "study.seed=9223372036854775808": ["study.seed", "at most 9223372036854775807"],
    "study.seeds=1000000001": ["study.seeds", "at most 1000000000"],
    "budget=1000001": ["budget", "1000001", "at most 1000000"],
    "cluster.workers=1000000001": ["cluster.workers", "at most 1000000000"],
    "cluster.cpus_per_worker=1000000001": ["cluster.cpus_per_worker", "at most 1000000000"],
    "cluster.pack_size=1000000001": ["cluster.pack_size", "at most 1000000000"],
    "checkpoint_steps=1000000001": ["checkpoint_steps", "at most 1000000000"],
    "keep_best=1000000001": ["keep_best", "at most 1000000000"],
    "failures.tries=1000000001": ["failures.tries", "at most 1000000000"],
    "failures.worker_deaths=1000000001": ["failures.worker_deaths", "at most 1000000000"],
    "cluster.teraflops=1e31": ["cluster.teraflops", "1e+31", "from 1e-30 to 1e+30"],
    "cluster.teraflops=1e-31": ["cluster.teraflops", "1e-31", "from 1e-30 to 1e+30"],
    "study.prior_variance=1e300": ["study.prior_variance", "1e+300", "from 1e-30 to 1e+30"],
    "study.cost_scale=1e-300": ["study.cost_scale", "1e-300", "from 1e-30 to 1e+30"],
    "study.input_noise=1e31": ["study.input_noise", "1e+31", "at most 1e+30"],
    "study.learning_rate_drops=[[1000000001,2]]": ["study.learning_rate_drops", "at most 1000000000"],
    "study.learning_rate_drops=[[1,1e300]]": ["study.learning_rate_drops", "1e+300", "from 1e-30 to 1e+30"],
    f"study.evaluation_steps={[*range(1, 1002)]}".replace(" ", ""): ["study.evaluation_steps", "1001 items", "1000"],
    f"budget=1{'0' * 5000}": ["budget", "cannot be read"],
    # lists
    "study.evaluation_steps=[3,2]": ["study.evaluation_steps", "[3, 2]", "ascend", "study.steps ("],
    "study.evaluation_steps=[300,300]": ["study.evaluation_steps", "[300, 300]", "ascend"],
    "study.evaluation_steps=[50]": ["study.evaluation_steps", "[50]", "end with study.steps ("],
    "study.evaluation_steps=[]": ["study.evaluation_steps", "[]", "study.steps ("],
    "study.evaluation_steps=300": ["study.evaluation_steps", "300", "list"],
    "study.evaluation_steps=[0,300]": ["study.evaluation_steps", "0", "at least 1"],
    "study.without_batch_norm=vae": ["study.without_batch_norm", "'vae'", "list"],
    "study.without_batch_norm=[vea]": ["study.without_batch_norm", "'vea'", "wae-mmd", "wae-gan", "vae"],
    "study.learning_rate_drops=[30,2]": ["study.learning_rate_drops", "30", "list"],
    "study.learning_rate_drops=[[30]]": ["study.learning_rate_drops", "[[30]]", "epoch", "divisor"],
    "study.learning_rate_drops=[[30,0]]": ["study.learning_rate_drops", "0", "above 0"],
    "study.learning_rate_drops=[[1.5,2]]": ["study.learning_rate_drops", "1.5", "whole number"],
    # names and paths
    "study.dataset=../x": ["study.dataset", "'../x'", "lower-case letters"],
    "study.fid_features=": ["study.fid_features", "''"],
    "study.name=../x": ["study.name", "'../x'", "lower-case letters"],
    "study.name=": ["study.name", "''"],
    "study.name=Digits": ["study.name", "'Digits'", "lower-case letters"],
    "results=": ["results", "''"],
    "results=null": ["results"],
    "data=": ["data", "''"],
    "inception=": ["inception", "''"],
    "space=": ["space", "''"],
    "space=nosuch": ["search space", "'nosuch'", "bigwae", "digits", "path of a YAML file"],
    "space=no/such.yaml": ["search space", "'no/such.yaml'", "No such file"],
    # what cannot be read at all
    "alg='all": ['"alg=\'all"', "cannot be read"],
    "budget=[3": ["'budget=[3'", "cannot be read"],
    "study.evaluation_steps=[50,300": ["study.evaluation_steps=[50,300", "cannot be read"],
    "budget=3]": ["'budget=3]'", "cannot be read"],
    "budget=}": ["'budget=}'", "cannot be read"],
    "alg=ä": ["alg", "ä"],
    "alg=all\n": ["alg"],
    " budget=3": ["' budget=3'"],
    "budget=${alg": ["budget=${alg"],
}


@pytest.mark.slow
@pytest.mark.parametrize("word", REFUSED)
def test_a_bad_word_is_refused_with_its_key_its_value_and_what_is_allowed(word: str) -> None:
    sentence = refusal(word)
    for part in REFUSED[word]:
        assert part in sentence


def test_a_bad_list_is_one_sentence_however_deep_it_is() -> None:
    refusal("study.evaluation_steps=" + "[" * 300 + "]" * 300)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["optuna.quantile=1.5"], ["optuna.quantile", "1.5", "[0, 1]", "null"]),
        (["optuna.quantile=median"], ["optuna.quantile", "'median'", "at least 0"]),
        (["optuna.sampler=null"], ["optuna.sampler", "None"]),
        (["optuna.storage="], ["optuna.storage", "''"]),
        (["results=s3://bucket/x"], ["results", "'s3://bucket/x'", "optuna.storage="]),
    ],
)
def test_a_bad_word_about_optuna_is_refused(words: list[str], named: list[str]) -> None:
    sentence = refusal("search=optuna", *words)
    for part in named:
        assert part in sentence


@pytest.mark.parametrize("value", ["1", "0.5", "null", "nan", "fast", "1.0000001", "inf", "1e31"])
def test_a_bad_reduction_is_refused(value: str) -> None:
    assert "asha.reduction is" in refusal("scheduler=asha", f"asha.reduction={value}")


def test_early_stopping_is_another_study() -> None:
    study = load_settings(["scheduler=asha"]).study
    assert (study.name, study.asha) == ("digits-asha", 3.0)
    words = ["scheduler=asha", "asha.reduction=4", "search=optuna", "space=bigwae"]
    study = load_settings(words).study
    assert (study.name, study.asha) == ("digits-bigwae-optuna-asha", 4.0)
    assert load_settings([]).study.asha is None, "off by default"


def test_optuna_is_another_study_and_says_how_it_proposes() -> None:
    settings = load_settings(["search=optuna", "optuna.sampler=a.B", "optuna.quantile=0.5", "optuna.storage=${x}, y"])
    assert settings.study.name == "digits-optuna"
    assert settings.study.optuna == Optuna("a.B", 0.5)
    assert settings.optuna_storage == Path("${x}, y")
    assert load_settings(["search=optuna"]).study.optuna == Optuna("tpe", None)
    assert load_settings(["search=optuna", "space=bigwae"]).study.name == "digits-bigwae-optuna"
    assert load_settings([]).study.optuna is None


def test_a_budget_below_one_configuration_says_how_many_seeds_that_takes() -> None:
    assert "at least 5 (models per algorithm, 5 a configuration)" in refusal("study.seeds=5", "budget=4")


def test_a_confirmation_is_within_the_bounds_of_budgets_and_of_its_study_s_configurations() -> None:
    settings = load_settings(["budget=30", "confirm=10"])
    assert (settings.confirm, settings.confirm_seeds) == (10, 5)
    assert "confirm is 11, but it is at most 10" in refusal("budget=32", "confirm=11")
    assert "confirm_seeds is 0" in refusal("confirm=1", "confirm_seeds=0")
    assert "at most 3, for 1000000 models" in refusal("budget=999999", "confirm_seeds=4", "confirm=300000")


def test_a_malformed_space_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("latent_dim: {algorithms: all, distribution: choice\n  values: [1")
    assert str(path) in refusal(f"space={path}")


# Paths reach the program from make, unquoted by the shell, and must survive as they are.
PATHS = [
    "plain",
    "/tmp/two words/x",
    "it's here",
    'say "hi"',
    "a=b/c=d",
    "été/μ σ",
    "a,b",
    "[1]",
    "{x}",
    "(copy)",
    "a#b;c:d",
    "100 %",
    "$HOME",
    "3",
    "true",
    "back\\slash",
    "back\\'quote",
    "ends in \\",
    "-x",
    "???",
]


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_any_path_is_a_results_folder(path: str) -> None:
    assert load_settings([f"results={path}"]).results == Path(path)


@pytest.mark.parametrize("path", ["two words", "it's a=b", "[1]"])
def test_any_path_may_hold_the_data_and_the_weights(path: str) -> None:
    settings = load_settings([f"data={path}", f"inception={path}/weights.pth"])
    assert (settings.data, settings.inception) == (Path(path), Path(path) / "weights.pth")


@pytest.mark.parametrize("folder", ["two words", "it's", "a=b", "é"])
def test_a_space_may_be_a_path_and_names_the_study(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    path = tmp_path / folder / "wide.yaml"
    path.write_text((Path(search_spaces.__file__).parent / "digits.yaml").read_text())
    study = load_settings([f"space={path}"]).study
    assert study.name == "digits-wide"
    assert study.space.hyperparameters == search_spaces.load("digits").hyperparameters


def test_another_space_is_another_study_whatever_it_is_called(tmp_path: Path) -> None:
    assert load_settings(["space=digits"]).study.name == "digits"
    assert load_settings(["space=bigwae"]).study.name == "digits-bigwae"
    other = tmp_path / "digits.yaml"
    other.write_text((Path(search_spaces.__file__).parent / "bigwae.yaml").read_text())
    assert load_settings([f"space={other}"]).study.name != "digits"
    with contextlib.suppress(SettingsError):
        assert load_settings(["study.space=bigwae"]).study.name != "digits"


def test_without_a_word_it_is_the_smallest_sweep_of_the_embedded_study() -> None:
    settings = load_settings([])
    assert settings.algorithms == settings.study.space.algorithms
    assert (settings.budget, settings.search, settings.dry_run) == (3, "random", False)
    assert not settings.retry_failed
    assert (settings.results, settings.data, settings.inception) == (Path("results"), Path("data"), None)
    assert (settings.study.name, settings.study.seed, settings.study.seeds) == ("digits", 3, 3)
    assert settings.cluster == Cluster(
        "ray", "cpu", None, cpus_per_worker=1, gpus_per_worker=0, tpus_per_worker=0, pack_size=1, teraflops=0.02
    )
    protocol = settings.study.protocol
    assert protocol.dataset == "digits"
    assert protocol.evaluation_steps[-1] == protocol.steps
    assert isinstance(protocol.prior_variance, float)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cluster=inprocess"], "with cluster.executor=inprocess it is 1"),
        (["cluster=tpu"], "with cluster.device=xla it is 1"),
        (["cluster=gpu", "cluster.pack_size=6"], "cluster.pack_size is 6, but models that share accelerators are"),
        (
            ["study=mnist", "space=paper"],
            "it divides each batch_size of space paper and study.pretraining_images",
        ),
    ],
)
def test_accelerators_that_cannot_share_a_run_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings([*words, "cluster.accelerators_per_run=8"])
    assert "cluster.accelerators_per_run is 8" in str(caught.value) and said in str(caught.value)


def test_accelerators_share_batches_of_which_they_divide_each() -> None:
    assert load_settings(["cluster=gpu", "cluster.accelerators_per_run=4"]).cluster.accelerators_per_run == 4
    words = ["study=bigwae", "cluster=gpu", "cluster.accelerators_per_run=8", "dry_run=true"]
    assert load_settings(words).cluster.accelerators_per_run == 8
    # The pre-training's images count where there is one.
    assert load_settings(["study.pretraining_steps=0", "cluster.accelerators_per_run=16"]).study.seeds == 3


def test_words_reach_their_place_and_the_last_of_two_wins() -> None:
    settings = load_settings(
        [
            "alg=vae",
            "budget=3",
            "budget=12",
            "dry_run=true",
            "retry=failed",
            "cluster=gpu",
            "cluster.workers=4",
            "cluster.teraflops=300",
            "study.seed=7",
            "study.steps=4",
            "study.evaluation_steps=[2,4]",
            "study.prior_variance=2",
            "study.input_noise=0",
            "study.pretraining_steps=0",
            "study.vae_likelihood=bernoulli",
            "study.without_batch_norm=[vae]",
            "study.log_prior=true",
            "study.learning_rate_drops=[[30,2],[50,5]]",
        ]
    )
    assert (settings.algorithms, settings.budget, settings.dry_run) == (("vae",), 12, True)
    assert settings.retry_failed
    assert settings.cluster == Cluster(
        "ray", "cuda", 4, cpus_per_worker=1, gpus_per_worker=1, tpus_per_worker=0, pack_size=None, teraflops=300.0
    )
    assert settings.study.seed == 7
    protocol = settings.study.protocol
    assert (protocol.steps, protocol.evaluation_steps) == (4, (2, 4))
    assert (protocol.prior_variance, protocol.input_noise, protocol.pretraining_steps) == (2.0, 0.0, 0)
    assert (protocol.vae_likelihood, protocol.without_batch_norm, protocol.log_prior) == ("bernoulli", ("vae",), True)
    assert protocol.learning_rate_drops == ((30, 2.0), (50, 5.0))


@pytest.mark.slow
@pytest.mark.parametrize("study", studies())
@pytest.mark.parametrize("cluster", sorted(path.stem for path in (CONF / "cluster").glob("*.yaml")))
def test_every_shipped_study_and_cluster_is_valid(study: str, cluster: str) -> None:
    assert load_settings([f"study={study}", f"cluster={cluster}"]).study.name == study


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("steps: 0600", "steps is '0600', which YAML takes for 384"),
        ("width: 1:30", "width is '1:30', which YAML takes for 90"),
        ("evaluation_steps: [0144, 300]", "evaluation_steps is ['0144', 300], which YAML takes for [100, 300]"),
        ("width: 0x10", "width is '0x10', which YAML takes for 16"),
    ],
)
@pytest.mark.parametrize("chosen", ["mine", "variant"])
def test_a_number_in_a_study_s_file_is_what_it_looks_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chosen: str, line: str, said: str
) -> None:
    """Also in the file that it builds upon."""
    shutil.copytree(CONF, tmp_path / "conf")
    monkeypatch.setattr(words, "CONF", tmp_path / "conf")
    key = line.partition(":")[0]
    text = re.sub(rf"^{key}: .*$", line, (CONF / "study/digits.yaml").read_text(), flags=re.MULTILINE)
    (tmp_path / "conf/study/mine.yaml").write_text(text)
    (tmp_path / "conf/study/variant.yaml").write_text("defaults: [mine, _self_]\nname: variant\n")
    assert f"mine.yaml: {said}: write decimal numbers" in refusal(f"study={chosen}")


@pytest.mark.parametrize("study", studies())
def test_every_study_file_opens_with_its_command_hardware_time_and_expected_score(study: str) -> None:
    opening = (CONF / "study" / f"{study}.yaml").read_text().split("\n#\n")[0]
    assert re.findall(r"^# (\w+): +\S", opening, re.MULTILINE) == ["Command", "Hardware", "Time", "Expect"]
    assert f"STUDY={study} " in opening or study == "digits"  # the default


@pytest.mark.parametrize(
    ("study", "differences"),
    [
        ("mnist_without_noise", {"input_noise": 0.0}),
        ("mnist_without_pretraining", {"pretraining_steps": 0}),
        ("mnist_without_either", {"input_noise": 0.0, "pretraining_steps": 0}),
    ],
)
def test_the_mnist_recipes_differ_in_noise_and_pretraining_alone(study: str, differences: dict[str, Any]) -> None:
    both, other = (load_settings([f"study={name}"]).study for name in ("mnist", study))
    assert both.protocol.input_noise > 0 and both.protocol.pretraining_steps > 0
    assert other == replace(both, name=study, protocol=replace(both.protocol, **differences))
    assert load_settings([f"study={study}", "study.width=16"]).study.protocol.width == 16


@pytest.mark.parametrize("key", ["alg", "budget", "results", "space", "study.name"])
def test_a_word_reads_neither_the_environment_nor_other_keys(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIGWAE_SECRET", "hunter2")
    for value in ("${oc.env:BIGWAE_SECRET}", "${search}", "${no_such_key}"):
        try:
            shown = repr(load_settings([f"{key}={value}"]))
        except (SettingsError, SpaceError):
            shown = refusal(f"{key}={value}")
        assert "hunter2" not in shown
        assert value in shown, "taken literally, or refused as it was written"


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    load_settings(["results=mine"])
    refusal("budget=x")
    assert list(tmp_path.iterdir()) == []


PIECES = re.findall(
    r"\S+",
    """
    alg budget study .steps results space search cluster digits bigwae all = = = , : ; . / \\ ~ + ++ @ # % $ ! & * - _
    ' " ( ) [ ] { } ${ ${oc.env: range( choice( glob( int( ??? null true nan -1 3 1e9 é \x7f
    """,
)
VALUES = st.lists(st.sampled_from([*PIECES, " ", "\n"]), max_size=4).map("".join)
KEYS = st.sampled_from(["alg", "budget", "study", "results", "space", "search", "study.name", "study.steps"])


@pytest.mark.slow
@hypothesis_settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.builds("{}={}".format, KEYS, VALUES),
            VALUES,
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8),
        ),
        max_size=2,
    )
)
@example(["study@=digits"])
@example(["results=${results}"])
@example(["study.name=${study}"])
def test_any_words_give_settings_or_a_sentence(words: list[str]) -> None:
    sentence = ""
    try:
        assert isinstance(load_settings(words), Settings)
    except (SettingsError, SpaceError) as error:
        sentence = str(error) or "\n"
    assert "\n" not in sentence


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["results=s3://bucket/x"], "results is 's3://bucket/x', where MLflow's database cannot be"),
        (["results=s3://key:secret@bucket/x", "tracking=http://host"], "results names credentials"),
        (["results=http://host/x"], "results is 'http://host/x', but it is a local path, s3://bucket/… or gs://"),
        (
            ["tracking=mlflow.db"],
            "tracking is 'mlflow.db', but it is sqlite:////absolute/path/mlflow.db, postgresql://",
        ),
        (["keep_best=0"], "keep_best is 0, but it is a whole number of at least 1"),
        (["checkpoint_steps=0"], "checkpoint_steps is 0"),
        (["failures.tries=0"], "failures.tries is 0"),
        (["budget=abc"], "budget is 'abc', but it is a whole number"),
        (["cluster.workers=0"], "cluster.workers is 0, but it is a whole number of at least 1"),
        (["study.seed=-1"], "study.seed is -1, but it is a whole number of at least 0"),
        (["failures.other=1"], "unknown key 'failures.other'"),
    ],
)
def test_what_concerns_storage_and_failures_is_checked(words: list[str], sentence: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(words)
    assert str(caught.value).startswith(sentence)
    assert "secret" not in str(caught.value)


def test_results_in_a_store_are_accepted_with_a_database_elsewhere() -> None:
    settings = load_settings(["results=s3://bucket/a b", "tracking=sqlite:////home/me/mlflow.db"])
    assert str(settings.results) == "s3://bucket/a b"
    assert settings.tracking == "sqlite:////home/me/mlflow.db"


def test_settings_check_themselves_whoever_makes_them() -> None:
    settings = load_settings(["study=digits"])
    with pytest.raises(ValueError, match="at least 1"):
        replace(settings.cluster, workers=0)
    with pytest.raises(ValueError, match="true or false"):
        replace(settings, dry_run=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 3"):
        replace(settings, budget=2)
    with pytest.raises(ValueError, match="a worker needs something"):
        replace(settings.cluster, cpus_per_worker=0)
    with pytest.raises(ValueError, match="lower-case letters"):
        replace(settings.study, name="../x")


@pytest.mark.slow
def test_every_number_of_the_settings_has_a_bound() -> None:
    """Whatever key comes to be added: 10^400 is refused, in words and not by an overflow."""
    words = ["checkpoint_steps", "keep_best", "failures.tries", "failures.worker_deaths", "cluster.workers", "budget"]
    for group, file in (("study", "digits"), ("cluster", "local")):
        values = OmegaConf.load(CONF / group / f"{file}.yaml")
        words += [f"{group}.{key!s}" for key, value in values.items() if type(value) in (int, float)]
    assert {"study.steps", "study.width", "study.input_noise", "cluster.teraflops"} <= set(words)
    for word in words:
        sentence = refusal(f"{word}={10**400}")
        assert word in sentence and ("at most" in sentence or "from 1e-30 to 1e+30" in sentence), sentence
