"""Pictures of a model: random samples, test reconstructions and test interpolations, as the paper shows them.

    bigwae figures results/digits/work/vae-00000-s0/best.safetensors …

draws those of several checkpoints side by side, a column each: the paper's composite (its Figures 2 and 3).
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from wae_core.data.images import ImageData, load_dataset, to_float, to_uint8
from wae_core.model_file import load_model
from wae_core.names import COLUMNS, GAP, PICTURES, ZOOM
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
    _pillow(image).save(buffer, "PNG")
    return buffer.getvalue()


def composite(paths: list[Path], data_folder: Path) -> Image.Image:
    """Draw the three pictures of each checkpoint, a column each, under the run's name.

    Raises:
        ValueError: a checkpoint or its data set cannot be read.
    """
    columns = []
    for path in paths:
        model, run, step = load_model(path)
        generator = torch.Generator().manual_seed(0)
        codes = torch.randn(COLUMNS**2, run.hyperparameters.latent_dim, generator=generator) * run.prior_variance**0.5
        data = load_dataset(run.protocol.dataset, data_folder)
        columns.append((f"{run.run_id}, step {step:,}", [_pillow(picture(p, model, data, codes)) for p in PICTURES]))
    margin, title = 16, 24
    width = sum(images[0].width + margin for _, images in columns) + margin
    height = max(sum(image.height + margin for image in images) for _, images in columns) + title + margin
    sheet = Image.new("RGB", (width, height), "white")
    draw, left = ImageDraw.Draw(sheet), margin
    for name, images in columns:
        draw.text((left, margin // 2), name, fill="black")
        top = title + margin // 2
        for image in images:
            sheet.paste(image, (left, top))
            top += image.height + margin
        left += images[0].width + margin
    return sheet


def _pillow(image: Tensor) -> Image.Image:
    pixels: np.ndarray = image.permute(1, 2, 0).squeeze(-1).numpy()
    pillow = Image.fromarray(pixels)
    return pillow.resize((pillow.width * ZOOM, pillow.height * ZOOM), Image.Resampling.NEAREST)


def main(words: Sequence[str]) -> None:
    """Run `bigwae figures`.

    Raises:
        ValueError: a checkpoint or its data set cannot be read, or the picture not be written.
    """
    parser = argparse.ArgumentParser(
        prog="bigwae figures",
        description="Interpolations, reconstructions and samples of checkpoints, a column each, as one PNG.",
    )
    parser.add_argument("checkpoint", nargs="+", type=Path, help="a best.safetensors; e.g. VAE, WAE-MMD, WAE-GAN")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of packed data sets (default: data)")
    parser.add_argument("--output", type=Path, default=Path("figures.png"), help="default: figures.png")
    arguments = parser.parse_args(words)
    sheet = composite(arguments.checkpoint, arguments.data)
    try:
        sheet.save(arguments.output)
    except OSError as error:
        raise ValueError(f"{arguments.output} cannot be written: {error.strerror}") from error
    print(arguments.output)
