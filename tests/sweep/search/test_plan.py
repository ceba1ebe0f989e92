"""The plan: whole configurations within the budget, the same for every algorithm, and nothing that cannot train."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

import search_spaces
from sweep.errors import SettingsError
from sweep.results.plan_file import PLAN, plan_table
from sweep.search import plan
from sweep.search.plan import check_trainable, pack_runs, plan_runs
from sweep.settings.compose import load_settings
from sweep.settings.settings import Cluster, Settings, Study
from wae_core.data.images import ImageData
from wae_core.run import ALGORITHMS, Hyperparameters, Run

SHARED = ("latent_dim", "batch_size", "learning_rate", "architecture")


def with_line(study: Study, name: str, tmp_path: Path, **changes: object) -> Study:
    """The study with another line for one hyperparameter, read from a file as a user's is."""
    path = tmp_path / "other.yaml"
    data = study.space.as_dict()
    data[name] = {"algorithms": data[name]["algorithms"], "source": "O"} | changes
    path.write_text(yaml.safe_dump(data))
    return replace(study, space=search_spaces.load(path))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_plan_is_whole_configurations_with_all_their_seeds(study: Study, algorithm: str) -> None:
    runs = plan_runs(study, algorithm, 12)
    assert [(run.config_index, run.seed) for run in runs] == [(i, s) for i in range(4) for s in range(3)]
    assert len({run.run_id for run in runs}) == 12
    for run in runs:
        assert (run.study, run.study_seed, run.algorithm, run.protocol) == (
            "test",
            5,
            algorithm,
            study.protocol,
        )
        assert run.hyperparameters == Hyperparameters(**study.space.sample(algorithm, run.config_index, 5))  # type: ignore[arg-type]
        assert run.hyperparameters == runs[3 * run.config_index].hyperparameters
    assert len({run.hyperparameters for run in runs}) == 4
    assert runs[5].run_id == f"{algorithm}-00001-s2"


def test_a_budget_of_1000_is_333_configurations_and_999_runs(study: Study) -> None:
    runs = plan_runs(study, "wae-mmd", 1000)
    assert (len(runs), runs[-1].config_index) == (999, 332)


@pytest.mark.parametrize("seeds", [1, 2, 3, 7])
def test_no_budget_is_exceeded_and_a_larger_one_begins_with_the_smaller(study: Study, seeds: int) -> None:
    study = replace(study, seeds=seeds)
    largest = plan_runs(study, "vae", 40)
    for budget in range(1, 41):
        runs = plan_runs(study, "vae", budget)
        assert budget - seeds < len(runs) <= budget
        assert len(runs) % seeds == 0
        assert runs == largest[: len(runs)]


def test_a_plan_is_a_pure_function_of_the_study(study: Study) -> None:
    runs = plan_runs(study, "vae", 9)
    assert plan_runs(study, "vae", 9) == runs
    assert plan_runs(replace(study, seed=6), "vae", 9)[0].hyperparameters != runs[0].hyperparameters


def test_what_algorithms_share_is_equal_for_all_of_them(study: Study) -> None:
    plans = [plan_runs(study, algorithm, 30) for algorithm in ALGORITHMS]
    for same in zip(*plans, strict=True):
        assert len({tuple(getattr(run.hyperparameters, name) for name in SHARED) for run in same}) == 1
    mmd, gan, vae = (plan[0].hyperparameters for plan in plans)
    assert (mmd.encoder, mmd.wae_lambda) == (gan.encoder, gan.wae_lambda)
    assert (vae.encoder, vae.wae_lambda, vae.kernel_scale, vae.adversary_learning_rate) == (None,) * 4
    assert (mmd.decoder_variance, gan.kernel_scale, mmd.adversary_learning_rate) == (None,) * 3


# --- packs


def batch_size(run: Run) -> float:
    """Stands for the predicted seconds."""
    return run.hyperparameters.batch_size


