"""From an encoded picture to pixels: what a viewer shows, whatever lies below transparency or calls itself a PNG."""

from __future__ import annotations

import io
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from wae_core.data.interface import BadImage
from wae_core.data.mnist import read_mnist
from wae_core.data.pixels import BACKGROUND, FORMATS, Preprocessing

WHOLE = Preprocessing(None, 8)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
DATA = {"EPS": EPS, "nothing": b""}


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def half_transparent() -> Image.Image:
    """8×8 in RGBA: on the left an opaque blue; on the right stripes of red and green, which no viewer shows."""
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4] = 0, 0, 200, 255
    pixels[::2, 4:] = 255, 0, 0, 0
    pixels[1::2, 4:] = 0, 255, 0, 0
    return Image.fromarray(pixels)


def palette() -> Image.Image:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([255, 0, 0, 0, 0, 200])
    image.paste(0, (4, 0, 8, 8))
    return image


def one_colour(mode: str, left: object, right: object) -> Image.Image:
    image = Image.new(mode, (8, 8), left)  # type: ignore[arg-type]
    image.paste(right, (4, 0, 8, 8))  # type: ignore[arg-type]
    return image


BLUE, GREY = (0, 0, 200), (90, 90, 90)


@pytest.mark.parametrize(
    ("data", "colour"),
    [
        (lambda: encoded(half_transparent()), BLUE),
        (lambda: encoded(half_transparent(), "WEBP", lossless=True, exact=True), BLUE),
        (lambda: encoded(half_transparent(), "TIFF"), BLUE),
        (lambda: encoded(palette(), transparency=0), BLUE),
        (lambda: encoded(palette(), transparency=b"\0\xff"), BLUE),
        (lambda: encoded(one_colour("LA", (90, 255), (7, 0))), GREY),
        (lambda: encoded(one_colour("L", 90, 7), transparency=7), GREY),
        (lambda: encoded(one_colour("RGB", BLUE, (255, 0, 0)), transparency=(255, 0, 0)), BLUE),
    ],
    ids=["PNG", "WebP", "TIFF", "palette with one", "palette with alpha", "grey and alpha", "grey with one", "RGB"],
)
def test_what_is_transparent_shows_the_background(data: Callable[[], bytes], colour: tuple[int, int, int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels = WHOLE.pixels(data())
    assert BACKGROUND == "#ffffff"
    assert (pixels[:, :, 4:] == 255).all()
    assert (pixels[:, :, :4] == np.array(colour)[:, None, None]).all()


def test_half_transparency_blends_with_the_background_before_the_resize() -> None:
    pixels = WHOLE.pixels(encoded(Image.new("RGBA", (8, 8), (0, 100, 200, 128))))
    np.testing.assert_allclose(pixels[:, 0, 0], [127, 177, 227], atol=1)
    shrunk = Preprocessing(None, 4).pixels(encoded(half_transparent()))
    assert (shrunk[2] >= 200 - 20).all()  # no red or green seeps in from below
    assert (shrunk[0] == shrunk[1]).all()


def test_opaque_pictures_are_what_they_were() -> None:
    colours = np.random.RandomState(0).randint(0, 256, (8, 8, 3), dtype=np.uint8)
    opaque = Image.fromarray(colours).convert("RGBA")
    for image in (Image.fromarray(colours), opaque):
        np.testing.assert_array_equal(WHOLE.pixels(encoded(image)), colours.transpose(2, 0, 1))


def test_what_pillow_thinks_of_a_picture_reaches_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)  # 64 are suspicious, 80 would be refused
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert WHOLE.pixels(encoded(Image.new("RGB", (8, 8), BLUE))).shape == (3, 8, 8)


@pytest.mark.parametrize("kind", ["EPS", "GIF", "PPM", "ICO", "PDF", "TGA", "nothing"])
def test_a_picture_of_another_format_is_bad_whatever_it_calls_itself(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most of all an EPS, which is a program: Pillow gives it to Ghostscript."""
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    data = DATA[kind] if kind in DATA else encoded(Image.new("RGB", (16, 16), BLUE), kind)
    with pytest.raises(BadImage, match=r"^not one of JPEG, PNG, WEBP, BMP, TIFF$"):
        WHOLE.pixels(data)


def test_mnist_opens_no_other_formats_either(tmp_path: Path) -> None:
    from tests.wae_core.data.test_sources import write_parquet

    for part in ("train", "test"):
        write_parquet(tmp_path / f"{part}.parquet", [EPS])
    with pytest.raises(ValueError, match=r"train.parquet:0 cannot be decoded: not one of JPEG"):
        read_mnist(tmp_path)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_opened_under_any_name(kind: str) -> None:
    assert WHOLE.pixels(encoded(Image.new("RGB", (8, 8), BLUE), kind)).shape == (3, 8, 8)


def test_the_picture_of_a_telephone_is_a_jpeg_though_it_holds_two() -> None:
    two = [Image.new("RGB", (8, 8), (9, 9, 9))]
    pixels = WHOLE.pixels(encoded(Image.new("RGB", (8, 8), BLUE), "MPO", save_all=True, append_images=two))
    assert pixels[2].min() > 180
