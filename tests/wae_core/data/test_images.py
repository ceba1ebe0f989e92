"""The embedded digits: the split, the classes, and pixels to and from 8 bits."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.packed import pack_noise
from wae_core.data.images import DIGITS, ImageData, data_sha256, image_shape, load_dataset, to_float, to_uint8
from wae_core.data.manifest import Manifest, images_sha256

LEVELS = torch.arange(256, dtype=torch.uint8)


def classes(images: torch.Tensor, digit_classes: dict[bytes, int]) -> list[int]:
    return [digit_classes[image.numpy().tobytes()] for image in images]


def test_shapes_and_ranges(digits: ImageData) -> None:
    assert digits.train.shape == (4000, 1, 28, 28) and digits.held_out.shape == (1000, 1, 28, 28)
    assert digits.train.dtype == digits.held_out.dtype == torch.uint8
    assert digits.train.min() == 0 and digits.train.max() == 255
    assert digits.image_shape == (1, 28, 28) and digits.pixel_range == (0.0, 1.0)


def test_no_pixel_of_the_digits_and_not_their_order_may_change(digits: ImageData) -> None:
    """The hash is that of the pixels which studies were made with before the digits came to lie here."""
    pixels = torch.cat([digits.train, digits.held_out]).numpy().tobytes()
    expected = "d7099ff73588a67d7a5e8930873d86fffe892ba48884191961bdb5103d5b51b5"
    assert hashlib.sha256(pixels).hexdigest() == expected
    assert expected in (DIGITS / "README.md").read_text()


def test_the_split_is_disjoint_and_loses_nothing(digits: ImageData, digit_classes: dict[bytes, int]) -> None:
    assert len(digit_classes) == 5000
    train, held_out = ({image.numpy().tobytes() for image in part} for part in (digits.train, digits.held_out))
    assert not train & held_out
    assert train | held_out == digit_classes.keys()


def test_every_class_has_its_share_of_both_parts(digits: ImageData, digit_classes: dict[bytes, int]) -> None:
    assert np.bincount(classes(digits.held_out, digit_classes)).tolist() == [100] * 10
    assert np.bincount(classes(digits.train, digit_classes)).tolist() == [400] * 10


def test_images_stand_upright(digits: ImageData, digit_classes: dict[bytes, int]) -> None:
    """A mean 1 is tall and narrow, with its ink in the middle columns."""
    ones = [image for image in digits.train if digit_classes[image.numpy().tobytes()] == 1]
    mean = torch.stack(ones).float().mean(0)[0]
    assert mean[:, 12:17].sum() > 0.6 * mean.sum()
    assert mean[12:17, :].sum() < 0.5 * mean.sum()


def test_the_identity_of_the_digits_is_for_ever(digits: ImageData) -> None:
    pixels = torch.cat([digits.train, digits.held_out]).numpy().tobytes()
    header = "uint8 5000×1×28×28, the first 4000 to train on\n".encode()
    assert data_sha256("digits") == hashlib.sha256(header + pixels).hexdigest()


def test_the_identity_differs_where_a_pixel_the_order_the_shape_or_the_split_does() -> None:
    images = np.random.RandomState(0).randint(0, 256, (2050, 1, 2, 4), dtype=np.uint8)
    other_pixel = images.copy()
    other_pixel[-1, 0, 1, 3] ^= 1
    others = [
        images_sha256(other_pixel, 2000),
        images_sha256(images[[1, 0, *range(2, 2050)]], 2000),
        images_sha256(images.reshape(2050, 1, 4, 2), 2000),
        images_sha256(images, 1999),
        images_sha256(images[:-1], 2000),
    ]
    same = images_sha256(np.asfortranarray(images), 2000)  # laid out otherwise in memory
    assert same == images_sha256(images, 2000) and len({same, *others}) == 6


def test_no_identity_without_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'celeba' is not in .*make data DATA=celeba"):
        data_sha256("celeba", tmp_path)
    with pytest.raises(ValueError, match=r"unknown data set '\.\./celeba'"):
        data_sha256("../celeba", tmp_path)


@pytest.mark.parametrize("shape", [(3, 10**9, 10**9), (1, 28, 1025), (10**9, 28, 28), (2, 28, 28), (3, 0, 28)])
def test_a_shape_that_no_image_has_is_refused(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    (tmp_path / "mine").mkdir()
    Manifest("mine", {}, 10, 8, (10, *shape), "0", None, None, None, "a rule", None, []).write(tmp_path / "mine")
    for read in (image_shape, load_dataset, data_sha256):
        with pytest.raises(ValueError, match=r"manifest\.json cannot be used .*1 or 3 channels and sides of"):
            read("mine", tmp_path)


@pytest.mark.parametrize("file", ["manifest.json", "images.npy"])
def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(tmp_path: Path, file: str) -> None:
    (tmp_path / "mine").mkdir()
    Manifest("mine", {}, 4, 2, (4, 1, 8, 8), "0", None, None, None, "a rule", None, []).write(tmp_path / "mine")
    (tmp_path / "mine" / file).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "mine" / file)
    with pytest.raises(ValueError, match="it is no file"):
        load_dataset("mine", tmp_path)


@pytest.mark.parametrize("position", range(0, 128, 3))
def test_a_damaged_header_is_refused_in_a_sentence(tmp_path: Path, position: int) -> None:
    """numpy reads it as Python's source; a space more may change nothing."""
    pack_noise(tmp_path)
    file = tmp_path / "noise" / "images.npy"
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)
    with contextlib.suppress(ValueError):
        load_dataset("noise", tmp_path)


