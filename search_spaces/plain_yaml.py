"""YAML as plain data: a number is what it looks like, a key stands once, and nothing but plain data is built."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from search_spaces.sentences import SpaceError, show

LARGEST_FILE = 2**18  # bytes; our own have 2,000
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
# Decimal whole and real numbers, as JSON has them; with a plus, or a bare point on a side, too.
_NUMBERS = {
    _INT: re.compile(r"[-+]?(?:0|[1-9][0-9]*)$"),
    _FLOAT: re.compile(
        r"""(?:[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?
            |[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
        re.VERBOSE,
    ),
}


class _PlainLoader(yaml.SafeLoader):
    """PyYAML's safe loader, stricter: a key that stands twice is refused; by itself it keeps the last one.

    Numbers are those of JSON. PyYAML's own, of YAML 1.1, take 010 for 8, 1:30 for 90 and 1e-5 for text; OmegaConf's
    loader reads the last one as a number, and the first two just as wrongly. Here 010, 1:30, 0x10 and 1_000 are
    texts, which are refused where a number is wanted.
    """

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

    def construct_number(self, node: yaml.ScalarNode) -> int | float:
        if not _NUMBERS[node.tag].match(node.value):  # as in !!int 010
            problem = f"{show(node.value)} is no decimal number"
            raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)
        return int(node.value) if node.tag == _INT else self.construct_yaml_float(node)

    def refuse_tag(self, node: yaml.Node) -> None:
        problem = f"the tag {node.tag!r} is refused: only plain mappings, lists, numbers and text are allowed"
        raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark)


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _NUMBERS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _NUMBERS.items():  # a whole number is one of both kinds: the first is taken
    _PlainLoader.add_implicit_resolver(_tag, _pattern, list("-+.0123456789"))
    _PlainLoader.add_constructor(_tag, _PlainLoader.construct_number)
_PlainLoader.add_constructor(None, _PlainLoader.refuse_tag)


def read_yaml(path: Path) -> object:
    """Return what the file holds.

    Raises:
        OSError: it cannot be read.
        SpaceError: it is not plain YAML, no file but a pipe or a device, or larger than LARGEST_FILE.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # of a folder the operating system tells
        raise SpaceError(f"{path} is a pipe or a device, and must be a file")
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise SpaceError(f"{path} is larger than {LARGEST_FILE} bytes, and must be a search space")
    try:
        return yaml.load(content, Loader=_PlainLoader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise SpaceError(f"{path}{line}: not plain YAML: {said}") from error
    # PyYAML lets bare errors through: a bad character, a date like 2018-02-30, !!bool maybe, endless nesting.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise SpaceError(f"{path}: not plain YAML: {' '.join(str(error).split())}") from error
