"""Who may import whom: the README's rooms, read from the source with `ast`, and twice from a live interpreter."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import DEVICE_PARTS

ROOT = Path(__file__).parents[1]
OURS = ("search_spaces", "wae_core", "sweep", "analysis")


def _modules(*folders: str) -> dict[str, Path]:
    """Every module of these folders by its dotted name."""
    modules = {}
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


MODULES = _modules(*OURS)  # of the four packages: the rules are theirs
BENCHMARKS = _modules("tests/benchmarks")
SOURCES = MODULES | BENCHMARKS


def _imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Dotted names that the import statements under `tree` name, and importlib's with a literal name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            package = parts[: len(parts) + is_package - node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            # `from package import name` may name a module.
            yield from (f"{base}.{a.name}" if f"{base}.{a.name}" in SOURCES else base for a in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in (
            "import_module",
            "__import__",
        ):
            yield from (
                arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
            )


@cache
def imports(module: str, at_import_only: bool = False) -> frozenset[str]:
    """What `module` imports: anywhere, or when it is itself imported (outside functions, and not for types alone)."""
    path = SOURCES[module]
    tree = ast.parse(path.read_text(), str(path))
    if at_import_only:
        for node in ast.walk(tree):
            is_later = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if is_later or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
                node.body = [ast.Pass()]  # type: ignore[attr-defined]
    return frozenset(_imports(tree, module, path.name == "__init__.py"))


def is_ours(name: str) -> bool:
    return name.split(".")[0] in OURS


def room(module: str) -> str:
    """The sub-package that the module is in; the module itself where it lies directly in wae_core or sweep."""
    parts = module.split(".")
    return parts[0] if parts[0] in ("search_spaces", "analysis") else ".".join(parts[:2])


def packages(module: str) -> set[str]:
    """The top-level packages that `module` imports, anywhere in it."""
    return {name.split(".")[0] for name in imports(module)}


def packages_at_import(module: str) -> set[str]:
    """The top-level packages that importing `module` itself imports."""
    return {name.split(".")[0] for name in imports(module, at_import_only=True)}


def importers_of(package: str) -> set[str]:
    return {module for module in MODULES if package in packages(module)}


def reachable(start: str) -> set[str]:
    """The modules of ours that importing `start` imports, their packages' `__init__` included."""
    found, waiting = set(), [start]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += [module.rpartition(".")[0]] if is_ours(module) and "." in module else []
            waiting += [name for name in imports(module, at_import_only=True) if is_ours(name) or name in BENCHMARKS]
    return found


def test_the_walk_sees_the_packages() -> None:
    """Otherwise every rule below would hold for want of modules."""
    assert {module.split(".")[0] for module in MODULES} == set(OURS)
    assert {
        "wae_core.training.loop",
        "wae_core.networks",
        "wae_core.networks.dcgan",
        "sweep.running.tune",
    } <= MODULES.keys()
    assert "torch" in packages("wae_core.training.loop")
    assert "wae_core.algorithms.objectives" in imports(
        "wae_core.training.loop"
    )  # from wae_core.algorithms import objectives
    assert "torch_xla" in imports("wae_core.device") - imports("wae_core.device", at_import_only=True)
    assert set(_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}})) == {"b", "c"}


# --- rooms


