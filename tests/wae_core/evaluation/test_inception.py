"""Inception-v3 against torch-fidelity's (golden/inception.safetensors), and what it refuses to load."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from wae_core.evaluation import inception

GOLDEN = Path(__file__).parent / "golden" / "inception.safetensors"
RESIZED_ROWS = [0, 100, 200, 298]  # of the first two images: what the golden file holds of the resize


def random_weights(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Weights under which activations neither vanish nor explode, each tensor by its name and shape alone.

    Uniform draws of RandomState: their stream is frozen (NEP 19), so no version of NumPy or torch changes it.
    """
    weights = {}
    for name, shape in shapes.items():
        kind = name.rpartition(".")[2]
        if kind == "num_batches_tracked":
            weights[name] = torch.tensor(0)
            continue
        if len(shape) > 1:
            limit = math.sqrt(6 / math.prod(shape[1:]))  # He et al.: variance 2 / fan-in
            low, high = -limit, limit
        else:
            low, high = (0.5, 1.5) if kind in ("weight", "running_var") else (-0.3, 0.3)
        draws = np.random.RandomState(zlib.crc32(name.encode())).uniform(low, high, tuple(shape))
        weights[name] = torch.from_numpy(draws.astype(np.float32))
    return weights


def random_images() -> Tensor:
    """uint8 [16, 3, 64, 64]: blocks of 16×16 in random colours under noise, so that the images differ."""
    draws = np.random.RandomState(20151205)
    blocks = draws.randint(0, 256, (16, 3, 4, 4)).repeat(16, axis=2).repeat(16, axis=3)
    noise = draws.randint(-32, 33, (16, 3, 64, 64))
    return torch.from_numpy((blocks + noise).clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with safe_open(GOLDEN, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not a dict


@pytest.fixture(scope="module")
def public_shapes() -> dict[str, list[int]]:
    with safe_open(GOLDEN, framework="pt") as file:
        shapes: dict[str, list[int]] = json.loads(file.metadata()["made_by"])["state_dict"]
    return shapes


@pytest.fixture(scope="module")
def network(public_shapes: dict[str, list[int]], tmp_path_factory: pytest.TempPathFactory) -> inception.InceptionV3:
    """Loaded as the public file is: from a file with the public names, by the hash that it must have."""
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(random_weights(public_shapes), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "WEIGHTS_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
        before = torch.get_rng_state()
        loaded = inception.load_inception(path)
    path.unlink()
    assert torch.equal(torch.get_rng_state(), before), "loading drew from the global generator"
    return loaded


def test_names_and_shapes_are_the_public_weights_files(public_shapes: dict[str, list[int]]) -> None:
    with torch.device("meta"):
        state = inception.InceptionV3().state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == public_shapes
    assert len(public_shapes) == 566


@pytest.mark.slow
def test_features_equal_torch_fidelitys(network: inception.InceptionV3, golden: dict[str, Tensor]) -> None:
    images = random_images()
    features = torch.cat([network(images[:5]), network(images[5:])])  # the batch size must not matter
    wanted = golden["features"]
    assert features.dtype == torch.float32
    assert features.shape == (16, inception.FEATURE_DIM)
    scale = wanted.square().mean().sqrt().item()
    torch.testing.assert_close(features, wanted, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.slow
def test_the_network_comes_frozen_in_evaluation_mode(network: inception.InceptionV3) -> None:
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(module.training for module in network.modules())


@pytest.mark.slow
def test_grey_is_repeated_to_three_channels(network: inception.InceptionV3) -> None:
    grey = random_images()[:1, :1, :40]
    assert torch.equal(network(grey), network(grey.repeat(1, 3, 1, 1)))


def test_resize_equals_torch_fidelitys_to_the_bit(golden: dict[str, Tensor]) -> None:
    resized = inception.resize_bilinear_tf1(random_images()[:2].float(), 299)
    assert torch.equal(resized[:, :, RESIZED_ROWS], golden["resized_rows"])


def test_resize_of_ramps_by_hand() -> None:
    """An image that holds its own row (column) number shows where each output pixel was sampled."""
    rows, columns = torch.meshgrid(torch.arange(5.0), torch.arange(7.0), indexing="ij")
    resized = inception.resize_bilinear_tf1(torch.stack([rows, columns])[None], 299)
    index = torch.arange(299, dtype=torch.float64)
    wanted = torch.stack(
        [
            (index * 5 / 299).clamp(max=4)[:, None].expand(299, 299),
            (index * 7 / 299).clamp(max=6).expand(299, 299),
        ]
    )
    torch.testing.assert_close(resized[0].double(), wanted, rtol=0, atol=1e-5)


def test_resize_to_the_same_size_changes_nothing() -> None:
    images = torch.arange(299.0 * 299).view(1, 1, 299, 299)
    assert torch.equal(inception.resize_bilinear_tf1(images, 299), images)


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 3, 8, 8),
        torch.zeros(3, 3, 8, dtype=torch.uint8),
        torch.zeros(2, 2, 8, 8, dtype=torch.uint8),
        torch.zeros(2, 8, 8, 3, dtype=torch.uint8),
    ],
    ids=["float", "one image", "two channels", "channels last"],
)
def test_other_images_are_refused(network: inception.InceptionV3, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"images must be uint8 \[n, 3, H, W\] or \[n, 1, H, W\], not torch\."):
        network(images)


def test_a_file_with_another_hash_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "other.pth"
    torch.save({"fc.bias": torch.zeros(1008)}, path)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was called"))
    with pytest.raises(ValueError, match="sha256") as refusal:
        inception.load_inception(path)
    for part in (str(path), hashlib.sha256(path.read_bytes()).hexdigest(), inception.WEIGHTS_SHA256):
        assert part in str(refusal.value)


def test_the_wanted_hash_is_the_one_in_the_files_name() -> None:
    assert len(inception.WEIGHTS_SHA256) == 64
    assert inception.WEIGHTS_NAME.endswith(f"-{inception.WEIGHTS_SHA256[:8]}.pth")
