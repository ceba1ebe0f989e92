"""Devices: what is computed in TF32 on CUDA, and what is not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from wae_core.device import select_device, tensor_cores

MATMUL, CONV = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]


@pytest.fixture
def _as_torch_has_it() -> Iterator[None]:
    before = MATMUL.fp32_precision, CONV.fp32_precision
    yield
    MATMUL.fp32_precision, CONV.fp32_precision = before


@pytest.mark.usefixtures("_as_torch_has_it")
def test_tf32_is_for_a_training_step_that_asks_for_it_and_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # the switches are there without a device
    MATMUL.fp32_precision = CONV.fp32_precision = "tf32"
    device = select_device("cuda")
    assert (MATMUL.fp32_precision, CONV.fp32_precision) == ("ieee", "ieee")
    for precision, expected in {"tf32": "tf32", "float32": "ieee", "bfloat16": "ieee"}.items():
        with tensor_cores(device, precision):
            assert (MATMUL.fp32_precision, CONV.fp32_precision) == (expected, expected)
        assert (MATMUL.fp32_precision, CONV.fp32_precision) == ("ieee", "ieee")