def all_of_size(size: int, runs: Sequence[Run]) -> dict[str, int]:
    return dict.fromkeys((run.hyperparameters.architecture for run in runs), size)


@pytest.mark.parametrize("size", [1, 3, 4])
def test_packs_hold_each_run_once_and_only_equal_shapes(study: Study, size: int) -> None:
    runs = [run for algorithm in ALGORITHMS for run in plan_runs(study, algorithm, 60)]
    packs = pack_runs(runs, batch_size, all_of_size(size, runs))
    assert Counter(run.run_id for pack in packs for run in pack.runs) == Counter(run.run_id for run in runs)
    assert max(len(pack.runs) for pack in packs) == size
    for pack in packs:
        shapes = {
            (run.algorithm, h.architecture, h.latent_dim, h.batch_size, run.is_stochastic)
            for run in pack.runs
            for h in [run.hyperparameters]
        }
        assert len(shapes) == 1
    assert pack_runs([], batch_size, {}) == []


def test_three_seeds_of_a_configuration_share_a_pack(study: Study) -> None:
    runs = plan_runs(study, "wae-gan", 60)
    packs = pack_runs(runs, batch_size, all_of_size(3, runs))
    assert {tuple(run.seed for run in pack.runs) for pack in packs} == {(0, 1, 2)}
    assert all(len({run.config_index for run in pack.runs}) == 1 for pack in packs)


def test_each_architecture_has_its_own_pack_size(study: Study) -> None:
    runs = plan_runs(study, "vae", 60)
    first, *others = sorted({run.hyperparameters.architecture for run in runs})
    sizes = dict.fromkeys(others, 6) | {first: 1}
    packs = pack_runs(runs, batch_size, sizes)
    assert all(len(pack.runs) <= sizes[pack.runs[0].hyperparameters.architecture] for pack in packs)
    assert max(len(pack.runs) for pack in packs) > 1


def test_packs_start_with_the_longest(study: Study) -> None:
    runs = plan_runs(study, "vae", 30)
    packs = pack_runs(runs, batch_size, all_of_size(1, runs))
    sizes = [batch_size(pack.runs[0]) for pack in packs]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) > 1


# --- what cannot train


