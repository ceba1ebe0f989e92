"""What cannot train is refused before anything is written, in one sentence that names it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import search_spaces
from sweep.errors import SettingsError
from sweep.running import preflight
from sweep.running.preflight import check_trainable
from sweep.settings.compose import load_settings
from sweep.settings.settings import Cluster, Settings, Study
from wae_core.data.images import ImageData, load_dataset
from wae_core.names import Device


def with_line(study: Study, name: str, tmp_path: Path, **changes: object) -> Study:
    """The study with another line for one hyperparameter, read from a file as a user's is."""
    path = tmp_path / "other.yaml"
    data = study.space.as_dict()
    data[name] = {"algorithms": data[name]["algorithms"], "source": "O"} | changes
    path.write_text(yaml.safe_dump(data))
    return replace(study, space=search_spaces.load(path))


@pytest.fixture(autouse=True)
def _data_once(digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digits take a second to read; unknown names are refused by the real function."""
    monkeypatch.setattr(
        preflight, "load_dataset", lambda name, *rest: digits if name == "digits" else load_dataset(name, *rest)
    )


def launch_of(study: Study, tmp_path: Path, device: Device = "cpu") -> Settings:
    cluster = Cluster(
        "ray", device, None, cpus_per_worker=1, gpus_per_worker=0, tpus_per_worker=0, pack_size=1, teraflops=0.02
    )
    return replace(load_settings([f"data={tmp_path / 'data'}"]), study=study, cluster=cluster)


@pytest.fixture
def head() -> Iterator[str]:
    """The address of what may be a cluster's head: somebody answers there, once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=lambda: server.accept()[0].close(), daemon=True)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[..., str]:
    """refusal(study, device): the sentence with which its launch is refused."""

    def refuse(study: Study, device: Device = "cpu") -> str:
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
    changes: dict[str, Any] = {key: limit + 1}
    sentence = refusal(replace(study, protocol=replace(study.protocol, **changes)))
    for part in (f"study.{key}", str(limit + 1), str(limit)):
        assert part in sentence


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dataset": "cifar"}, ["data set", "'cifar'", "digits", "make data"]),
        ({"dataset": "mnist"}, ["data set", "'mnist'", "make data DATA=mnist"]),
        ({"fid_features": "nosuch"}, ["feature network", "'nosuch'", "digits", "inception"]),
        ({"fid_features": "inception", "fid_reference": "train"}, ["'inception'", "inception=", "'efficientnet'"]),
    ],
    ids=["data set", "data not made", "features", "weights"],
)
def test_what_is_not_there_is_refused(
    study: Study, changes: dict[str, str], named: list[str], refusal: Callable[..., str]
) -> None:
    sentence = refusal(replace(study, protocol=replace(study.protocol, **changes)))  # type: ignore[arg-type]
    for part in named:
        assert part in sentence


def with_held_out(digits: ImageData, count: int) -> ImageData:
    """A data set called mine: the digits, of which so many are held out."""
    return ImageData("mine", train=digits.train, held_out=digits.held_out[:count])


