"""Who may import whom: design.md's layout, read from the source with `ast`, and once from a live interpreter."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("search_spaces", "wae_core", "sweep", "analysis")


def _modules() -> dict[str, Path]:
    """Every module of the four packages by its dotted name."""
    modules = {}
    for path in (path for package in OURS for path in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


MODULES = _modules()


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
            yield from (f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names)
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
    path = MODULES[module]
    tree = ast.parse(path.read_text(), str(path))
    if at_import_only:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
                isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            ):
                node.body = [ast.Pass()]
    return frozenset(_imports(tree, module, path.name == "__init__.py"))


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
            waiting += [module.rpartition(".")[0]] if "." in module else []
            waiting += [name for name in imports(module, at_import_only=True) if name.split(".")[0] in OURS]
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


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("search_spaces", {"sweep", "analysis", "torch", "ray"}),
        ("wae_core", {"search_spaces", "sweep", "analysis", "ray", "mlflow", "hydra", "omegaconf", "optuna"}),
        ("sweep", {"analysis"}),
        ("analysis", {"search_spaces", "ray", "mlflow"}),
    ],
)
def test_packages_import_downwards_only(package: str, forbidden: set[str]) -> None:
    members = [module for module in MODULES if module.split(".")[0] == package]
    found = {module: packages(module) & forbidden for module in members}
    assert {module: names for module, names in found.items() if names} == {}


def test_search_spaces_see_what_is_free_of_torch_only() -> None:
    """Of wae_core the declarations; that no file of an algorithm brings torch along, a live interpreter tells."""
    members = [module for module in MODULES if module.split(".")[0] == "search_spaces"]
    seen = {module for member in members for module in reachable(member)}
    assert "wae_core.algorithms.registry" in seen
    assert {module for module in seen if {"torch", "safetensors"} & packages_at_import(module)} == set()
    code = "import search_spaces, sys; print({'torch', 'numpy', 'wae_core.algorithms.vae'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "{'wae_core.algorithms.vae'}"


def test_analysis_sees_the_row_schema_ashas_rule_and_the_checkpoint_reader_only() -> None:
    """And what is declared of algorithms and hyperparameters."""
    allowed = {"sweep.results.schema", "sweep.search.asha", "wae_core.storage.checkpoint"}
    allowed |= {"wae_core.algorithms.algorithm", "wae_core.algorithms.registry", "wae_core.hyperparameters"}
    found = {
        module: {name for name in imports(module) if name.split(".")[0] in OURS and not name.startswith("analysis")}
        for module in MODULES
        if module.split(".")[0] == "analysis"
    }
    assert {module: names - allowed for module, names in found.items() if names - allowed} == {}


def test_training_needs_torch_numpy_and_safetensors_alone() -> None:
    algorithms = [module for module in MODULES if module.startswith("wae_core.algorithms.")]
    modules = {found for start in ("wae_core.training.loop", *algorithms) for found in reachable(start)}
    assert {"wae_core", "wae_core.training.state", "wae_core.algorithms.mmd", "wae_core.networks.resnet"} <= modules
    third_party = {
        module: packages_at_import(module) - sys.stdlib_module_names - set(OURS) - {"torch", "numpy", "safetensors"}
        for module in modules | reachable("wae_core.storage.checkpoint")
    }
    assert {module: names for module, names in third_party.items() if names} == {}


def test_one_module_imports_ray() -> None:
    assert importers_of("ray") == {"sweep.running.tune"}


def test_one_module_imports_mlflow() -> None:
    assert importers_of("mlflow") == {"sweep.tracking.mlflow_study"}


def test_optuna_is_imported_where_it_proposes_alone() -> None:
    assert importers_of("optuna") == {"sweep.search.optuna_search", "sweep.search.optuna_space"}


def test_importing_the_training_loop_loads_no_heavy_package() -> None:
    code = (
        "import wae_core.training.loop, wae_core.data.images, sys; wae_core.data.images.load_dataset('digits');"
        "print(sorted({'ray', 'mlflow', 'hydra', 'optuna', 'pandas', 'sklearn', 'scipy', 'PIL', 'mlxtend'}"
        " & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_launch_that_draws_at_random_loads_no_optuna() -> None:
    """The fixed protocol needs none; `sweep.running.tune` is what a launch imports last."""
    code = "import sweep.__main__, sweep.launch, sweep.running.tune, sys; print('optuna' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
