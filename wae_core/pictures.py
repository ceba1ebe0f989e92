"""Pictures of a model: random samples, test reconstructions and test interpolations, as the paper shows them."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from wae_core.data.images import ImageData, to_float, to_uint8
from wae_core.names import COLUMNS, GAP, ZOOM
from wae_core.networks import AutoEncoder


@torch.no_grad()
def picture(name: str, model: AutoEncoder, data: ImageData, codes: Tensor) -> Tensor:
    """Draw one of PICTURES as a grid: uint8 [C, H', W'] on the CPU.

    samples: G(z) of the given codes, draws from the prior [n, latent_dim].
    reconstructions: held-out images through the mean code; odd rows are the originals.
    interpolations: a row a pair of held-out images, their mean codes joined by a straight line.
    """
    device = codes.device
    originals = data.held_out[: len(codes)].to(device)
    if name == "samples":
        return image_grid(to_uint8(model.images(codes), data.pixel_range))
    means, _ = model.encoder(to_float(originals, data.pixel_range))
    if name == "reconstructions":
        rows = torch.split(originals, COLUMNS), torch.split(to_uint8(model.images(means), data.pixel_range), COLUMNS)
        pairs = [torch.cat(pair) for pair in zip(*rows, strict=True)]
        return image_grid(torch.cat(pairs[: max(1, len(pairs) // 2)]))
    starts, ends = means[0::2][:COLUMNS], means[1::2][:COLUMNS]
    weights = torch.linspace(0, 1, COLUMNS, device=device)[None, :, None]
    line = (1 - weights) * starts[:, None] + weights * ends[:, None]
    return image_grid(to_uint8(model.images(line.flatten(0, 1)), data.pixel_range))


def image_grid(images: Tensor) -> Tensor:
    """Lay images out in rows of COLUMNS on white: uint8 [n, C, H, W] -> uint8 [C, H', W'] on the CPU."""
    n, channels, height, width = images.shape
    rows = -(-n // COLUMNS)
    size = (channels, rows * (height + GAP) + GAP, COLUMNS * (width + GAP) + GAP)
    canvas = torch.full(size, 255, dtype=torch.uint8)
    for index, image in enumerate(images.cpu()):
        row, column = divmod(index, COLUMNS)
        top, left = row * (height + GAP) + GAP, column * (width + GAP) + GAP
        canvas[:, top : top + height, left : left + width] = image
    return canvas


def png(image: Tensor) -> bytes:
    """Encode a picture as PNG: uint8 [C, H, W], C = 1 or 3; each pixel becomes ZOOM × ZOOM pixels."""
    buffer = io.BytesIO()
    pillow(image).save(buffer, "PNG")
    return buffer.getvalue()


def pillow(image: Tensor) -> Image.Image:
    """Return a picture for the screen: uint8 [C, H, W], C = 1 or 3; each pixel becomes ZOOM × ZOOM pixels."""
    pixels: np.ndarray = image.permute(1, 2, 0).squeeze(-1).numpy()
    small = Image.fromarray(pixels)
    return small.resize((small.width * ZOOM, small.height * ZOOM), Image.Resampling.NEAREST)
