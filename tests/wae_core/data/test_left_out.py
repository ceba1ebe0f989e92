"""What is taken and what is left out of a folder of pictures, and what is said of it: nothing goes missing unseen."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sweep.command import main
from tests.wae_core.data.test_sources import png, refusal, write_parquet
from wae_core.data.images import load_dataset
from wae_core.data.preparing import same_pictures
from wae_core.data.sources import open_source


def pictures(count: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.RandomState(seed)
    return [random.randint(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(count)]


def save(folder: Path, images: list[np.ndarray]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(images):
        (folder / f"{number:02d}.png").write_bytes(png(pixels))
    return folder


def pack(source: Path, data: Path, name: str = "mine") -> dict[str, Any]:
    """The manifest of what `make data` makes of `source`, in pictures of 16×16."""
    words = ["folder", "--name", name, "--size", 16, "--source", source, "--data", data, "--processes", 1]
    assert main(["data", *map(str, words)]) == 0
    manifest: dict[str, Any] = json.loads((data / name / "manifest.json").read_text())
    return manifest


# --- what lies in a folder


def test_linked_folders_are_gone_through_once_whatever_they_lead_to(tmp_path: Path) -> None:
    source = save(tmp_path / "mine", pictures(3))
    save(source / "a", pictures(2, seed=1))
    save(tmp_path / "elsewhere/deep", pictures(4, seed=2))
    (source / "b").symlink_to(tmp_path / "elsewhere")
    (source / "again").symlink_to("a")
    (source / "a/up").symlink_to(source)
    (tmp_path / "elsewhere/back").symlink_to(source)
    (source / "itself").symlink_to("itself")
    (source / "lost.png").symlink_to("nowhere.png")
    os.mkfifo(source / "pipe.png")
    (source / "endless.png").symlink_to("/dev/zero")
    found = open_source(source)
    assert found.names == (
        *("00.png", "01.png", "02.png", "a/00.png", "a/01.png"),
        *(f"b/deep/{number:02d}.png" for number in range(4)),
    )
    assert found.ignored == {"link to a folder that is taken already": 3, "broken link, pipe or device": 4}


def test_every_file_of_a_folder_or_a_zip_is_taken_or_counted(tmp_path: Path) -> None:
    source = save(tmp_path / "mine", pictures(3))
    others = ["a.gif", "b.GIF", "list.txt", "noending", ".hidden.png", "deep/._00.png", "__MACOSX/00.png"]
    for name in others:
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(b"x")
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for path in (path for path in sorted(source.rglob("*")) if path.is_file()):
            archive.write(path, path.relative_to(source))
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("00.png", (source / "00.png").read_bytes())
    expected = {"the ending .gif": 2, "the ending .txt": 1, "a name without an ending": 1}
    folder, packed = open_source(source), open_source(tmp_path / "mine.zip")
    assert folder.ignored == expected | {"hidden": 3}  # a hidden folder counts as one
    assert packed.ignored == expected | {"hidden": 3, "earlier member of the same name": 1}
    assert folder.names == packed.names and folder.fingerprint == packed.fingerprint


def test_a_folder_without_images_says_what_is_there(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.writestr("celeba/img_align_celeba.zip", b"a zip in a zip")
    assert "what is there: 1 the ending .zip" in refusal(open_source, tmp_path / "outer.zip")


@pytest.mark.parametrize("kind", ["pipe", "device", "link to a device"])
def test_a_source_that_is_no_file_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "source.zip"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    else:
        path.symlink_to("/dev/zero")
    assert "neither a folder nor a zip nor a Parquet file" in refusal(open_source, path)


def test_other_images_of_the_same_names_and_sizes_are_another_source(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("same", 1), ("other", 2)):
        save(tmp_path / name, [])
        for number, pixels in enumerate(pictures(4, seed)):
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.bmp")
        write_parquet(tmp_path / f"{name}-rows/a.parquet", [bytes(pixels) for pixels in pictures(4, seed)])
    for rows in ("", "-rows"):
        one, same, other = (open_source(tmp_path / f"{name}{rows}") for name in ("one", "same", "other"))
        assert one.fingerprint == same.fingerprint != other.fingerprint
        assert one.names == other.names


# --- shards


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["train-00000-of-00003-0f1e2d3c.parquet", "train-00002-of-00003-a1b2c3d4.parquet"], "it lacks number 1"),
        (["train-00000-of-00003.parquet", "train-00001-of-00003.parquet"], "it lacks number 2"),
        (["0000-of-0002.parquet"], "holds 1 of the 2 files *-of-0002.parquet: it lacks number 1"),
        (["TRAIN-0-of-2.PARQUET"], "it lacks number 1"),
        (["a-00000-of-00001.parquet", "b-00000-of-00002.parquet"], "files b-*-of-00002.parquet"),
        (["train-00000-of-00002-aa.parquet", "train-00000-of-00002-bb.parquet"], "number 0 of the 2 files"),
        (["train-00000-of-00001.parquet", "train-00000-of-00001 (1).parquet"], "twice: delete the copy"),
    ],
)
def test_a_shard_that_is_missing_or_there_twice_is_noticed_by_its_name(
    tmp_path: Path, names: list[str], sentence: str
) -> None:
    for name in names:
        write_parquet(tmp_path / "data" / name, [b"x"])
    assert sentence in refusal(open_source, tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ["train-00000-of-00002-0f1e.parquet", "train-00001-of-00002-9a8b.parquet", "test-00000-of-00001-77.parquet"],
        ["part-1-of-2.parquet", "part-2-of-2.parquet"],  # counted from one
        ["mine.parquet", "one-of-a-kind.parquet"],
    ],
)
def test_whole_sets_of_shards_are_taken(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        write_parquet(tmp_path / name, [b"x"])
    (tmp_path / "._mine.parquet").write_bytes(b"a resource fork")
    source = open_source(tmp_path)
    assert len(source.names) == len(names) and source.ignored == {"hidden": 1}


def test_images_beside_tables(tmp_path: Path) -> None:
    source = save(tmp_path / "mine", pictures(4))
    pq.write_table(pa.table({"id": [1], "smiling": [True]}), source / "labels.parquet")
    assert len(open_source(source).names) == 4
    assert open_source(source).ignored == {"Parquet file without images": 1}
    write_parquet(source / "train.parquet", [b"x"])
    assert "images in Parquet files and 4 image files, '00.png' say" in refusal(open_source, source)


# --- what is packed


def test_the_same_picture_is_taken_once_so_that_none_is_both_trained_on_and_held_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = pictures(20)
    source = save(tmp_path / "mine", images)
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(source / f"{number:02d}.bmp")  # other bytes, the same pixels
    manifest = pack(source, tmp_path / "data")
    assert (manifest["count"], manifest["train_count"], len(manifest["skipped"])) == (20, 18, 20)
    assert manifest["skipped"][3] == {"name": "03.png", "reason": "the same picture as another: 03.bmp"}
    data = load_dataset("mine", tmp_path / "data")
    train, held_out = ({image.numpy().tobytes() for image in part} for part in (data.train, data.held_out))
    assert len(train | held_out) == 20 and not train & held_out
    assert "          20  left out: the same picture as another\n" in capsys.readouterr().out


def test_same_pictures_are_compared_by_their_pixels_alone() -> None:
    images = np.stack(pictures(3))[[0, 1, 0, 2, 1, 0]]
    assert same_pictures(images) == {2: 0, 4: 1, 5: 0}
    assert same_pictures(images, {0, 4}) == {5: 2}


def test_too_few_pictures_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "mine", pictures(1) * 100 + pictures(2, seed=1))
    words = ["folder", "--name", "mine", "--source", tmp_path / "mine", "--data", tmp_path / "data"]
    assert main(["data", *map(str, words)]) == 2
    said = capsys.readouterr().err
    assert "has 3 usable images of 102, but 2 to train on and 2 to hold out are needed; 01.png: the same" in said
    assert not (tmp_path / "data").exists()


def test_the_table_accounts_for_everything_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save(tmp_path / "mine", [*pictures(12), *pictures(2)])
    for number in (1, 2):
        (source / f"page{number}.jpg").write_text("<html>404</html>")
        Image.fromarray(np.full((16, 16), 30000 + number, np.uint16)).save(source / f"deep{number}.png")
    (source / "cut.png").write_bytes((source / "00.png").read_bytes()[:500])
    (source / "list.txt").write_text("x")
    manifest = pack(source, tmp_path / "data")
    rows = capsys.readouterr().out.splitlines()[1:]
    table = {what.strip(): int(count) for count, _, what in (row.strip().partition("  ") for row in rows)}
    assert table.pop("left out: image file is truncated") == 1
    assert table == {
        "taken: to train on": 10,
        "taken: held out": 2,
        "left out: not one of JPEG, PNG, WEBP, BMP, TIFF": 2,
        "left out: the same picture as another": 2,
        "left out: mode I;N": 2,
        "no image: the ending .txt": 1,
    }
    assert manifest["ignored"] == {"the ending .txt": 1}
    assert len(list(source.iterdir())) == 1 + sum(table.values())


@pytest.mark.slow
def test_the_manifest_is_the_same_from_pack_to_pack(tmp_path: Path) -> None:
    source = save(tmp_path / "mine", pictures(8))
    (source / "page.jpg").write_text("<html>404</html>")
    (source / "empty.png").write_bytes(b"")
    first, second = (pack(source, tmp_path / data) for data in ("one", "two"))
    assert first == second
    texts = [(tmp_path / data / "mine/manifest.json").read_text() for data in ("one", "two")]
    assert texts[0] == texts[1] and "0x" not in texts[0] and str(tmp_path) not in texts[0]
