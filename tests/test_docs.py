"""The documents say what is there: their links, paths, anchors and `make` targets exist, and the README is short."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
ROOMS = ("search_spaces", "wae_core", "sweep", "analysis", "tests", "docs")
# What a results folder holds, and examples of what a reader makes, is not in the repository.
PATH = re.compile(rf"`((?:{'|'.join(ROOMS)})/[\w./*-]*|[\w.-]+\.(?:md|toml|cff))`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
TARGET = re.compile(r"\bmake ([a-z][a-z-]*)")


def anchors(document: Path) -> set[str]:
    """The anchors of its headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def missing_links(document: Path) -> list[str]:
    """Its relative links whose file or heading does not exist."""
    missing = []
    for link in LINK.findall(document.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        file = document.parent / name if name else document
        if not file.exists() or (anchor and anchor not in anchors(file)):
            missing.append(link)
    return missing


def missing_paths(document: Path) -> list[str]:
    """The paths of this repository, in backticks, at which there is nothing."""
    return [path for path in PATH.findall(document.read_text()) if not any(ROOT.glob(path.rstrip("/")))]


def missing_targets(document: Path) -> list[str]:
    """What it calls by `make`, in code, and the Makefile does not have."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = re.findall(r"```.*?```|`[^`\n]+`", document.read_text(), re.DOTALL)
    return sorted({target for part in code for target in TARGET.findall(part)} - targets)


def test_the_readme_is_at_most_120_lines() -> None:
    assert len(README.read_text().splitlines()) <= 120


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_paths_and_targets_exist(document: Path) -> None:
    assert missing_links(document) == []
    assert missing_paths(document) == []
    assert missing_targets(document) == []


def test_every_page_of_the_manual_is_linked_from_the_readme() -> None:
    linked = {link.partition("#")[0] for link in LINK.findall(README.read_text())}
    assert {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} - linked == set()


def test_mistakes_are_found(tmp_path: Path) -> None:
    """Otherwise every rule above would hold for want of matches."""
    page = tmp_path / "page.md"
    page.write_text(
        "# Some page\n[a](none.md) [b](#some-page) [c](#none) `make nonsense` `sweep/none.py` `sweep/conf/`"
    )
    assert missing_links(page) == ["none.md", "#none"]
    assert missing_paths(page) == ["sweep/none.py"]
    assert missing_targets(page) == ["nonsense"]
