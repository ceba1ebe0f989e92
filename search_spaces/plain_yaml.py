"""YAML as plain data: read with the safe loader, refusing the duplicate keys that it would let pass."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from search_spaces.sentences import SpaceError, show


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader, which also refuses a key that stands twice: by itself it keeps the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # no hyperparameter's name: refused later
            if key.value in seen:
                problem = f"the key {show(key.value)} stands twice in one mapping, and must stand there once"
                raise yaml.constructor.ConstructorError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def refuse_tag(self, node: yaml.Node) -> None:
        problem = f"the tag {node.tag!r} is refused: only plain mappings, lists, numbers and text are allowed"
        raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)


_PlainLoader.add_constructor(None, _PlainLoader.refuse_tag)


def read_yaml(path: Path) -> object:
    """What the file holds; OSError where it cannot be read, SpaceError where it is not plain YAML."""
    try:
        return yaml.load(path.read_bytes(), Loader=_PlainLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise SpaceError(f"{path}{line}: not plain YAML: {said}") from error
    # PyYAML lets bare errors through: a bad character, a date like 2018-02-30, !!bool maybe, endless nesting.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise SpaceError(f"{path}: not plain YAML: {' '.join(str(error).split())}") from error
