"""The sharpness of images whose Laplace response can be written down."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from wae_core.evaluation.sharpness import sharpness

ROW = torch.arange(8.0)


def grey(image: Tensor) -> Tensor:
    return image[None, None]


DELTA = torch.zeros(5, 5).index_put((torch.tensor(2), torch.tensor(2)), torch.tensor(1.0))
CHECKERBOARD = (ROW[:, None] + ROW) % 2
STRIPES = (ROW % 2).expand(8, 8)
STEP = (ROW >= 4).float().expand(8, 8)
CONSTANT = torch.full((8, 8), 0.3)
RAMP = (ROW[:, None] + 2 * ROW) / 32


@pytest.mark.parametrize(
    ("image", "expected"),
    [(DELTA, 20 / 9), (CHECKERBOARD, 16), (STRIPES, 4), (STEP, 1 / 3), (CONSTANT, 0), (RAMP, 0)],
    ids=["delta", "checkerboard", "stripes", "step", "constant", "ramp"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_known_values(image: Tensor, expected: float, dtype: torch.dtype) -> None:
    value = sharpness(grey(image.to(dtype)))
    assert type(value) is float
    assert value == pytest.approx(expected, rel=1e-12, abs=1e-13)
    assert sharpness(grey(image.T.to(dtype))) == pytest.approx(expected, rel=1e-12, abs=1e-13)


def test_equals_a_convolution_per_image() -> None:
    images = torch.rand(5, 3, 9, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.tensor([0.2989, 0.5870, 0.1140], dtype=torch.float64)
    laplace = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]], dtype=torch.float64)
    variances = []
    for image in images:
        single = torch.einsum("c,chw->hw", weights, image)
        response = torch.nn.functional.conv2d(grey(single), grey(laplace))
        variances.append(((response - response.mean()) ** 2).mean().item())
    assert sharpness(images) == pytest.approx(sum(variances) / 5, rel=1e-12)


@pytest.mark.parametrize(("channel", "weight"), [(0, 0.2989), (1, 0.5870), (2, 0.1140)])
def test_greyscale_weights(channel: int, weight: float) -> None:
    images = torch.zeros(1, 3, 8, 8)
    images[:, channel] = CHECKERBOARD
    assert sharpness(images) == pytest.approx(16 * weight**2, rel=1e-12)


def test_is_the_mean_over_images_not_the_variance_over_all() -> None:
    images = torch.stack([grey(CHECKERBOARD)[0], grey(STEP)[0], grey(CONSTANT)[0], grey(CONSTANT)[0]])
    assert sharpness(images) == pytest.approx((16 + 1 / 3) / 4, rel=1e-12)


def test_blurring_lowers_it() -> None:
    images = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert sharpness(torch.nn.functional.avg_pool2d(images, 3, stride=1)) < 0.2 * sharpness(images)


def test_nan_stays_nan() -> None:
    images = torch.rand(2, 1, 8, 8)
    images[1, 0, 3, 3] = math.nan
    assert math.isnan(sharpness(images))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(1, 8, 8), r"\[1, 8, 8\]"),
        (torch.zeros(4, 2, 8, 8), r"C = 1 or 3"),
        (torch.zeros(0, 1, 8, 8), "n >= 1"),
        (torch.zeros(1, 1, 2, 8), "H and W >= 3"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "uint8"),
        (torch.full((1, 1, 8, 8), -0.5), r"\[-0.5, -0.5\]"),
        (torch.full((1, 3, 8, 8), 1.5), r"\[1.5, 1.5\]"),
    ],
)
def test_refuses(images: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sharpness(images)