def test_loading_twice_gives_the_same(digits: ImageData) -> None:
    again = load_dataset("digits")
    assert torch.equal(again.train, digits.train) and torch.equal(again.held_out, digits.held_out)


def test_unknown_data_set() -> None:
    with pytest.raises(ValueError, match=r"unknown data set 'svhn'.*digits"):
        load_dataset("svhn")


def test_colour_images_are_square_around_zero() -> None:
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    data = ImageData("colour", images, images)
    assert data.image_shape == (3, 8, 8) and data.pixel_range == (-1.0, 1.0)


@pytest.mark.parametrize("pixel_range", [(0.0, 1.0), (-1.0, 1.0)])
def test_every_level_survives_the_round_trip(pixel_range: tuple[float, float]) -> None:
    low, high = pixel_range
    floats = to_float(LEVELS, pixel_range)
    assert floats.dtype == torch.float32
    assert float(floats[0]) == low and float(floats[-1]) == high
    assert float(floats.min()) == low and float(floats.max()) == high  # nothing sticks out of the range
    np.testing.assert_allclose(floats.numpy(), low + np.arange(256) / 255 * (high - low), atol=1e-7)
    back = to_uint8(floats, pixel_range)
    assert back.dtype == torch.uint8 and torch.equal(back, LEVELS)


def test_to_uint8_rounds_to_the_nearest_level_and_clamps() -> None:
    values = torch.tensor([0.4, 0.6, 100.4, 100.6, 254.6]) / 255
    assert to_uint8(values, (0.0, 1.0)).tolist() == [0, 1, 100, 101, 255]
    assert to_uint8(values * 2 - 1, (-1.0, 1.0)).tolist() == [0, 1, 100, 101, 255]
    assert to_uint8(torch.tensor([-3.0, 7.0]), (0.0, 1.0)).tolist() == [0, 255]


def test_the_shape_of_a_known_set_is_known_before_it_is_packed(digits: ImageData, tmp_path: Path) -> None:
    assert image_shape("digits", tmp_path) == digits.image_shape
    assert (image_shape("mnist", tmp_path), image_shape("celeba", tmp_path)) == ((1, 28, 28), (3, 64, 64))
    for name in ("cifar", "../digits"):
        with pytest.raises(ValueError, match=r"unknown data set.*make data DATA=folder"):
            image_shape(name, tmp_path)


def test_the_shape_of_a_packed_set_is_its_manifest_s(tmp_path: Path) -> None:
    for name in ("celeba", "mine"):
        (tmp_path / name).mkdir()
        shape = (10, 3, 32, 32)
        Manifest(name, {}, 10, 8, shape, "0", None, None, None, "a rule", None, []).write(tmp_path / name)
        assert image_shape(name, tmp_path) == (3, 32, 32)
