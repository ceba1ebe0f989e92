"""Which code this is: its commit, or where there is no repository, git's name for its content."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parents[1]
PACKAGES = ("search_spaces", "sweep", "wae_core")  # what makes rows
FILE, EXECUTABLE, FOLDER = "100644", "100755", "40000"  # as git writes them


def git_commit() -> str:
    """Return the commit of this source tree, "-dirty" behind it if files differ.

    Where it is no checkout, as in an installation, or in the working directory of a job of Ray's, to which no .git
    travels, "tree-" and git's id of a folder that holds our packages as they are here; that of a commit is printed by
    `git ls-tree <commit> search_spaces sweep wae_core | git mktree`.
    A repository that the tree lies in, as an installation in somebody's .venv does, says nothing of it, and neither
    does one that the environment names, as it does in git's hooks.
    """
    place = [f"--git-dir={SOURCE / '.git'}", f"--work-tree={SOURCE}"]
    command = ["git", *place, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(command, cwd=SOURCE, env=environment, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return f"tree-{sources()}"
    return done.stdout.strip()


def sources() -> str:
    """Return git's id of a folder that holds our packages as they are here, whatever is committed."""
    return _tree([SOURCE / name for name in PACKAGES if (SOURCE / name).exists()]).hex()


def _tree(members: list[Path]) -> bytes:
    """The id of a folder with these members; what Python and editors leave among them is not of it."""
    entries = []
    for member in members:
        if member.name.startswith((".", "__pycache__")):
            continue
        if member.is_dir():
            entries.append((FOLDER, member.name, _tree(list(member.iterdir()))))
        else:
            mode = EXECUTABLE if os.access(member, os.X_OK) else FILE
            entries.append((mode, member.name, _object("blob", member.read_bytes())))
    entries.sort(key=lambda entry: entry[1] + "/" * (entry[0] == FOLDER))
    return _object("tree", b"".join(f"{mode} {name}\0".encode() + sha for mode, name, sha in entries))


def _object(kind: str, content: bytes) -> bytes:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).digest()