# Room: what it may import of its own package, as the README's table of rooms and the room's __init__.py say.
# What is no room is a door (sweep.launch, wae_core.pictures): it may import every room, and no room imports it.
DECLARED = {
    "wae_core.names",
    "wae_core.checks",
    "wae_core.domains",
    "wae_core.hyperparameters",
    "wae_core.protocol",
}  # without torch
ROOMS: dict[str, set[str]] = {
    "wae_core.names": set(),
    "wae_core.domains": set(),
    "wae_core.hyperparameters": {"wae_core.domains"},
    "wae_core.checks": {"wae_core.names", "wae_core.domains"},
    "wae_core.protocol": {"wae_core.names", "wae_core.domains", "wae_core.checks"},
    "wae_core.run": {*DECLARED, "wae_core.algorithms"},
    "wae_core.device": {"wae_core.names"},
    "wae_core.randomness": {"wae_core.run", "wae_core.device"},
    "wae_core.snapshot": {"wae_core.networks"},
    "wae_core.storage": set(),
    "wae_core.data": {"wae_core.storage"},
    "wae_core.networks": {"wae_core.device"},
    "wae_core.algorithms": {*DECLARED, "wae_core.networks"},
    "wae_core.training": {
        *DECLARED,
        *("wae_core.run", "wae_core.device", "wae_core.randomness", "wae_core.snapshot"),
        *("wae_core.algorithms", "wae_core.data", "wae_core.networks", "wae_core.storage"),
    },
    "wae_core.evaluation": {
        *DECLARED,
        *("wae_core.run", "wae_core.device", "wae_core.randomness", "wae_core.snapshot"),
        *("wae_core.algorithms", "wae_core.data", "wae_core.networks"),
    },
    "sweep.errors": set(),
    "sweep.interruption": set(),
    "sweep.commit": set(),
    "sweep.places": {"sweep.errors"},
    "sweep.events": {"sweep.errors", "sweep.results"},
    "sweep.settings": {"sweep.errors", "sweep.places", "sweep.events"},
    "sweep.results": {"sweep.errors", "sweep.interruption", "sweep.commit", "sweep.events", "sweep.settings"},
    "sweep.search": {"sweep.errors", "sweep.events", "sweep.settings", "sweep.results"},
    "sweep.running": {
        *("sweep.errors", "sweep.interruption", "sweep.commit", "sweep.events", "sweep.settings", "sweep.results"),
    },
    "sweep.tracking": {"sweep.errors", "sweep.places", "sweep.events", "sweep.results"},
    "sweep.rescoring": {
        *("sweep.errors", "sweep.places", "sweep.events", "sweep.settings", "sweep.results", "sweep.search"),
        *("sweep.running", "sweep.reports"),
    },
    "sweep.reports": {"sweep.errors", "sweep.places", "sweep.events", "sweep.settings", "sweep.results"},
}
PACKAGES: dict[str, set[str]] = {  # package: the others that it may import
    "search_spaces": {"wae_core"},  # what of it is free of torch
    "wae_core": set(),
    "sweep": {"search_spaces", "wae_core"},
    "analysis": {"sweep", "wae_core", "search_spaces"},
}
MOST_MODULES = 12  # in a folder
MOST_LINES = 300


def of_ours(module: str) -> set[str]:
    """Our modules that `module` imports."""
    return {name for name in imports(module) if is_ours(name)}


def test_a_room_imports_what_it_may() -> None:
    found = {
        (module, name)
        for module in MODULES
        for name in of_ours(module)
        if room(module) in ROOMS and room(name) != room(module) and name.split(".")[0] == module.split(".")[0]
        if room(name) not in ROOMS[room(module)]
    }
    assert found == set()


def test_a_package_imports_downwards_only() -> None:
    found = {
        (module, name)
        for module in MODULES
        for name in of_ours(module)
        if name.split(".")[0] not in {module.split(".")[0], *PACKAGES[module.split(".")[0]]}
    }
    assert found == set()


def test_every_folder_is_a_room() -> None:
    folders = {room(module) for module, path in MODULES.items() if path.parent.parent.parent == ROOT}
    assert folders - {"search_spaces", "analysis", "wae_core", "sweep"} <= ROOMS.keys()


def test_rooms_import_each_other_in_no_circle() -> None:
    rooms: dict[str, set[str]] = {}
    for module in MODULES:
        rooms.setdefault(room(module), set()).update({room(name) for name in of_ours(module)} - {room(module)})
    assert _circle(rooms) == []


def test_modules_import_each_other_in_no_circle() -> None:
    modules = {name: {found for found in imports(name, at_import_only=True) if is_ours(found)} for name in MODULES}
    assert _circle(modules) == []


def test_analysis_sees_what_is_read_of_results_and_declared_only() -> None:
    allowed = {f"sweep.results.{name}" for name in ("schema", "folder", "judging", "plan_file")}
    allowed |= {"sweep.search.asha", "sweep.reports.ledger", "wae_core.model_file", "wae_core.storage.files"}
    allowed |= {"wae_core.algorithms.algorithm", "wae_core.algorithms.registry", "wae_core.hyperparameters"}
    allowed |= {"sweep.errors", "wae_core.flops", "wae_core.names", "wae_core.pictures", "wae_core.data.images"}
    allowed |= {"wae_core.storage.objects"}
    allowed |= {name for name in MODULES if name.split(".")[0] == "search_spaces"}
    found = {(module, name) for module in MODULES if room(module) == "analysis" for name in of_ours(module)}
    assert {(module, name) for module, name in found if room(name) != "analysis" and name not in allowed} == set()


def test_search_spaces_see_what_is_free_of_torch_only() -> None:
    """Of wae_core the declarations; that no file of an algorithm brings torch along, a live interpreter tells."""
    members = [module for module in MODULES if module.split(".")[0] == "search_spaces"]
    seen = {module for member in members for module in reachable(member)}
    assert "wae_core.algorithms.registry" in seen
    assert {module for module in seen if {"torch", "safetensors"} & packages_at_import(module)} == set()
    code = "import search_spaces, sys; print({'torch', 'numpy', 'wae_core.algorithms.vae'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "{'wae_core.algorithms.vae'}"


