"""The Makefile hands on what it is given: a variable is one word, whatever is in it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ODD = """it's "my" results, 100 % & $5 (1); `x` #2 *"""
ECHO = f"""#!{sys.executable}
import json, sys
from pathlib import Path
with (Path(__file__).parent / "said").open("a") as file:
    file.write(json.dumps([Path(__file__).name, *sys.argv[1:]]) + "\\n")
"""


def said_by_make(folder: Path, target: str, **variables: str) -> list[list[str]]:
    """The commands, each a list of words, that `make target` runs in the place of those of .venv/bin."""
    bin_folder = folder / "my bin"
    bin_folder.mkdir(exist_ok=True)
    for name in ("python", "pip", "pytest", "ruff", "mypy"):
        (bin_folder / name).write_text(ECHO)
        (bin_folder / name).chmod(0o755)
    (bin_folder / "said").write_text("")
    words = [f"{name}={value.replace('$', '$$')}" for name, value in {"BIN": str(bin_folder), **variables}.items()]
    make = ["make", "--no-print-directory", "--old-file=.venv/ready", target, *words]
    done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in (bin_folder / "said").read_text().splitlines()]


# target: its variables, and what its command is given by each
TAKES = {
    "data": {
        **{"DATA": "{}", "SOURCE": "--source {}", "NAME": "--name {}", "SIZE": "--size {}"},
        "HELD_OUT": "--held-out {}",
    },
    "space": {"SPACE": "{}", "STUDY_SEED": "--seed {}", "RESULTS": "--results {}"},
    "sweep": {
        **{"ALG": "alg={}", "BUDGET": "budget={}", "STUDY": "study={}", "SPACE": "space={}", "SEARCH": "search={}"},
        **{"SCHEDULER": "scheduler={}", "CONFIRM": "confirm={}", "TRACKING": "tracking={}", "RESULTS": "results={}"},
    },
    "status": {"RESULTS": "--results {}", "STUDY": "--study {}"},
    "ui": {"RESULTS": "--results {}", "TRACKING": "--tracking {}"},
    "mlflow-rebuild": {"RESULTS": "--results {}", "TRACKING": "--tracking {}"},
    "notebooks": {"RESULTS": "--results {}", "STUDY": "--study {}"},
    "figures": {"RESULTS": "--results {}", "STUDY": "--study {}", "OUT": "--output {}"},
    "report": {"RESULTS": "--results {}", "STUDY": "--study {}", "WITH": "--with {}"},
    "rescore": {
        **{"RESULTS": "--results {}", "STUDY": "--study {}"},
        **{"FEATURES": "--features {}", "SAMPLES": "--samples {}"},
    },
    "counterfactual": {"RESULTS": "--out {}/counterfactual-digits.png", "STUDY": "--study {}"},
    "bench": {"RESULTS": "--json {}/bench.json", "DEVICE": "--device {}", "PYTHAE": "--pythae {}"},
    "chaos": {"RESULTS": "--results {}/chaos", "KILLS": "--kills {}", "BUDGET": "--budget {}", "SEED": "--seed {}"},
}


@pytest.mark.parametrize(
    ("target", "variable"), [(target, name) for target, names in TAKES.items() for name in names]
)
def test_a_variable_is_one_word_of_the_command(tmp_path: Path, target: str, variable: str) -> None:
    [[python, *words]] = said_by_make(tmp_path, target, **{variable: ODD})
    assert python == "python"
    expected = [word.format(ODD) for word in TAKES[target][variable].split(" ")]
    position = words.index(expected[0])
    assert words[position : position + len(expected)] == expected


def test_every_variable_of_a_recipe_is_tested_or_means_several_words() -> None:
    text = (ROOT / "Makefile").read_text()
    used = set(re.findall(r"\$\(([A-Z_]+)\)", text.replace("MAKEFILE_LIST", "")))
    assert used - {name for names in TAKES.values() for name in names} == {
        *("ARGS", "MODELS", "PARTS"),
        *("BIN", "READY", "BIGWAE", "PARALLEL_PYTEST", "WORDS", "PYTHON"),
    }


def test_what_means_several_words_is_split_as_a_shell_does(tmp_path: Path) -> None:
    [words] = said_by_make(
        tmp_path, "figures", MODELS="'my results/a.safetensors' b.safetensors", ARGS="--data 'my data'"
    )
    assert words[3:6] == ["figures", "my results/a.safetensors", "b.safetensors"]
    assert words[-2:] == ["--data", "my data"]


def test_tools_lie_in_a_folder_of_any_name(tmp_path: Path) -> None:
    assert [words[0] for words in said_by_make(tmp_path, "check")] == ["ruff", "ruff", "mypy"]
    assert [words[0] for words in said_by_make(tmp_path, "test-quick")] == ["ruff", "pytest"]
