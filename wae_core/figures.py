"""Pictures of a model: grids of images as PNG files."""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def image_grid(images: Tensor, columns: int | None = None) -> Tensor:
    """Lay images side by side, two pixels apart: uint8 [n, C, H, W] -> uint8 [C, H', W']."""
    n, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = -(-n // columns)
    gap = 2
    canvas = torch.full(
        (channels, rows * (height + gap) + gap, columns * (width + gap) + gap), 255, dtype=torch.uint8
    )
    for index, image in enumerate(images.cpu()):
        row, column = divmod(index, columns)
        top, left = row * (height + gap) + gap, column * (width + gap) + gap
        canvas[:, top : top + height, left : left + width] = image
    return canvas


def png(image: Tensor, zoom: int = 1) -> bytes:
    """Encode a picture as PNG: uint8 [C, H, W], C = 1 or 3; each pixel becomes zoom × zoom pixels."""
    pixels: np.ndarray = image.permute(1, 2, 0).squeeze(-1).numpy()
    picture = Image.fromarray(pixels)
    buffer = io.BytesIO()
    picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()
