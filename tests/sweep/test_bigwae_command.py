"""`bigwae`: one table of commands, one place for exit codes; nothing is imported before it is needed."""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from search_spaces import SpaceError
from sweep import command
from sweep.command import COMMANDS, Command, main
from sweep.errors import LockLost, ResultsError, SettingsError

ROOT = Path(__file__).parents[2]


def test_help_lists_every_command_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["help"], ["--help"], ["-h"]):
        assert main(words) == 0
        lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
        assert dict(lines) == {name: known.help for name, known in COMMANDS.items()}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_of_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = []
    for words in ([name, "--help"], ["help", name]):
        with contextlib.suppress(SystemExit):  # argparse's
            assert main(words) == 0
        shown.append(capsys.readouterr().out)
    assert shown[0].startswith(f"usage: bigwae {name} ")
    assert shown[0] == shown[1]
    assert "results" in shown[0] or name == "data"


def test_the_version_is_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("bigwae 0.")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["swep", "alg=vae"], "error: unknown command 'swep': did you mean 'sweep'?\n"),
        (["rebuild"], "error: unknown command 'rebuild': did you mean 'mlflow-rebuild'?\n"),
        (["xyzzy"], f"error: unknown command 'xyzzy': it is one of {', '.join(COMMANDS)}\n"),
        (
            ["http://user:hunter2@host"],
            f"error: unknown command 'http://***@host': it is one of {', '.join(COMMANDS)}\n",
        ),
        (["help", "swep"], "error: unknown command 'swep': did you mean 'sweep'?\n"),
    ],
)
def test_an_unknown_command_is_told(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err == said


def test_no_command_is_bad_input_and_shows_them_all(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["bigwae"])
    assert main([]) == main() == 2
    said = capsys.readouterr().err
    assert [name for name in COMMANDS if f"\n  {name} " not in said] == []


FAILURES: list[BaseException] = []


def fail(words: Sequence[str]) -> None:
    raise FAILURES[-1]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (SettingsError("budget is 2"), 2, "error: budget is 2\n"),
        (ResultsError("http://user:hunter2@host/x is damaged"), 2, "error: http://***@host/x is damaged\n"),
        (SpaceError("low is 2"), 2, "error: low is 2\n"),
        (OSError(28, "No space left on device"), 1, "stopped: [Errno 28] No space left on device; go on\n"),
        (LockLost("another driver has it"), 1, "stopped: another driver has it; go on\n"),
        (KeyboardInterrupt(), 130, "interrupted: go on\n"),
        (SystemExit(15), 143, "terminated: go on\n"),  # of Ray's handler of SIGTERM
    ],
)
def test_an_error_becomes_a_sentence_and_an_exit_code(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = Command("", f"{__name__}:fail", (SettingsError, SpaceError, ResultsError), "go on")
    monkeypatch.setattr(command, "COMMANDS", {"tried": tried})
    FAILURES.append(error)
    assert main(["tried"]) == code
    assert capsys.readouterr().err == said


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "COMMANDS", {"tried": Command("", f"{__name__}:fail", (SettingsError,))})
    FAILURES.append(ValueError("nobody foresaw it"))
    with pytest.raises(ValueError, match="nobody foresaw it"):
        main(["tried"])


SIGNALS_TO_SEND: list[signal.Signals] = []


def send(words: Sequence[str]) -> None:
    os.kill(os.getpid(), SIGNALS_TO_SEND[-1])
    time.sleep(10)


@pytest.mark.parametrize(
    ("number", "code", "said"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_signal_unwinds_as_ctrl_c_does(
    number: signal.Signals, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "COMMANDS", {"tried": Command("", f"{__name__}:send", advice="go on")})
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    SIGNALS_TO_SEND.append(number)
    assert main(["tried"]) == code
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert capsys.readouterr().err == f"{said}: go on\n"


def test_a_shell_that_lets_its_jobs_ignore_ctrl_c_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "COMMANDS", {"tried": Command("", f"{__name__}:ignore")})
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert main(["tried"]) == 0
    finally:
        signal.signal(signal.SIGINT, before)


def ignore(words: Sequence[str]) -> None:
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(
    "words",
    [
        *([name, "--help"] for name in COMMANDS),
        ["help"],
        ["sweep", "dry_run=true", "scheduler=asha", "results=results/ä×┃"],
        ["sweep", "scheduler=ä×┃"],
        ["status", "--results", "ä×┃"],
        ["space", "digits", "--out", "space.png"],
    ],
    ids=" ".join,
)
def test_a_terminal_that_has_ascii_alone_ends_no_command(
    words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    with contextlib.suppress(SystemExit):  # argparse's
        assert main(words) == 2 * ("ä×┃" in words[-1] and "dry_run=true" not in words)
    printed = b""
    for stream in streams:
        stream.flush()
        printed += stream.buffer.getvalue()
    assert printed.decode("ascii").strip()


def test_a_launch_leaves_no_garbage_to_search_for_at_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    import sweep.launch

    launched: list[object] = []
    at_exit: list[object] = []

    def launch(settings: object, console: object) -> int:
        launched.append(settings)
        return 0

    monkeypatch.setattr(sweep.launch, "launch", launch)
    monkeypatch.setattr(atexit, "register", at_exit.append)
    assert main(["sweep", "budget=6"]) == 0
    assert [type(settings).__name__ for settings in launched] == ["Settings"]
    assert at_exit == [gc.freeze]


def loaded(code: str, *candidates: str) -> str:
    """Which of the modules are imported once the code has run in a fresh interpreter."""
    code += f"; import sys; sys.stderr.write(str(sorted({set(candidates)} & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stderr.splitlines()[-1]


HEAVY = ("torch", "mlflow", "ray", "optuna", "pandas", "pyarrow", "PIL", "rich", "matplotlib")
SETTINGS = ("hydra", "omegaconf", "pydantic")


@pytest.mark.parametrize("words", [["--help"], ["sweep", "--help"], ["swep"]])
def test_a_question_imports_nothing_heavy(words: list[str]) -> None:
    assert loaded(f"from sweep.command import main; main({words})", *HEAVY, *SETTINGS) == "[]"


@pytest.mark.parametrize("word", ["budgte=3", "budget=abc", "study.width=0", "space=nosuch", "alg=all\n"])
def test_a_wrong_word_is_refused_before_anything_heavy_is_imported(word: str) -> None:
    assert loaded(f"from sweep.command import main; assert main(['sweep', {word!r}]) == 2", *HEAVY) == "[]"


def test_the_settings_types_need_no_hydra_and_no_torch() -> None:
    assert loaded("import sweep.settings.settings", "hydra", "omegaconf", *HEAVY) == "[]"


@pytest.mark.slow
def test_a_worker_s_module_imports_neither_hydra_nor_pandas_nor_mlflow() -> None:
    assert loaded("import sweep.running.worker", "hydra", "omegaconf", "pandas", "mlflow", "optuna", "rich") == "[]"
