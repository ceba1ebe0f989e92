"""The results folder that a person names: what a shell left undone is done, what is no place is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep import command
from sweep.errors import SettingsError
from sweep.places import data_source, results_location
from sweep.settings.compose import load_settings
from wae_core.storage.objects import ObjectPath


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_tilde_that_the_shell_left_is_the_home_folder(home: Path) -> None:
    """make's words, and those of most shells after the equals sign."""
    assert results_location("~/x") == home / "x"
    settings = load_settings(["results=~/x", "data=~/data", "inception=~/weights.pth"])
    assert (settings.results, settings.data, settings.inception) == (home / "x", home / "data", home / "weights.pth")
    optuna = load_settings(["search=optuna", "optuna.storage=~/journal"])
    assert optuna.optuna_storage == home / "journal"
    assert results_location("a~b/~c") == Path("a~b/~c")


@pytest.mark.parametrize("text", ["results", "a:b", "./s3:/b", "1:/x", "naïve/Ergebnisse ü", "a b"])
def test_a_path_is_a_path(text: str) -> None:
    assert results_location(text) == Path(text)


def test_an_object_store_s_place_is_one() -> None:
    assert results_location("s3://bucket/a/b") == ObjectPath("s3://bucket", "a/b")
    assert results_location("gs://bucket") == ObjectPath("gs://bucket", "")


@pytest.mark.parametrize(
    "text",
    [
        *("s3:/b", "s3:b", "S3://b/x", "gs:/b", "gcs://b", "file:///tmp/x", "http://host/x", "az:/b", "x://y"),
        *("s3://", "s3:///x", "~nobody-of-this-name/x"),
    ],
)
def test_what_looks_like_a_place_elsewhere_is_no_folder_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match="but it is a local path, s3://bucket/… or gs://bucket/…"):
        results_location(text)
    for words in (["sweep", f"results={text}"], ["status", "--results", text], ["ui", "--results", text]):
        assert command.main(words) == 2
        said = capsys.readouterr().err
        assert said == f"error: results is {text!r}, but it is a local path, s3://bucket/… or gs://bucket/…\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["http://host:8000/a b/c", "https://host", "s3://bucket/data", "gs://bucket"])
def test_data_may_come_from_the_web_or_a_store(text: str) -> None:
    assert str(data_source(text)) == text.rstrip("/") + ("/" if text.count("/") == 2 else "")
    assert load_settings([f"data_source={text}"]).data_source == data_source(text)


def test_data_may_come_from_a_folder(home: Path) -> None:
    assert data_source("/shared/data") == Path("/shared/data")
    assert load_settings(["data_source=~/x"]).data_source == home / "x"
    assert load_settings([]).data_source is None
    assert load_settings(["data_source=null"]).data_source is None


@pytest.mark.parametrize("text", ["", "ftp://host/x", "file:///x", "http://", "HTTP://host", "http:/host", "s3:///x"])
def test_what_looks_like_a_source_elsewhere_is_no_folder_here(text: str) -> None:
    with pytest.raises(SettingsError, match="data_source is ") as refusal:
        load_settings([f"data_source={text}"])
    assert repr(text) in str(refusal.value)


@pytest.mark.parametrize("text", ["http://me:secret@host/x", "https://host/x?key=secret", "https://host/x#y"])
def test_a_source_on_the_web_is_a_folder_for_everybody(text: str) -> None:
    with pytest.raises(SettingsError, match="a folder's address, without"):
        data_source(text)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["results", "data", "inception", "space", "data_source"])
@pytest.mark.parametrize("sign", ["\0", "\n", "\x1b", "\udcff"])
def test_what_no_name_of_a_file_may_hold_is_refused(
    tmp_path: Path, key: str, sign: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["sweep", f"{key}={tmp_path}/a{sign}b"]) == 2
    said = capsys.readouterr().err
    assert "but it is a path without control characters, in UTF-8" in said
    assert len(said.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
