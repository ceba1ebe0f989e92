"""Packing data sets: the pixels, the split, kills and resumption, refusals that write nothing, and loading them."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from sweep.command import main
from wae_core.data.images import data_sha256, load_dataset
from wae_core.data.interface import BadImage
from wae_core.data.pixels import Preprocessing
from wae_core.data.preparing import split_order
from wae_core.run import Run
from wae_core.training.loop import train
from wae_core.training.state import TrainingState

ROOT = Path(__file__).parents[3]
BAD = 41  # the image that is cut off


def jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def make_faces(count: int) -> dict[str, bytes]:
    """JPEGs of CelebA's 178×218 pixels, all different; every 60th is cut off, number BAD first."""
    random = np.random.RandomState(0)
    images = {}
    for number in range(count):
        coarse = Image.fromarray(random.randint(0, 256, (12, 10, 3), dtype=np.uint8))
        encoded = jpeg(np.asarray(coarse.resize((178, 218))))
        whole = len(encoded) if number % 60 != BAD else len(encoded) // 2
        images[f"img_align_celeba/{number + 1:06d}.jpg"] = encoded[:whole]
    return images


def pixels_of(images: dict[str, bytes]) -> np.ndarray:
    """The pixels of each image by Pillow alone, [N, 3, 64, 64]; zero for those that are cut off."""
    pixels = np.zeros((len(images), 3, 64, 64), np.uint8)
    for index, encoded in enumerate(images.values()):
        if index % 60 != BAD:
            middle = Image.open(io.BytesIO(encoded)).crop((19, 39, 159, 179))
            pixels[index] = np.moveaxis(np.asarray(middle.resize((64, 64), Image.Resampling.LANCZOS)), -1, 0)
    return pixels


@pytest.fixture(scope="session")
def faces() -> dict[str, bytes]:
    """60 JPEGs of CelebA's 178×218 pixels, all different; number BAD is cut off."""
    return make_faces(60)


@pytest.fixture(scope="session")
def expected(faces: dict[str, bytes]) -> np.ndarray:
    """The pixels of each image by Pillow alone, [60, 3, 64, 64]; zero for the one that is cut off."""
    return pixels_of(faces)


def write_zip(path: Path, images: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in images.items():
            archive.writestr(name, data)
        archive.writestr("__MACOSX/img_align_celeba/._000001.jpg", b"a resource fork")
    return path


def write_folder(path: Path, images: dict[str, bytes]) -> Path:
    for name, data in images.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def write_parquet(path: Path, images: dict[str, bytes]) -> Path:
    path.mkdir()
    rows = [{"bytes": data} for data in images.values()]
    for shard, part in enumerate((rows[:33], rows[33:])):
        file = path / f"train-{shard:05d}-of-00002.parquet"
        pq.write_table(pa.table({"image": pa.array(part)}), file, row_group_size=7)
    return path


def prepare(*words: object) -> int:
    return main(["data", *map(str, words)])


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "sweep.command", "data", *map(str, words)]


