"""A protocol checks itself, whoever makes it: the words of a launch, study.yaml or a model file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from wae_core.data.images import ImageData
from wae_core.model_file import load_model, save_model
from wae_core.run import Run
from wae_core.storage.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from wae_core.training.state import TrainingState


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"width": 0}, "study.width is 0, but it is a whole number of at least 1"),
        ({"width": 10**9}, "study.width is 1000000000, but it is a whole number of at least 1 and at most 65536"),
        (
            {"steps": 2**63},
            "study.steps is 9223372036854775808, but it is a whole number of at least 1 and at",
        ),
        (
            {"fid_samples": 10**12},
            "study.fid_samples is 1000000000000, but it is a whole number of at least 4",
        ),
        ({"prior_variance": 1e31}, "study.prior_variance is 1e+31, but it is a number above 0 (from 1e-30 to 1e+30)"),
        ({"width": True}, "study.width is True, but it is a whole number of at least 1"),
        ({"fid_samples": 3}, "study.fid_samples is 3, but it is a whole number of at least 4"),
        ({"dataset": "../x"}, "study.dataset is '../x', but it is a word of lower-case letters"),
        ({"prior_variance": float("nan")}, "study.prior_variance is nan, but it is a number above 0"),
        ({"input_noise": -0.1}, "study.input_noise is -0.1, but it is a number of at least 0"),
        ({"log_prior": 1}, "study.log_prior is 1, but it is true or false"),
        ({"precision": "float16"}, "study.precision is 'float16', but it is one of float32, tf32, bfloat16"),
        ({"vae_likelihood": "laplace"}, "study.vae_likelihood is 'laplace', but it is one of gaussian, bernoulli"),
        ({"without_batch_norm": ("vea",)}, "study.without_batch_norm is 'vea', but it is one of wae-mmd"),
        ({"evaluation_steps": (4, 2)}, "study.evaluation_steps is [4, 2], but they ascend and end with study.steps"),
        ({"steps": 5}, "study.evaluation_steps is [2, 4], but they ascend and end with study.steps (5)"),
        ({"learning_rate_drops": ((30,),)}, "study.learning_rate_drops is [[30]], but it is a list of [after which"),
        ({"learning_rate_drops": ((30, 0),)}, "study.learning_rate_drops is 0, but it is a number above 0"),
    ],
)
def test_a_protocol_that_cannot_be_trained_is_refused(
    make_run: Callable[..., Run], changes: dict[str, Any], sentence: str
) -> None:
    run = make_run("vae")
    with pytest.raises(ValueError, match="study") as caught:
        replace(run, protocol=replace(run.protocol, **changes))
    assert str(caught.value).startswith(sentence)


def test_whole_numbers_in_the_place_of_others_become_floats(make_run: Callable[..., Run]) -> None:
    protocol = replace(make_run("vae").protocol, prior_variance=2, input_noise=0, learning_rate_drops=((30, 2),))
    assert [type(value) for value in (protocol.prior_variance, protocol.input_noise)] == [float, float]
    assert type(protocol.learning_rate_drops[0][1]) is float


def test_a_model_file_goes_round_no_bound(make_run: Callable[..., Run], digits: ImageData, tmp_path: Path) -> None:
    run, path = make_run("vae"), tmp_path / "best.safetensors"
    save_model(path, run, digits, 4, TrainingState(run, digits, torch.device("cpu")).tensors())
    assert load_model(path)[1] == run
    weights, content = load_checkpoint(path)
    content["run"]["protocol"]["fid_samples"] = 3
    save_checkpoint(path, weights, content)
    with pytest.raises(CheckpointError, match=r"study\.fid_samples is 3, but it is a whole number of at least 4"):
        load_model(path)
    content["run"]["protocol"]["fid_samples"] = 4
    content["image_shape"] = [1, 10**9, 10**9]
    save_checkpoint(path, weights, content)
    with pytest.raises(CheckpointError, match=r"1×1000000000×1000000000, but it is 1 or 3 channels"):
        load_model(path)