def test_fewer_reference_images_than_dimensions_are_refused_with_what_would_do(
    study: Study, digits: ImageData, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small = replace(study, protocol=replace(study.protocol, evaluation_images=10))
    monkeypatch.setattr(preflight, "load_dataset", lambda *_: with_held_out(digits, 63))
    sentence = refusal(small)
    for part in ("study.fid_features=digits", "64 dimensions", "mine/held_out", "63 reference images"):
        assert part in sentence
    for cure in ("study.fid_reference=train (4,000 images)", "HELD_OUT=64", "study.accept_few_images=true"):
        assert cure in sentence
    for changes in ({"fid_reference": "train"}, {"accept_few_images": True}):
        check_trainable(launch_of(replace(small, protocol=replace(small.protocol, **changes)), tmp_path))
    monkeypatch.setattr(preflight, "load_dataset", lambda *_: with_held_out(digits, 64))
    check_trainable(launch_of(small, tmp_path))
    sentence = refusal(replace(small, protocol=replace(small.protocol, fid_reference_images=50)))
    assert "50 reference images" in sentence and "give study.fid_reference_images=64" in sentence


def test_a_smaller_network_is_named_where_there_is_one(study: Study, refusal: Callable[..., str]) -> None:
    """Of 1,000 references, neither EfficientNet's 1,280 dimensions nor Inception's 2,048 are spanned."""
    sentence = refusal(replace(study, protocol=replace(study.protocol, fid_features="efficientnet")))
    assert "study.fid_features=efficientnet has 1,280 dimensions" in sentence
    assert "give study.fid_features=digits (64 dimensions, for grey digits of 28×28), or" in sentence
    assert "inception" not in sentence and "HELD_OUT" not in sentence


def test_a_network_that_does_not_take_the_images_is_refused_with_those_that_do(
    study: Study, digits: ImageData, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    colour = replace(digits, train=digits.train.expand(-1, 3, -1, -1), held_out=digits.held_out.expand(-1, 3, -1, -1))
    monkeypatch.setattr(preflight, "load_dataset", lambda *_: colour)
    sentence = refusal(study)
    assert "'digits' is for grey digits of 28×28, and these images are 3×28×28: take efficientnet (1,280" in sentence
    assert "or inception (2,048 dimensions" in sentence


def test_more_reference_images_than_there_are_is_refused(study: Study, refusal: Callable[..., str]) -> None:
    sentence = refusal(replace(study, protocol=replace(study.protocol, fid_reference_images=1001)))
    assert sentence == "study.fid_reference_images=1001, but digits/held_out has 1,000 images in all"


def test_few_samples_are_no_reason_to_refuse(study: Study, tmp_path: Path) -> None:
    check_trainable(launch_of(replace(study, protocol=replace(study.protocol, fid_samples=4)), tmp_path))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused_unless_a_cluster_has_it(
    study: Study, refusal: Callable[..., str], head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert "'cuda'" in refusal(study, device="cuda")
    monkeypatch.setenv("RAY_ADDRESS", head)
    check_trainable(launch_of(study, tmp_path, device="cuda"))


def test_a_run_of_more_cores_than_this_machine_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("sweep.running.nodes.room.cpu_count", lambda: 3)
    words = [f"results={tmp_path}", "cluster.accelerators_per_run=4"]
    with pytest.raises(SettingsError, match=r"accelerators_per_run is 4, but there is room for 3 workers"):
        check_trainable(load_settings(words))
    check_trainable(load_settings([*words, "cluster.workers=1"]))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cluster.cpus_per_worker=4096"], "cluster.cpus_per_worker is 4096, but a node has at most "),
        (["cluster.gpus_per_worker=9"], "cluster.gpus_per_worker is 9, but a node has at most "),
        (["cluster.gpus_per_worker=9", "cluster.workers=1"], "cluster.gpus_per_worker is 9, but a node has at most "),
    ],
)
def test_workers_that_this_machine_cannot_hold_are_refused(
    words: list[str], said: str, head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was said, and it waited for ever."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(SettingsError, match="not one worker fits") as caught:
        check_trainable(load_settings([f"results={tmp_path}", *words]))
    assert said in str(caught.value)
    monkeypatch.setenv("RAY_ADDRESS", head)
    check_trainable(load_settings([f"results={tmp_path}", *words]))
    assert list(tmp_path.iterdir()) == []


def test_as_many_workers_as_are_asked_for_fit_on_however_few_cores(tmp_path: Path) -> None:
    check_trainable(load_settings([f"results={tmp_path}", "cluster.workers=2", "cluster.cpus_per_worker=4096"]))


def test_a_cluster_s_address_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere")
    with pytest.raises(SettingsError, match="RAY_ADDRESS is 'elsewhere'"):
        check_trainable(load_settings([f"results={tmp_path}"]))
    check_trainable(load_settings([f"results={tmp_path}", "cluster=inprocess"]))


def test_a_bernoulli_decoder_on_colour_images_is_refused(
    study: Study, digits: ImageData, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bernoulli = replace(study, protocol=replace(study.protocol, vae_likelihood="bernoulli"))
    colour = replace(digits, train=digits.train.expand(-1, 3, -1, -1), held_out=digits.held_out.expand(-1, 3, -1, -1))
    monkeypatch.setattr(preflight, "load_dataset", lambda *_: colour)
    for part in ("study.vae_likelihood", "'bernoulli'", "colour"):
        assert part in refusal(bernoulli)
