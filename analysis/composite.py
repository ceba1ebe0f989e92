"""Pictures of several models side by side, a column each: the paper's composite (its Figures 2 and 3).

bigwae figures                                                          the best of each algorithm of a study
bigwae figures results/digits/work/vae-00000-s0/best.safetensors …      these
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from analysis.load import best_runs, load_runs
from sweep.errors import ResultsError
from sweep.results.folder import StudyFolder
from wae_core.data.images import load_dataset
from wae_core.model_file import load_model
from wae_core.names import COLUMNS, PICTURES
from wae_core.pictures import picture, pillow
from wae_core.storage.files import Location, location

MARGIN, TITLE, ROW_NAME = 16, 44, 28  # pixels: between pictures; above them; on their left
FONT = 14  # pixels
ROWS = {"reconstructions": "reconstructions (odd rows: originals)"}  # what a row is called, if not by its name


def composite(paths: Sequence[Location], data_folder: Path) -> Image.Image:
    """Draw the three pictures of each checkpoint, a column each, under its run, step and FID; rows have their names.

    Raises:
        ValueError: a checkpoint or its data set cannot be read.
    """
    columns = []
    for path in paths:
        model, run, step = load_model(path)
        generator = torch.Generator().manual_seed(0)
        codes = torch.randn(COLUMNS**2, run.hyperparameters.latent_dim, generator=generator) * run.prior_variance**0.5
        data = load_dataset(run.protocol.dataset, data_folder)
        caption = f"{run.run_id}, step {step:,}\n{_fids(path, run.run_id)}"
        columns.append((caption, [pillow(picture(name, model, data, codes)) for name in PICTURES]))
    heights = [max(images[row].height for _, images in columns) for row in range(len(PICTURES))]
    width = ROW_NAME + sum(images[0].width + MARGIN for _, images in columns)
    sheet = Image.new("RGB", (width, TITLE + sum(heights) + MARGIN * len(heights)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT)
    top = TITLE
    for name, height in zip(PICTURES, heights, strict=True):
        text = Image.new("RGB", (height, ROW_NAME), "white")
        ImageDraw.Draw(text).text(
            (height // 2, ROW_NAME // 2), ROWS.get(name, name), fill="black", font=font, anchor="mm"
        )
        sheet.paste(text.rotate(90, expand=True), (0, top))
        top += height + MARGIN
    left = ROW_NAME
    for caption, images in columns:
        draw.multiline_text((left, 6), caption, fill="black", font=font)
        top = TITLE
        for image, height in zip(images, heights, strict=True):
            sheet.paste(image, (left, top))
            top += height + MARGIN
        left += images[0].width + MARGIN
    return sheet


def best_models(results: str, study: str) -> list[Location]:
    """Return the checkpoints of each algorithm's best run, in the order of the figures.

    Raises:
        FileNotFoundError: there is no such study.
        ValueError: none of its best runs has its checkpoint.
    """
    folder = StudyFolder(location(results), study)
    best = best_runs(load_runs(results, study), 1)["checkpoint_path"].dropna()
    paths = [folder.root / str(path) for path in best]
    if not paths:
        raise ValueError(f"no best run of study {study!r} has its checkpoint: name models, or train some")
    return paths


def _fids(path: Location, run_id: str) -> str:
    """The FIDs of the run's row, where the checkpoint lies in its study's folder: <results>/<study>/work/<run>/…"""
    study = path.absolute().parent.parent.parent
    try:
        runs = load_runs(study.parent, study.name)
    except (FileNotFoundError, ResultsError):
        return "no row beside it says its FID"
    for row in runs[runs["run_id"] == run_id].to_dict("records"):
        return f"FID {row['best_fid']:.1f}, confirmed {row['confirmed_fid']:.1f}"
    return "no row beside it says its FID"


def main(words: Sequence[str]) -> None:
    """Run `bigwae figures`.

    Raises:
        ValueError: a checkpoint, its data set or its study cannot be read, or the picture not be written.
    """
    parser = argparse.ArgumentParser(
        prog="bigwae figures", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", nargs="*", type=Path, help="a best.safetensors; e.g. VAE, WAE-MMD, WAE-GAN")
    parser.add_argument("--results", default="results", help="the results folder (default: results)")
    parser.add_argument("--study", default="digits", help="whose best models are shown (default: digits)")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of packed data sets (default: data)")
    parser.add_argument("--output", type=Path, help="default: figures.png in the results folder")
    arguments = parser.parse_args(words)
    out = arguments.output or Path("." if "://" in arguments.results else arguments.results) / "figures.png"
    try:
        paths = arguments.checkpoint or best_models(arguments.results, arguments.study)
        sheet = composite(paths, arguments.data)
        out.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(out)
    except FileNotFoundError as error:
        raise ValueError(str(error)) from error
    except OSError as error:
        raise ValueError(f"{out} cannot be written: {error.strerror or error}") from error
    print(out)
