"""The sharpness of images: how much the Laplace filter's response varies over an image."""

from __future__ import annotations

import torch
from torch import Tensor

GREY_WEIGHTS = (0.2989, 0.5870, 0.1140)  # red, green, blue


def sharpness(images: Tensor) -> float:
    """Variance of each image's Laplace-filtered greyscale, averaged over the images (WAE paper, Section 4).

    The filter is [[0, 1, 0], [1, −4, 1], [0, 1, 0]], applied where it fits wholly inside the image; the
    variance is the population's, over (H−2)·(W−2) responses. Blurred images have a low value. The figure is
    that of pixels in [0, 1]: in [−1, 1] it would be four times as large.

    Args:
        images: float [n, C, H, W] in [0, 1], C = 1 (grey) or 3 (RGB), H and W >= 3. NaN gives NaN.

    Raises:
        ValueError: another shape, dtype or range.
    """
    if images.ndim != 4 or images.shape[1] not in (1, 3) or min(images.shape[2:]) < 3 or len(images) == 0:
        raise ValueError(
            f"images have shape {list(images.shape)}; allowed: [n, C, H, W], n >= 1, C = 1 or 3, H and W >= 3"
        )
    if not images.is_floating_point():
        raise ValueError(f"images are {images.dtype}; allowed: floating point in [0, 1]")
    low, high = (bound.item() for bound in images.aminmax())
    if low < 0 or high > 1:
        raise ValueError(f"images range over [{low:g}, {high:g}]; allowed: [0, 1]")

    channels = images.detach().to(torch.float64).unbind(1)
    if len(channels) == 3:
        red, green, blue = GREY_WEIGHTS
        grey = red * channels[0] + green * channels[1] + blue * channels[2]
    else:
        grey = channels[0]
    neighbours = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    response = neighbours - 4 * grey[:, 1:-1, 1:-1]
    return response.flatten(1).var(1, correction=0).mean().item()
