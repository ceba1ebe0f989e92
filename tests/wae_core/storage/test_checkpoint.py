"""Checkpoint files: what comes back is what was saved, or an error; any damage falls back to the one before."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from wae_core.storage.checkpoint import (
    CheckpointError,
    load_checkpoint,
    read_manifest,
    save_checkpoint,
    valid_checkpoints,
)
from wae_core.storage.files import write_atomically

CONTENT: dict[str, Any] = {"step": 100, "seconds": 0.1, "fids": [3.5, None], "name": "wae-mmd"}


def tensors(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weights": torch.randn(3, 4, generator=generator),
        "half": torch.randn(5, generator=generator).bfloat16(),
        "step": torch.tensor(seed, dtype=torch.int64),
        "odd": torch.tensor([float("nan"), float("inf"), -0.0]),
    }


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype
        and a[name].shape == b[name].shape
        and a[name].reshape(-1).view(torch.uint8).equal(b[name].reshape(-1).view(torch.uint8))
        for name in a
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "step-000000100.safetensors"
    save_checkpoint(path, tensors(), CONTENT)
    return path


def test_round_trip_bit_by_bit(saved: Path) -> None:
    loaded, content = load_checkpoint(saved)
    assert same(loaded, tensors())
    assert content == CONTENT == read_manifest(saved)


def test_floats_of_the_content_come_back_exactly(tmp_path: Path) -> None:
    content = {"values": [0.1, 1 / 3, 1e-300, 5e-324, 1.7976931348623157e308, float("inf")]}
    save_checkpoint(tmp_path / "a.safetensors", {}, content)
    assert load_checkpoint(tmp_path / "a.safetensors") == ({}, content)


def test_saving_leaves_nothing_but_the_two_files(saved: Path) -> None:
    assert {path.name for path in saved.parent.iterdir()} == {saved.name, "step-000000100.json"}


@pytest.mark.slow
def test_a_change_of_any_byte_of_the_manifest_is_noticed(tmp_path: Path) -> None:
    """Also where JSON would read the same values: in its spaces, the case of an exponent, a last digit."""
    saved = tmp_path / "a.safetensors"
    save_checkpoint(saved, tensors(), {"step": 100, "small": 1e-300, "sum": 0.1 + 0.2, "name": "ö", "fids": [None]})
    manifest = saved.with_suffix(".json")
    good = manifest.read_bytes()
    assert all(word in good for word in (b"1e-300", b"0.30000000000000004", b"\\u00f6", b"\n "))
    for position, byte in enumerate(good):
        others = {byte ^ 1 << position % 8, byte ^ 0x20} | set(b" \t\n059EF")
        for other in others - {byte}:
            manifest.write_bytes(good[:position] + bytes([other]) + good[position + 1 :])
            with pytest.raises(CheckpointError, match="manifest"):
                read_manifest(saved)


@pytest.mark.parametrize("added", [b"\n", b" ", b"\0"])
def test_what_is_added_to_the_manifest_is_noticed(saved: Path, added: bytes) -> None:
    manifest = saved.with_suffix(".json")
    for data in (manifest.read_bytes() + added, added + manifest.read_bytes()):
        manifest.write_bytes(data)
        with pytest.raises(CheckpointError, match="manifest"):
            load_checkpoint(saved)


def test_every_truncation_of_the_manifest_is_noticed(saved: Path) -> None:
    manifest = saved.with_suffix(".json")
    good = manifest.read_bytes()
    for length in range(len(good)):
        manifest.write_bytes(good[:length])
        with pytest.raises(CheckpointError):
            read_manifest(saved)


@pytest.mark.parametrize(
    "document", ["null", "[]", '"body"', "3", "{}", '{"body": 1, "sha256": "x"}', "\xff", "[" * 5000]
)
def test_another_document_in_the_manifest_s_place(saved: Path, document: str) -> None:
    saved.with_suffix(".json").write_bytes(document.encode("latin-1"))
    with pytest.raises(CheckpointError, match="manifest"):
        load_checkpoint(saved)


def test_another_format_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wae_core.storage.checkpoint.FORMAT", 4)
    with pytest.raises(CheckpointError, match="another format than 4"):
        load_checkpoint(saved)


def test_flipped_bytes_and_truncations_of_the_tensors_are_noticed(saved: Path) -> None:
    good = saved.read_bytes()
    draw = random.Random(0)
    damaged = [good[:length] for length in {0, 1, 8, len(good) // 2, len(good) - 1}]
    damaged += [good + b"\0", b"\0" + good]
    for position in [0, 7, 8, len(good) - 1, *draw.sample(range(len(good)), 100)]:
        bad = bytearray(good)
        bad[position] ^= draw.randrange(1, 256)
        damaged.append(bytes(bad))
    for data in damaged:
        saved.write_bytes(data)
        with pytest.raises(CheckpointError, match="damaged"):
            load_checkpoint(saved)
    saved.write_bytes(good)
    load_checkpoint(saved)


def test_tensors_of_another_checkpoint_are_noticed(saved: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, tensors(1), CONTENT)
    other.replace(saved)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(saved)


def test_a_missing_file_is_an_error(saved: Path) -> None:
    saved.unlink()
    assert read_manifest(saved) == CONTENT
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(saved)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(saved.with_name("never.safetensors"))


def test_checkpoint_error_is_a_value_error() -> None:
    assert issubclass(CheckpointError, ValueError)


def three_steps(folder: Path) -> list[Path]:
    """Steps 50, 100 and 1000, the newest in the attempt that the file system lists first or last."""
    paths = []
    for attempt, step in [("attempt-002", 50), ("attempt-001", 1000), ("attempt-002", 100)]:
        (folder / attempt).mkdir(exist_ok=True)
        path = folder / attempt / f"step-{step:09d}.safetensors"
        save_checkpoint(path, tensors(step), {"step": step})
        paths.append(path)
    return paths


def newest_step(folder: Path) -> int | None:
    found = next(valid_checkpoints(folder.glob("attempt-*/step-*.safetensors")), None)
    if found is None:
        return None
    _, loaded, content = found
    assert same(loaded, tensors(content["step"]))
    return int(content["step"])


def test_the_newest_checkpoint_of_all_attempts(tmp_path: Path) -> None:
    paths = three_steps(tmp_path)
    assert newest_step(tmp_path) == 1000
    found = [(path.name, content) for path, _, content in valid_checkpoints(reversed(paths))]
    assert found == [(f"step-{step:09d}.safetensors", {"step": step}) for step in (1000, 100, 50)]


@pytest.mark.parametrize("damage", ["tensors", "manifest", "kill before the manifest", "lost tensors"])
def test_the_newest_checkpoint_falls_back_to_the_one_before(tmp_path: Path, damage: str) -> None:
    _, newest, middle = three_steps(tmp_path)
    for path, expected in [(newest, 100), (middle, 50)]:
        if damage == "tensors":
            path.write_bytes(path.read_bytes()[:-1] + b"?")
        elif damage == "manifest":
            path.with_suffix(".json").write_bytes(b'{"sha256": ')
        elif damage == "kill before the manifest":
            path.with_suffix(".json").unlink()
        else:
            path.unlink()
        assert newest_step(tmp_path) == expected


def test_the_newest_checkpoint_without_a_valid_one(tmp_path: Path) -> None:
    assert list(valid_checkpoints([])) == []
    for path in three_steps(tmp_path):
        path.with_suffix(".json").unlink()
    assert newest_step(tmp_path) is None


def test_left_over_temporary_files_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    three_steps(tmp_path)

    def killed(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)  # killed when the bytes were written but not yet renamed
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(tmp_path / "attempt-002" / "step-000002000.safetensors", tensors(2000), {"step": 2000})
    assert any(path.name.endswith(".tmp") for path in (tmp_path / "attempt-002").iterdir())
    assert newest_step(tmp_path) == 1000


def test_write_atomically_keeps_the_old_file_when_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def killed(file_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"
    monkeypatch.undo()
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_the_manifest_is_written_after_the_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr(
        "wae_core.storage.checkpoint.write_atomically", lambda path, data: written.append(path.suffix)
    )
    save_checkpoint(tmp_path / "a.safetensors", tensors(), CONTENT)
    assert written == [".safetensors", ".json"]


def test_the_manifest_is_plain_json(saved: Path) -> None:
    assert json.loads(saved.with_suffix(".json").read_text())["body"]["content"] == CONTENT
