"""Reading images from folders, zips, Parquet and IDX files, and what is said where that cannot be done."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import struct
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from wae_core.data.images import ImageData
from wae_core.data.interface import BadImage, ImageSource
from wae_core.data.mnist import read_mnist
from wae_core.data.sources import download, open_source

ROOT = Path(__file__).parents[3]
MNIST = Path(os.environ.get("BIGWAE_MNIST", ROOT.parent / "shared/data/mnist"))
DIGITS = np.random.RandomState(3).randint(0, 256, (12, 28, 28), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_parquet(path: Path, images: list[bytes | None], **options: int) -> None:
    """As the Hugging Face hub does: a struct column with bytes and path, and a label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"bytes": image, "path": None} for image in images]
    column = pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    pq.write_table(pa.table({"label": list(range(len(rows))), "image": column}), path, **options)


def idx(images: np.ndarray) -> bytes:
    return struct.pack(">4I", 0x803, *images.shape) + images.tobytes()


def contents(source: ImageSource) -> dict[str, bytes]:
    return {name: source.read(index) for index, name in enumerate(source.names)}


def refusal(read: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(ValueError, match=r"\w") as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- folders and zips


def test_a_folder_and_a_zip_of_it_hold_the_same_images_in_the_order_of_their_names(tmp_path: Path) -> None:
    expected = {"b/1.JPG": b"one", "b/2.jpeg": b"two", "a.png": b"three"}
    others = {"list.txt": b"x", ".hidden.png": b"x", "__MACOSX/b/1.JPG": b"x", "b/._1.jpg": b"x", ".d/1.png": b"x"}
    folder = tmp_path / "images"
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        for name, data in (expected | others).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
            archive.writestr(name, data)
        archive.writestr("folder.png/", b"")
        archive.writestr("../../escape.png", b"x")
    (folder / "folder.png").mkdir()
    for path, kind in ((folder, "folder"), (tmp_path / "images.zip", "zip")):
        source = open_source(path)
        assert source.kind == kind and source.names == ("a.png", "b/1.JPG", "b/2.jpeg")
        assert contents(source) == expected


def test_a_fingerprint_tells_other_images_but_not_another_place_or_order(tmp_path: Path) -> None:
    def packed(path: str, images: dict[str, bytes]) -> str:
        with zipfile.ZipFile(tmp_path / path, "w") as archive:
            for name, data in images.items():
                archive.writestr(name, data)
        return open_source(tmp_path / path).fingerprint

    one = packed("1.zip", {"a.png": b"aa", "b.png": b"bb"})
    assert packed("2.zip", {"b.png": b"bb", "a.png": b"aa"}) == one
    assert packed("3.zip", {"a.png": b"aa", "b.png": b"bc"}) != one
    assert packed("4.zip", {"a.png": b"aa", "c.png": b"bb"}) != one


def test_a_damaged_member_of_a_zip_is_one_bad_image(tmp_path: Path) -> None:
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"first image")
        archive.writestr("b.png", b"second image")
    path.write_bytes(path.read_bytes().replace(b"first image", b"f1rst image", 1))
    source = open_source(path)
    with pytest.raises(BadImage, match="CRC"):
        source.read(0)
    assert source.read(1) == b"second image"


