"""From an encoded picture to the pixels that are trained on: what a viewer shows, on one background."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from wae_core.data.interface import BadImage

# What is opened, whatever a file calls itself. Pillow would try all that it knows, and start Ghostscript for an EPS.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
FILTER = "PIL lanczos"  # it antialiases: its support grows with the reduction
BACKGROUND = "#ffffff"  # below what is transparent, where files hold any colours, which no viewer shows

Images = NDArray[np.uint8]


def open_picture(encoded: bytes) -> Image.Image:
    """Return the picture, not decoded yet; of an animation, the first frame.

    Raises:
        BadImage: it is of none of FORMATS.
    """
    try:
        return Image.open(io.BytesIO(encoded), formats=FORMATS)
    except UnidentifiedImageError as error:  # whose own text is an address in memory
        raise BadImage(f"not one of {', '.join(FORMATS)}") from error


@dataclass(frozen=True)
class Preprocessing:
    """A centred square of `crop` pixels (None: the largest one), resized to `size` with FILTER; RGB."""

    crop: int | None
    size: int

    @property
    def crop_name(self) -> str:
        return "largest centred square" if self.crop is None else f"centre {self.crop}×{self.crop}"

    def pixels(self, encoded: bytes) -> Images:
        """One image, [3, size, size]: upright if its camera said how it was held, grey as RGB, upon BACKGROUND.

        Raises:
            BadImage: it cannot be decoded, is smaller than the crop, or has more than 8 bits a channel.
        """
        try:
            # A picture is taken, or left out with a reason: what Pillow thinks of it besides helps nobody.
            with warnings.catch_warnings(action="ignore"), open_picture(encoded) as opened:
                image = ImageOps.exif_transpose(opened)
                if image.mode.startswith(("I", "F")):
                    raise BadImage(f"mode {image.mode}: more than 8 bits a channel")
                side = self.crop or min(image.size)
                if side > min(image.size):
                    raise BadImage(f"{image.width}×{image.height}, smaller than the crop")
                left, top = (image.width - side) // 2, (image.height - side) // 2
                image = _opaque(image.crop((left, top, left + side, top + side)))
            image = image.resize((self.size, self.size), Image.Resampling.LANCZOS)
        except (BadImage, MemoryError):
            raise
        except Exception as error:  # Pillow's readers raise nearly anything on damaged files
            raise BadImage(str(error) or type(error).__name__) from error
        return np.asarray(image).transpose(2, 0, 1)


def _opaque(image: Image.Image) -> Image.Image:
    """The picture in RGB; what is transparent shows BACKGROUND."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    background = Image.new("RGBA", image.size, BACKGROUND)
    return Image.alpha_composite(background, image.convert("RGBA")).convert("RGB")