@pytest.fixture(autouse=True)
def _data_once(digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digits take a second to read; unknown names are refused by the real function."""
    load = plan.load_dataset
    monkeypatch.setattr(plan, "load_dataset", lambda name, *rest: digits if name == "digits" else load(name, *rest))


def launch_of(study: Study, tmp_path: Path, device: str = "cpu") -> Settings:
    cluster = Cluster(
        device, None, cpus_per_worker=1, gpus_per_worker=0, tpus_per_worker=0, pack_size=1, teraflops=0.02
    )
    return replace(load_settings([f"data={tmp_path / 'data'}"]), study=study, cluster=cluster)


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[..., str]:
    """refusal(study, device): the sentence with which its launch is refused."""

    def refuse(study: Study, device: str = "cpu") -> str:
        with pytest.raises(SettingsError) as caught:
            check_trainable(launch_of(study, tmp_path, device))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return refuse


def test_a_study_that_can_train_passes(study: Study, tmp_path: Path) -> None:
    check_trainable(launch_of(study, tmp_path))
    largest = with_line(study, "batch_size", tmp_path, distribution="fixed", value=4000)
    limits = replace(study.protocol, evaluation_images=1000, pretraining_images=4000)
    check_trainable(launch_of(replace(largest, protocol=limits), tmp_path))


@pytest.mark.parametrize(
    "line",
    [
        {"distribution": "choice", "values": ["dcgan_small", "dcgan_smal"]},
        {"distribution": "fixed", "value": "dcgan_smal"},
    ],
    ids=["choice", "fixed"],
)
def test_an_unknown_architecture_is_refused(
    study: Study, tmp_path: Path, line: dict[str, object], refusal: Callable[..., str]
) -> None:
    sentence = refusal(with_line(study, "architecture", tmp_path, **line))
    for part in ("architecture", "'dcgan_smal'", "dcgan_small", "resnet50v2", "other"):
        assert part in sentence


@pytest.mark.parametrize(
    "line",
    [{"distribution": "choice", "values": [4001, 64]}, {"distribution": "fixed", "value": 4001}],
    ids=["choice", "fixed"],
)
def test_a_batch_larger_than_the_data_is_refused(
    study: Study, tmp_path: Path, line: dict[str, object], refusal: Callable[..., str]
) -> None:
    sentence = refusal(with_line(study, "batch_size", tmp_path, **line))
    for part in ("batch_size", "4001", "digits", "4000"):
        assert part in sentence


@pytest.mark.parametrize(("key", "limit"), [("evaluation_images", 1000), ("pretraining_images", 4000)])
def test_more_images_than_there_are_is_refused(
    study: Study, key: str, limit: int, refusal: Callable[..., str]
) -> None:
    sentence = refusal(replace(study, protocol=replace(study.protocol, **{key: limit + 1})))
    for part in (f"study.{key}", str(limit + 1), str(limit)):
        assert part in sentence


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dataset": "cifar"}, ["data set", "'cifar'", "digits", "make data"]),
        ({"dataset": "mnist"}, ["data set", "'mnist'", "make data DATA=mnist"]),
        ({"fid_features": "nosuch"}, ["feature network", "'nosuch'", "digits", "inception"]),
        ({"fid_features": "inception"}, ["'inception'", "inception="]),
    ],
    ids=["data set", "data not made", "features", "weights"],
)
def test_what_is_not_there_is_refused(
    study: Study, changes: dict[str, str], named: list[str], refusal: Callable[..., str]
) -> None:
    sentence = refusal(replace(study, protocol=replace(study.protocol, **changes)))  # type: ignore[arg-type]
    for part in named:
        assert part in sentence


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused_unless_a_cluster_has_it(
    study: Study, refusal: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert "'cuda'" in refusal(study, device="cuda")
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    check_trainable(launch_of(study, tmp_path, device="cuda"))


def test_a_bernoulli_decoder_on_colour_images_is_refused(
    study: Study, digits: ImageData, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bernoulli = replace(study, protocol=replace(study.protocol, vae_likelihood="bernoulli"))
    colour = replace(digits, train=digits.train.expand(-1, 3, -1, -1), held_out=digits.held_out.expand(-1, 3, -1, -1))
    monkeypatch.setattr(plan, "load_dataset", lambda *_: colour)
    for part in ("study.vae_likelihood", "'bernoulli'", "colour"):
        assert part in refusal(bernoulli)


# --- plan.parquet


def test_the_plan_round_trips_through_parquet_with_typed_nulls(study: Study, tmp_path: Path) -> None:
    runs = [run for algorithm in ALGORITHMS for run in plan_runs(study, algorithm, 6)]
    path = tmp_path / "plan.parquet"
    for planned in (runs, plan_runs(study, "vae", 3), []):  # the last two have columns without any value
        pq.write_table(plan_table(planned), path)
        table = pq.read_table(path)
        assert table.schema.equals(PLAN)
        assert table.num_rows == len(planned)
        for row, run in zip(table.to_pylist(), planned, strict=True):
            hyperparameters = {name: row.pop(name) for name in asdict(run.hyperparameters)}
            assert Hyperparameters(**hyperparameters) == run.hyperparameters
            assert row == {
                "run_id": run.run_id,
                "algorithm": run.algorithm,
                "config_index": run.config_index,
                "config_id": run.config_id,
                "seed": run.seed,
                "steps_planned": run.protocol.steps,
            }
    assert PLAN.field("decoder_variance").type == pa.float64()
    assert PLAN.field("encoder").type == pa.string()
