"""Which code made a row: the commit of our own tree and of no other; without a repository, the content itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sweep import commit
from sweep.commit import git_commit

ROOT = Path(__file__).parents[2]


def make_repository(folder: Path) -> str:
    """A git repository with one commit of all that lies in the folder; returns the commit."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "file").write_text(str(folder))
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "one"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize("broken", [None, "folder", "file"])
def test_the_commit_of_a_repository_around_the_sources_is_not_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str | None
) -> None:
    make_repository(tmp_path)
    source = tmp_path / ".venv/lib/site-packages"
    source.mkdir(parents=True)
    if broken == "folder":
        (source / ".git").mkdir()
    elif broken == "file":
        (source / ".git").write_text("gitdir: nowhere")
    monkeypatch.setattr(commit, "SOURCE", source)
    assert git_commit().startswith("tree-")


def test_the_commit_is_that_of_our_own_top_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "outer" / "a: b" / "sources"
    foreign = make_repository(tmp_path / "outer")
    made = make_repository(source)
    monkeypatch.setattr(commit, "SOURCE", source)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "outer/.git"))  # as in a hook of another repository
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "outer"))
    assert git_commit() == made != foreign
    (source / "file").write_text("y")
    assert git_commit() == f"{made}-dirty"


def test_a_linked_work_tree_is_a_checkout_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_repository(tmp_path / "main")
    subprocess.run(["git", "worktree", "add", "-q", tmp_path / "second"], cwd=tmp_path / "main", check=True)
    monkeypatch.setattr(commit, "SOURCE", tmp_path / "second")
    assert git_commit() == made


def test_without_a_repository_the_name_is_git_s_own_for_the_same_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The docstring's command finds the commit again, whatever carried the sources: a job of Ray's, an image."""
    made, copy = tmp_path / "repository", tmp_path / "copy"
    for name in (*commit.PACKAGES, "sweep.d"):
        (made / name / "room").mkdir(parents=True)
        (made / name / "room.py").write_text(name)
        (made / name / "room" / "file").write_text("")
    (made / "sweep" / "run").write_text("#!/bin/sh")
    (made / "sweep" / "run").chmod(0o755)
    make_repository(made)
    subprocess.run(["git", "archive", "--prefix=copy/", "-o", tmp_path / "a.tar", "HEAD"], cwd=made, check=True)
    subprocess.run(["tar", "-xf", "a.tar"], cwd=tmp_path, check=True)
    (copy / "sweep" / "__pycache__").mkdir()
    (copy / "sweep" / "__pycache__" / "room.pyc").write_text("compiled")
    listed = subprocess.run(["git", "ls-tree", "HEAD", *commit.PACKAGES], cwd=made, check=True, capture_output=True)
    tree = subprocess.run(["git", "mktree"], cwd=made, input=listed.stdout, check=True, capture_output=True).stdout
    monkeypatch.setattr(commit, "SOURCE", copy)
    assert git_commit() == f"tree-{tree.decode().strip()}"
    (copy / "sweep" / "room.py").write_text("changed")
    assert git_commit() != f"tree-{tree.decode().strip()}"
