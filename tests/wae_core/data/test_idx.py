"""The IDX reader: MNIST's images and labels, plain and gzipped, and one sentence for what is not such a file."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from wae_core.data.idx import read_idx

IMAGES = np.random.RandomState(3).randint(0, 256, (12, 28, 28), dtype=np.uint8)
LABELS = np.arange(7, dtype=np.uint8)


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    """The bytes of an IDX file; kind 8 is the format's code of unsigned bytes."""
    return bytes([0, 0, kind, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def refusal(path: Path, item_shape: tuple[int, ...]) -> str:
    with pytest.raises(ValueError, match=path.name) as caught:
        read_idx(path, item_shape)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("array", [IMAGES, IMAGES[:, :20, :9], LABELS], ids=["images", "oblong", "labels"])
def test_files_are_read_plain_and_gzipped(tmp_path: Path, array: np.ndarray) -> None:
    (tmp_path / "plain").write_bytes(idx(array))
    (tmp_path / "packed.gz").write_bytes(gzip.compress(idx(array)))
    for name in ("plain", "packed.gz"):
        read = read_idx(tmp_path / name, array.shape[1:])
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize(
    ("data", "item_shape", "message"),
    [
        (idx(IMAGES)[:-1], (28, 28), "has 9423 bytes, but its header's shape 12×28×28 needs 9424"),
        (idx(IMAGES) + b"\0", (28, 28), "has 9425 bytes, but its header's shape 12×28×28 needs 9424"),
        (idx(LABELS)[:-1], (), "has 14 bytes, but its header's shape 7 needs 15"),
        (idx(LABELS), (28, 28), "too short"),
        (idx(np.zeros(99, np.uint8)), (28, 28), "begins with 0x00000801, not 0x00000803"),
        (idx(IMAGES), (), "begins with 0x00000803, not 0x00000801"),
        (idx(IMAGES, kind=13), (28, 28), "begins with 0x00000d03, not 0x00000803"),
        (idx(IMAGES[:, :, :27]), (28, 28), "is of shape 12×28×27, but N×28×28 with N at least 1 is wanted"),
        (idx(IMAGES[:0]), (28, 28), "is of shape 0×28×28"),
        (idx(LABELS[:0]), (), "is of shape 0, but N with N at least 1 is wanted"),
        (b"\0\0\x08\x03", (28, 28), "has 4 bytes: too short"),
    ],
)
def test_what_is_no_such_file(tmp_path: Path, data: bytes, item_shape: tuple[int, ...], message: str) -> None:
    (tmp_path / "plain").write_bytes(data)
    (tmp_path / "packed.gz").write_bytes(gzip.compress(data))
    for name in ("plain", "packed.gz"):
        assert message in refusal(tmp_path / name, item_shape)


def test_damaged_gzip(tmp_path: Path) -> None:
    whole = gzip.compress(idx(IMAGES))
    for number, data in enumerate((whole[:-9], whole[:100] + b"xxxx" + whole[104:], b"no gzip")):
        path = tmp_path / f"{number}.gz"
        path.write_bytes(data)
        assert "is damaged or cut off" in refusal(path, (28, 28))