def test_a_search_space_is_read_without_torch() -> None:
    modules = set().union(*(reachable(module) for module in MODULES if room(module) == "search_spaces"))
    heavy = {"torch", "ray", "hydra", "omegaconf", "mlflow", "optuna", "pandas", "pyarrow"}
    found = {module: {name.split(".")[0] for name in imports(module, at_import_only=True)} for module in modules}
    assert {module: names & heavy for module, names in found.items() if names & heavy} == {}


def test_a_room_says_what_it_is_and_holds_no_code_for_it() -> None:
    """An __init__.py is a docstring alone; of what its rooms export, two make an exception."""
    trees = {module: ast.parse(path.read_text()) for module, path in MODULES.items() if path.name == "__init__.py"}
    assert {module for module, tree in trees.items() if not ast.get_docstring(tree)} == set()
    assert {module for module, tree in trees.items() if len(tree.body) > 1} <= {"search_spaces", "wae_core.networks"}


def test_no_folder_and_no_file_is_crowded() -> None:
    folders = Counter(path.parent for path in MODULES.values() if path.name != "__init__.py")
    assert {folder: count for folder, count in folders.items() if count > MOST_MODULES} == {}
    long = {module: _lines(path) for module, path in MODULES.items() if _lines(path) > MOST_LINES}
    assert long == {}


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def _circle(graph: Mapping[str, set[str]]) -> list[str]:
    """The nodes of a circle, if there is one."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


# --- other people's packages


def test_training_needs_torch_numpy_and_safetensors_alone() -> None:
    algorithms = [module for module in MODULES if module.startswith("wae_core.algorithms.")]
    modules = {found for start in ("wae_core.training.loop", *algorithms) for found in reachable(start)}
    assert {"wae_core", "wae_core.training.state", "wae_core.algorithms.mmd", "wae_core.networks.resnet"} <= modules
    third_party = {
        module: packages_at_import(module) - sys.stdlib_module_names - set(OURS) - {"torch", "numpy", "safetensors"}
        for module in modules | reachable("wae_core.storage.checkpoint")
    }
    assert {module: names for module, names in third_party.items() if names} == {}


def test_a_device_is_measured_with_torch_numpy_and_safetensors_alone() -> None:
    """What `python -m tests.benchmarks --device cuda` loads on a bare machine; scipy and rich it can do without."""
    starts = {"tests.benchmarks.__main__", *(f"tests.benchmarks.{part}" for part in DEVICE_PARTS)}
    modules = {found for start in starts for found in reachable(start)}
    assert {*starts, "tests.benchmarks.models", "wae_core.training.throughput", "sweep.commit"} <= modules
    allowed = {*sys.stdlib_module_names, *OURS, "tests", "torch", "numpy", "safetensors"}
    third_party = {module: packages_at_import(module) - allowed for module in modules}
    third_party |= {module: packages(module) - allowed - {"scipy", "rich"} for module in modules & BENCHMARKS.keys()}
    assert {module: names for module, names in third_party.items() if names} == {}


def test_four_files_import_ray() -> None:
    """The session, its nodes, its workers, and what a worker starts."""
    assert importers_of("ray") == {
        "sweep.running.connection.session",
        "sweep.running.nodes.looking",
        "sweep.running.tune",
        "sweep.running.sharded.team",
    }


@pytest.mark.parametrize(
    ("package", "owner"),
    [
        ("mlflow", "sweep.tracking"),
        ("hydra", "sweep.settings"),
        ("omegaconf", "sweep.settings"),
        ("optuna", "sweep.search"),
    ],
)
def test_one_room_imports(package: str, owner: str) -> None:
    assert {room(module) for module in importers_of(package)} == {owner}


@pytest.mark.slow
def test_importing_the_training_loop_loads_no_heavy_package() -> None:
    code = (
        "import wae_core.training.loop, wae_core.data.images, sys; wae_core.data.images.load_dataset('digits');"
        "print(sorted({'ray', 'mlflow', 'hydra', 'optuna', 'pandas', 'sklearn', 'scipy', 'PIL'}"
        " & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_launch_that_draws_at_random_loads_no_optuna() -> None:
    """The fixed protocol needs none; `sweep.running.tune` is what a launch imports last."""
    code = "import sweep.__main__, sweep.launch, sweep.running.tune, sys; print('optuna' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


@pytest.mark.slow
def test_who_reads_results_loads_no_torch() -> None:
    code = "import analysis.load, sweep.results.folder, sys; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