def manifest_of(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return document


def in_order(pixels: np.ndarray, skipped: tuple[int, ...]) -> np.ndarray:
    """The images of a packed set: NumPy's frozen permutation of seed 0, without the skipped ones."""
    return pixels[[i for i in np.random.RandomState(0).permutation(len(pixels)) if i not in skipped]]


# --- what is packed


@pytest.fixture(scope="session")
def packed(faces: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder that `make data DATA=celeba SOURCE=<zip>` leaves."""
    work = tmp_path_factory.mktemp("make")
    words = [f"DATA=celeba SOURCE={write_zip(work / 'faces.zip', faces)} ARGS=--data={work / 'data'}"]
    bin_folder = f"BIN={Path(sys.executable).parent}"
    make = ["make", "--no-print-directory", "--old-file=.venv/ready", bin_folder, "data", *words[0].split()]
    done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "59 images of 3×64×64, 54 to train on and 5 held out, 1 skipped" in done.stdout
    assert "skipped img_align_celeba/000042.jpg: image file is truncated" in done.stderr
    assert "the whole celeba has 202,599 images, this source 60" in done.stderr
    return work / "data"


def test_celeba_is_cropped_and_resized_and_its_order_is_a_frozen_permutation(
    packed: Path, expected: np.ndarray
) -> None:
    images = np.load(packed / "celeba/images.npy", allow_pickle=False)
    np.testing.assert_array_equal(images, in_order(expected, (BAD,)))


def test_the_manifest_says_what_was_done_and_nothing_else_is_left(packed: Path) -> None:
    assert sorted(path.name for path in (packed / "celeba").iterdir()) == ["images.npy", "manifest.json"]
    manifest = manifest_of(packed / "celeba")
    pixels = np.load(packed / "celeba/images.npy").tobytes()
    header = "uint8 59×3×64×64, the first 54 to train on\n".encode()
    assert manifest["sha256"] == hashlib.sha256(header + pixels).hexdigest() == data_sha256("celeba", packed)
    assert (manifest["format"], manifest["name"], manifest["count"], manifest["train_count"]) == (2, "celeba", 59, 54)
    assert manifest["shape"] == [59, 3, 64, 64]
    assert (manifest["crop"], manifest["filter"], manifest["split_seed"]) == ("centre 140×140", "PIL lanczos", 0)
    (skipped,) = manifest["skipped"]
    assert skipped["name"] == "img_align_celeba/000042.jpg" and "truncated" in skipped["reason"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_two_processes_and_another_kind_of_source_give_the_same_file(tmp_path: Path, kind: str) -> None:
    many = make_faces(180)  # three chunks
    backwards = dict(reversed(many.items()))
    one = write_zip(tmp_path / "one.zip", backwards)
    two = write_folder(tmp_path / "two", backwards) if kind == "folder" else write_parquet(tmp_path / "two", many)
    assert prepare("celeba", "--source", one, "--data", tmp_path / "data1", "--processes", 1) == 0
    assert prepare("celeba", "--source", two, "--data", tmp_path / "data2", "--processes", 2) == 0
    first, second = (tmp_path / f"data{n}/celeba" for n in (1, 2))
    assert (first / "images.npy").read_bytes() == (second / "images.npy").read_bytes()
    assert manifest_of(second)["source"]["kind"] == kind
    assert len(manifest_of(second)["skipped"]) == 3


def test_a_folder_of_unlike_images_gets_its_largest_squares(tmp_path: Path) -> None:
    wide, tall = np.zeros((20, 50, 3), np.uint8), np.zeros((90, 40), np.uint8)
    wide[:, 15:35], tall[25:65] = (10, 200, 90), 77  # just the centred square is coloured
    source = write_folder(tmp_path / "mine", {"wide.png": b"", "deep/tall.png": b"", "note.jpg": b"no image"})
    Image.fromarray(wide).save(source / "wide.png")
    Image.fromarray(tall).save(source / "deep/tall.png")
    for number in (1, 2):
        Image.new("RGB", (9, 9), (number, number, number)).save(source / f"deep/{number}.png")
    words = ("folder", "--name", "cats", "--size", 16, "--source", source, "--data", tmp_path / "data")
    assert prepare(*words, "--processes", 1) == 0
    data = load_dataset("cats", tmp_path / "data")
    assert data.name == "cats" and data.image_shape == (3, 16, 16)
    assert len(data.train) == len(data.held_out) == 2
    images = {tuple(image[:, 8, 8].tolist()): image for image in (*data.train, *data.held_out)}
    assert images.keys() == {(10, 200, 90), (77, 77, 77), (1, 1, 1), (2, 2, 2)}
    assert all((image == image[:, :1, :1]).all() for image in images.values())
    manifest = manifest_of(tmp_path / "data/cats")
    assert manifest["crop"] == "largest centred square"
    assert [entry["name"] for entry in manifest["skipped"]] == ["note.jpg"]


def test_mnist_keeps_its_order_and_its_official_test_files(tmp_path: Path) -> None:
    digits = np.random.RandomState(1).randint(0, 256, (7, 1, 28, 28), dtype=np.uint8)
    for name, images in (("train", digits[:4]), ("t10k", digits[4:])):
        header = struct.pack(">4I", 0x803, len(images), 28, 28)
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(header + images.tobytes())
    for _ in range(2):  # the second time, nothing is to be done
        assert prepare("mnist", "--source", tmp_path, "--data", tmp_path / "data") == 0
    data = load_dataset("mnist", tmp_path / "data")
    np.testing.assert_array_equal(data.train.numpy(), digits[:4])
    np.testing.assert_array_equal(data.held_out.numpy(), digits[4:])
    assert data.pixel_range == (0.0, 1.0)
    assert manifest_of(tmp_path / "data/mnist")["split"] == "the official test files"


def test_the_split_is_frozen_and_holds_out_a_tenth_but_at_least_2_and_at_most_20000() -> None:
    order, train_count = split_order(10, ())
    assert order.tolist() == [2, 8, 4, 9, 1, 6, 7, 3, 0, 5] and train_count == 8
    order, train_count = split_order(10, {9, 0})
    assert order.tolist() == [2, 8, 4, 1, 6, 7, 3, 5] and train_count == 6
    order, train_count = split_order(202_599, {5})
    assert len(order) == 202_598 and train_count == 182_598 and len(set(order.tolist()) | {5}) == 202_599


@pytest.mark.slow
def test_as_many_images_are_held_out_as_are_asked_for(
    faces: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, data = write_zip(tmp_path / "faces.zip", faces), tmp_path / "data"
    words = ("folder", "--name", "mine", "--source", source, "--data", data, "--processes", 1)
    assert prepare(*words, "--held-out", 1) == 2
    assert "held-out is 1: it is at least 2" in capsys.readouterr().err
    assert prepare(*words, "--held-out", 1000) == 2 and not data.exists()
    assert "to train on" in capsys.readouterr().err
    assert prepare(*words, "--held-out", 9) == prepare(*words, "--held-out", 9) == 0
    packed = load_dataset("mine", data)
    assert len(packed.held_out) == 9 and manifest_of(data / "mine")["split"].startswith("the last 9 images")
    capsys.readouterr()
    assert prepare(*words) == 2
    assert "holds another source, size, crop or split" in capsys.readouterr().err
    assert prepare("mnist", "--source", source, "--data", data, "--held-out", 9) == 2


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Image.new("RGB", (139, 200)), "139×200, smaller than the crop"),
        (lambda: Image.fromarray(np.full((200, 200), 30000, np.uint16)), "more than 8 bits a channel"),
    ],
)
def test_images_that_would_be_distorted_are_bad(make: Callable[[], Image.Image], reason: str) -> None:
    buffer = io.BytesIO()
    make().save(buffer, "PNG")
    with pytest.raises(BadImage, match=reason):
        Preprocessing(140, 64).pixels(buffer.getvalue())


def test_a_decompression_bomb_is_bad() -> None:
    buffer = io.BytesIO()
    Image.new("1", (8, 8)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = struct.pack(">2I", 20_000, 20_000)  # the width and height that its header claims
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(BadImage, match="decompression bomb"):
        Preprocessing(None, 64).pixels(bytes(data))


def test_photographs_are_turned_upright() -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:20] = 255  # the camera lay on its side: what is on top belongs to the right
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(buffer, "JPEG", exif=exif)
    upright = Preprocessing(None, 8).pixels(buffer.getvalue())
    assert upright[:, :, 5:].min() > 240 and upright[:, :, :3].max() < 15


# --- interruptions


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_ends_with_the_same_file(tmp_path: Path) -> None:
    """First Ctrl-C, then kill -9, then to the end."""
    psutil = pytest.importorskip("psutil")
    count = 1200
    many = make_faces(count)
    source = write_zip(tmp_path / "many.zip", many)
    words = command("celeba", "--source", source, "--data", tmp_path / "data", "--processes", 1)
    folder = tmp_path / "data/celeba"

    done = 0
    for signal_number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        with (tmp_path / "said").open("w") as said:
            process = subprocess.Popen(words, cwd=ROOT, stdout=said, stderr=said, start_new_session=True)
        while chunks_done(folder) <= done:
            assert process.poll() is None
            time.sleep(0.005)
        children = psutil.Process(process.pid).children(recursive=True)
        if signal_number == signal.SIGINT:
            os.killpg(process.pid, signal.SIGINT)  # a terminal's Ctrl-C reaches the decoding processes as well
        else:
            process.kill()
        assert process.wait(60) == code
        assert "Traceback" not in (tmp_path / "said").read_text()
        assert done < chunks_done(folder) < count // 64  # it went on, and was not at its end
        assert not any((folder / "images.partial").read_bytes()[-1000:])  # what was waiting was given up
        done = chunks_done(folder)
        with pytest.raises(ValueError, match=r"is not in .*make data DATA=celeba"):
            load_dataset("celeba", tmp_path / "data")
        deadline = time.monotonic() + 10
        while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children):
            assert time.monotonic() < deadline  # no decoding process outlives its parent
            time.sleep(0.005)

    again = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"goes on: {done * 64:,} of {count:,} images are there" in again.stderr
    images = np.load(folder / "images.npy", allow_pickle=False)
    bad = tuple(range(BAD, count, 60))
    np.testing.assert_array_equal(images, in_order(pixels_of(many), bad))
    assert len(manifest_of(folder)["skipped"]) == len(bad)
    assert sorted(path.name for path in folder.iterdir()) == ["images.npy", "manifest.json"]


def chunks_done(folder: Path) -> int:
    progress = folder / "progress.json"
    return len(json.loads(progress.read_text())["done"]) if progress.exists() else 0


def test_what_was_begun_from_another_source_is_begun_anew(
    packed: Path, faces: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "data/celeba"
    folder.mkdir(parents=True)
    (folder / "images.partial").write_bytes(bytes(60 * 3 * 64 * 64))
    (folder / "progress.json").write_text('{"key": "another", "done": [0], "skipped": {}}')
    source = write_zip(tmp_path / "faces.zip", faces)
    assert prepare("celeba", "--source", source, "--data", tmp_path / "data", "--processes", 1) == 0
    assert (folder / "images.npy").read_bytes() == (packed / "celeba/images.npy").read_bytes()


def test_packing_again_changes_nothing_and_another_source_is_refused(
    packed: Path, faces: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (packed / "celeba").iterdir()}
    same = write_zip(tmp_path / "same.zip", dict(reversed(faces.items())))
    assert prepare("celeba", "--source", same, "--data", packed) == 0
    assert "is packed already" in capsys.readouterr().out
    assert prepare("celeba", "--data", packed) == 0  # nor is anything downloaded
    other = write_zip(tmp_path / "other.zip", dict(list(faces.items())[:20]))
    assert prepare("celeba", "--source", other, "--data", packed) == 2
    assert prepare("celeba", "--source", same, "--size", 32, "--data", packed) == 2
    assert prepare("folder", "--name", "celeba2", "--source", same, "--data", tmp_path, "--processes", 1) == 0
    assert prepare("celeba", "--name", "celeba2", "--source", same, "--data", tmp_path) == 2  # the crop differs
    assert capsys.readouterr().err.count("holds another source, size, crop or split") == 3
    assert before == {path: path.stat().st_mtime_ns for path in (packed / "celeba").iterdir()}


def test_two_packers_do_not_meet(faces: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "data/celeba"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # the weaker lock: the packer must want it for itself alone
        source = write_zip(tmp_path / "faces.zip", faces)
        assert prepare("celeba", "--source", source, "--data", tmp_path / "data") == 2
    assert "another process is packing into" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == [".lock"]


# --- bad input


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("celeba --source {empty}", "holds no images"),
        ("folder --name cats --source {empty}", "holds no images"),
        ("folder --source {faces}", "give NAME="),
        ("folder --name cats", "give SOURCE="),
        ("folder --name ../cats --source {faces}", "name is '../cats'"),
        ("folder --name digits --source {faces}", "another data set's"),
        ("celeba --name mnist --source {faces}", "another data set's"),
        ("celeba --source {tmp}/nowhere", "does not exist"),
        ("celeba --source {faces} --size 4", "from 8 to 1024"),
        ("celeba --source {faces} --processes 0", "at least 1"),
        ("celeba --source {faces} --processes 1025", "at most 1024"),
        ("mnist --source {faces} --size 32", "mnist keeps its 28×28"),
        ("mnist --source {short}", "its header's shape 3×28×28 needs 2368"),
        ("mnist --source {empty}", "holds neither train-images-idx3-ubyte[.gz]"),
        ("celeba --source {columns}", "no column 'image' with bytes: its columns are picture"),
        (
            "celeba --source {broken} --processes 1",
            "0 usable images of 2, but 2 to train on and 2 to hold out are needed; 1.jpg: ",
        ),
        ("celeba --check", "is not in "),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: str, sentence: str
) -> None:
    places = {name: tmp_path / name for name in ("tmp", "empty", "faces", "short", "columns", "broken")}
    for place in places.values():
        place.mkdir()
    (places["empty"] / "list.txt").write_text("no image")
    (places["faces"] / "1.jpg").write_bytes(jpeg(np.zeros((218, 178, 3), np.uint8)))
    for name in ("train", "t10k"):
        (places["short"] / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x803, 3, 28, 28) + bytes(99))
    pq.write_table(pa.table({"picture": [b"x"]}), places["columns"] / "1.parquet")
    for number in (1, 2):
        (places["broken"] / f"{number}.jpg").write_bytes(b"no image")
    assert prepare(*words.format(**places).split(), "--data", tmp_path / "data") == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and sentence in said
    assert not (tmp_path / "data").exists()


def test_a_source_that_vanishes_is_a_failure_and_not_a_bad_image(
    faces: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_folder(tmp_path / "faces", faces)
    (source / "vanished.jpg").symlink_to("img_align_celeba/000001.jpg")
    monkeypatch.setattr("wae_core.data.preparing.open_source", lambda path: vanish(path, "vanished.jpg"))
    assert prepare("celeba", "--source", source, "--data", tmp_path / "data", "--processes", 1) == 1
    assert "vanished.jpg" in capsys.readouterr().err
    assert not (tmp_path / "data/celeba/manifest.json").exists()


def vanish(path: Path, name: str) -> object:
    """The source at `path`, of which one image is lost after the names were read."""
    from wae_core.data.sources import open_source

    source = open_source(path)
    (path / name).unlink()
    return source


def test_help_and_words_that_do_not_exist() -> None:
    for words, code in ((["--help"], 0), ([], 2), (["svhn"], 2)):
        with pytest.raises(SystemExit) as caught:
            main(["data", *words])
        assert caught.value.code == code


# --- loading


def test_a_packed_set_is_memory_mapped_without_a_warning(packed: Path, expected: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = load_dataset("celeba", packed)
    images = in_order(expected, (BAD,))
    np.testing.assert_array_equal(data.train.numpy(), images[:54])
    np.testing.assert_array_equal(data.held_out.numpy(), images[54:])
    assert data.train.dtype == torch.uint8 and data.pixel_range == (-1.0, 1.0)
    assert str(packed / "celeba/images.npy") in Path("/proc/self/maps").read_text()
    data.train[0] = 0  # written to this process's copy, not to the file
    assert prepare("celeba", "--check", "--data", packed) == 0


def test_loading_what_is_not_there_says_which_command_makes_it(packed: Path, tmp_path: Path) -> None:
    shutil.copytree(packed / "celeba", tmp_path / "celeba")
    (tmp_path / "data").mkdir()
    for name, words in (
        ("celeba", r"^data set 'celeba' is not in .*/data/: make data DATA=celeba SOURCE=<zip or folder>$"),
        ("mnist", r"^data set 'mnist' is not in .*/data/: make data DATA=mnist SOURCE=<folder>$"),
        ("cats", r"^unknown data set 'cats': .*make data DATA=folder NAME=cats SOURCE="),
        ("../celeba", r"^unknown data set '../celeba'"),  # though there is one
    ):
        with pytest.raises(ValueError, match=words):
            load_dataset(name, tmp_path / "data")


def damaged(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "data")) / "celeba"


@pytest.mark.parametrize(
    ("key", "value"),
    [("shape", [59, 3, 64, 63]), ("shape", [58, 3, 64, 64]), ("count", 60), ("train_count", 59), ("format", 1)],
)
def test_a_manifest_that_does_not_fit_is_refused(packed: Path, tmp_path: Path, key: str, value: object) -> None:
    folder = damaged(packed, tmp_path)
    (folder / "manifest.json").write_text(json.dumps(manifest_of(folder) | {key: value}))
    with pytest.raises(ValueError, match=r"celeba.*(damaged|cannot be used).*delete"):
        load_dataset("celeba", tmp_path / "data")


def test_damaged_files_are_refused(packed: Path, tmp_path: Path) -> None:
    folder = damaged(packed, tmp_path)
    images = (folder / "images.npy").read_bytes()
    for data in (images[:-1], b"", b"no array"):
        (folder / "images.npy").write_bytes(data)
        with pytest.raises(ValueError, match=r"data set 'celeba' in .* is damaged \(.*make data DATA=celeba"):
            load_dataset("celeba", tmp_path / "data")
    (folder / "images.npy").write_bytes(images[:-1] + bytes([images[-1] ^ 1]))  # only its hash tells
    load_dataset("celeba", tmp_path / "data")
    assert prepare("celeba", "--check", "--data", tmp_path / "data") == 2
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be used"):
        load_dataset("celeba", tmp_path / "data")


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["dcgan", "resnet50v2"])
@pytest.mark.parametrize("algorithm", ["wae-mmd", "wae-gan"])
def test_a_packed_set_trains(packed: Path, make_run: Callable[..., Run], algorithm: str, architecture: str) -> None:
    data = load_dataset("celeba", packed)
    run = make_run(
        algorithm,
        dataset="celeba",
        width=4,
        batch_size=8,
        pretraining_images=8,
        architecture=architecture,
        log_prior=algorithm == "wae-gan",
    )
    state = TrainingState(run, data, torch.device("cpu"))
    initial = {name: tensor.clone() for name, tensor in state.autoencoder.state_dict().items()}
    checkpoints = list(train(run, data, torch.device("cpu"), state))
    assert [checkpoint.step for checkpoint in checkpoints] == [2, 4]
    assert all(math.isfinite(checkpoint.loss) and math.isfinite(checkpoint.penalty) for checkpoint in checkpoints)
    assert checkpoints[-1].diverged_at is None
    trained = state.autoencoder.state_dict()
    assert any(name.endswith("running_var") for name in trained)
    assert [name for name in trained if trained[name].equal(initial[name])] == []


def test_decoding_processes_do_without_torch() -> None:
    """One per core: each would hold 200 MB for nothing."""
    code = "import wae_core.data.command, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