def test_sources_that_hold_no_images(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text/list.txt").write_text("1.jpg")
    with zipfile.ZipFile(tmp_path / "text.zip", "w") as archive:
        archive.writestr("list.txt", "1.jpg")
    for name in ("text", "text.zip"):
        assert "holds no images" in refusal(open_source, tmp_path / name)
    with zipfile.ZipFile(tmp_path / "whole.zip", "w") as archive:
        archive.writestr("1.jpg", bytes(1000))
    (tmp_path / "cut.zip").write_bytes((tmp_path / "whole.zip").read_bytes()[:500])
    assert "not a zip, or its end is missing" in refusal(open_source, tmp_path / "cut.zip")
    assert "does not exist" in refusal(open_source, tmp_path / "nowhere")
    assert "neither a folder nor a zip" in refusal(open_source, tmp_path / "text/list.txt")


# --- Parquet


def test_parquet_rows_come_in_the_order_of_the_files_across_row_groups(tmp_path: Path) -> None:
    images: list[bytes | None] = [bytes([i]) * 3 for i in range(25)]
    write_parquet(tmp_path / "data/train-00001-of-00002.parquet", images[12:], row_group_size=4)
    write_parquet(tmp_path / "data/train-00000-of-00002.parquet", images[:12], row_group_size=5)
    source = open_source(tmp_path)
    assert source.kind == "parquet" and list(contents(source).values()) == images
    assert [source.read(index) for index in reversed(range(25))] == images[::-1]
    assert source.names[13] == "data/train-00001-of-00002.parquet:1"


def test_a_row_without_bytes_is_one_bad_image(tmp_path: Path) -> None:
    write_parquet(tmp_path / "some.parquet", [b"a", None, b"c"])
    source = open_source(tmp_path / "some.parquet")
    with pytest.raises(BadImage, match="no bytes"):
        source.read(1)
    assert source.read(2) == b"c"


def test_parquet_that_cannot_be_used(tmp_path: Path) -> None:
    tables: list[dict[str, list[Any]]] = [
        {"picture": [b"x"], "label": [1]},
        {"image": [b"x"]},
        {"image": [{"path": "1.png"}]},
    ]
    for number, columns in enumerate(tables):
        pq.write_table(pa.table(columns), tmp_path / f"{number}.parquet")
        message = refusal(open_source, tmp_path / f"{number}.parquet")
        assert "no column 'image' with bytes: its columns are " + ", ".join(columns) in message
    write_parquet(tmp_path / "empty.parquet", [])
    assert "no rows" in refusal(open_source, tmp_path / "empty.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "0.parquet").read_bytes()[:-20])
    assert "cut.parquet is not a Parquet file" in refusal(open_source, tmp_path / "cut.parquet")
    write_parquet(tmp_path / "part/train-00000-of-00003.parquet", [b"x"])
    write_parquet(tmp_path / "part/train-00002-of-00003.parquet", [b"x"])
    assert "2 of the 3 files train-*-of-00003.parquet" in refusal(open_source, tmp_path / "part")


# --- MNIST


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_pairs(tmp_path: Path, suffix: str) -> None:
    for name, images in (("train", DIGITS[:9]), ("t10k", DIGITS[9:])):
        data = idx(images)
        (tmp_path / f"{name}-images-idx3-ubyte{suffix}").write_bytes(gzip.compress(data) if suffix else data)
    train, test, kind = read_mnist(tmp_path)
    assert kind == "idx" and train.dtype == test.dtype == np.uint8
    np.testing.assert_array_equal(train, DIGITS[:9, None])
    np.testing.assert_array_equal(test, DIGITS[9:, None])


def test_mnist_as_parquet(tmp_path: Path) -> None:
    write_parquet(tmp_path / "mnist/train-00000-of-00001.parquet", [png(image) for image in DIGITS[:9]])
    write_parquet(tmp_path / "mnist/test-00000-of-00001.parquet", [png(image) for image in DIGITS[9:]])
    train, test, kind = read_mnist(tmp_path)
    assert kind == "parquet"
    np.testing.assert_array_equal(train, DIGITS[:9, None])
    np.testing.assert_array_equal(test, DIGITS[9:, None])


def test_a_folder_without_mnist(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(DIGITS))  # the test images are missing
    assert "holds neither train-images-idx3-ubyte[.gz] and t10k" in refusal(read_mnist, tmp_path)
    write_parquet(tmp_path / "train.parquet", [png(DIGITS[0])])
    assert "nor train*.parquet and test*.parquet" in refusal(read_mnist, tmp_path)
    write_parquet(tmp_path / "test.parquet", [png(DIGITS[0]), png(DIGITS[0, :20])])
    assert "test.parquet:1 cannot be decoded: it is 28×20" in refusal(read_mnist, tmp_path)


@pytest.mark.skipif(not MNIST.is_dir(), reason="no copy of MNIST: set BIGWAE_MNIST")
def test_the_embedded_digits_are_in_the_real_training_set(digits: ImageData) -> None:
    train, test, _ = read_mnist(MNIST)
    assert train.shape == (60000, 1, 28, 28) and test.shape == (10000, 1, 28, 28)
    assert {image.tobytes() for image in digits.train.numpy()} <= {image.tobytes() for image in train}


# --- the Hugging Face hub


def test_no_huggingface_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"celeba could not be downloaded \(.*pip install.*\): give SOURCE="):
        download("celeba")


def run_download(endpoint: str, cache: Path) -> str:
    """download('mnist') in a process of its own, since huggingface_hub reads its settings when imported."""
    pytest.importorskip("huggingface_hub")
    code = (
        "from wae_core.data.sources import download\ntry: print(download('mnist'))\n"
        "except ValueError as error: print('refused:', error)"
    )
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment = kept | {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_no_network_is_one_sentence(tmp_path: Path) -> None:
    said = run_download("http://127.0.0.1:9", tmp_path)
    assert said.startswith("refused: mnist could not be downloaded (") and said.endswith(
        "give SOURCE=<zip or folder>"
    )
    assert "Connection refused" in said and "\n" not in said


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    """A server that answers as the hub does for one data set; yields its address."""
    files = {}
    for split, images in (("train", DIGITS[:9]), ("test", DIGITS[9:])):
        write_parquet(tmp_path / "file", [png(image) for image in images])
        files[f"mnist/{split}-00000-of-00001.parquet"] = (tmp_path / "file").read_bytes()
    files["README.md"] = b"not wanted"
    revision, prefix = "0123456789" * 4, "/datasets/ylecun/mnist/resolve/"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix(f"{prefix}{revision}/")
            if self.path == "/api/datasets/ylecun/mnist/revision/main":
                siblings = [{"rfilename": file} for file in files]
                body = json.dumps({"id": "ylecun/mnist", "sha": revision, "siblings": siblings}).encode()
            elif self.path.startswith(f"/api/datasets/ylecun/mnist/tree/{revision}"):
                entries = [
                    {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for file, data in files.items()
                ]
                body = json.dumps(entries).encode()
            elif name in files and name != "README.md":
                body = files[name]
            else:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", revision)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_download_gives_a_folder_of_parquet_named_by_its_revision(tmp_path: Path, hub: str) -> None:
    folder = Path(run_download(hub, tmp_path / "cache"))
    assert folder.name == "0123456789" * 4
    train, test, kind = read_mnist(folder)
    assert kind == "parquet"
    np.testing.assert_array_equal(train, DIGITS[:9, None])
    np.testing.assert_array_equal(test, DIGITS[9:, None])
