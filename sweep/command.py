"""`bigwae`: its commands in one table, and the one place where an error becomes a sentence and an exit code.

0 done, 1 stopped or failed, 2 bad input, 130 and 143 by signal. The table names modules of all packages and imports
none of them: each command imports what it needs when it is asked for.
"""

from __future__ import annotations

import atexit
import gc
import io
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name
from types import FrameType
from typing import NoReturn

from search_spaces.sentences import SpaceError, closest
from sweep.errors import CONTINUES, ResultsError, SettingsError, without_credentials

CONF = Path(__file__).parent / "conf"
SIGNALS: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


@dataclass(frozen=True)
class Command:
    """What `bigwae <name>` does."""

    help: str
    main: str  # module:function of the words; it raises, or returns the exit code, where None is 0
    bad_input: tuple[type[ValueError], ...] = (ValueError,)  # any other ValueError is a bug, with a traceback
    advice: str = ""  # to whom it stopped


COMMANDS = {
    "sweep": Command(
        "train the models of a budget; the same words again continue it: key=value …",
        "sweep.command:sweep",
        (SettingsError, SpaceError, ResultsError),
        CONTINUES,
    ),
    "status": Command(
        "planned = completed + diverged + failed + missing, and the ledger, for each study",
        "sweep.reports.status:main",
        (SettingsError, ResultsError),
    ),
    "ui": Command("browse the runs in MLflow, on 127.0.0.1, until Ctrl-C", "sweep.tracking.command:ui"),
    "mlflow-rebuild": Command(
        "write the MLflow mirror again from the Parquet files", "sweep.tracking.command:rebuild_mirror"
    ),
    "space": Command("a search space as a table, with remarks and a picture of 1,000 draws", "sweep.command:space"),
    "data": Command(
        "pack a data set: mnist, celeba or a folder of images", "wae_core.data.command:main", advice=CONTINUES
    ),
    "figures": Command(
        "interpolations, reconstructions and samples of models, a column each, as one PNG", "analysis.composite:main"
    ),
    "rescore": Command(
        "score stored models again: other features, more samples, another reference; nothing is trained",
        "sweep.rescoring.command:main",
        (SettingsError, SpaceError, ResultsError),
        CONTINUES,
    ),
    "report": Command(
        "one page that says what a study has found, and how sure that is", "analysis.report.command:main"
    ),
    "counterfactual": Command(
        "what early stopping or fewer seeds would have found and saved in a finished study",
        "analysis.counterfactual:main",
    ),
    "notebooks": Command("run the notebooks on the results and write them as HTML", "analysis.run_notebooks:main"),
}

USAGE = """usage: bigwae <command> [words]

{commands}

bigwae <command> --help says more of one; bigwae --version names this version."""

SWEEP_HELP = """usage: bigwae sweep [key=value ...]          (or: python -m sweep [key=value ...])

{keys}

studies: {studies}. Any value of the study's and the cluster's file can be given too, e.g. study.steps=100,
cluster.workers=4; see sweep/conf/. To launch again with the same words continues what is missing."""


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # one that has ASCII alone shows a question mark for ×
    name, *rest = (sys.argv[1:] if words is None else words) or [""]
    if name == "help" and rest:
        name, rest = rest[0], ["--help"]
    if name in ("help", "-h", "--help"):
        print(_usage())
        return 0
    if name == "--version":
        print(f"bigwae {version('bigwae')}")
        return 0
    if name not in COMMANDS:
        return _told(
            "error", f"unknown command {name!r}: {_meant(name)}" if name else f"which command?\n{_usage()}", 2
        )
    return _run(COMMANDS[name], rest)


def sweep(words: Sequence[str]) -> int:
    """Launch one sweep; wrong words are refused before torch is imported. Returns 1 where runs have failed.

    Raises:
        SettingsError, SpaceError, ResultsError: as `load_settings` and `launch` do.
        OSError: the storage is unavailable, or the results lock was lost.
    """
    if {"-h", "--help"} & set(words):
        studies = sorted(path.stem for path in (CONF / "study").glob("*.yaml"))
        print(SWEEP_HELP.format(keys=(CONF / "config.yaml").read_text("utf-8").strip(), studies=", ".join(studies)))
        return 0
    from sweep.settings.compose import load_settings

    settings = load_settings(words)
    # Else the interpreter's last act is to search 340,000 objects of torch, Ray and MLflow for garbage, for 1.6 s.
    atexit.register(gc.freeze)
    from sweep.launch import launch
    from sweep.reports.status import make_console

    failed = launch(settings, make_console())
    if failed == 0:
        return 0
    return _told("failed", f"{failed:,} run{'s' * (failed > 1)}; make status says why, retry=failed trains again", 1)


def space(words: Sequence[str]) -> int:
    """Show a search space, with the draws of the study that it belongs to.

    Raises:
        SpaceError: the picture cannot be drawn or written.
    """
    from search_spaces.command import main as show
    from search_spaces.plain_yaml import read_yaml

    studies = [read_yaml(path) for path in sorted((CONF / "study").glob("*.yaml"))]
    named = [study for study in studies if isinstance(study, dict) and {"space", "seed"} <= study.keys()]
    return show(words, {study["space"]: study["seed"] for study in named})


def _run(command: Command, words: Sequence[str]) -> int:
    """Run it, and turn its errors into sentences without credentials; what nobody foresaw keeps its traceback."""
    received: list[int] = []

    def unwind(number: int, frame: FrameType | None) -> NoReturn:
        received.append(number)
        raise KeyboardInterrupt  # for SIGTERM as well: no other exception comes through all of Ray's calls

    before = {number: handler for number in SIGNALS if (handler := signal.getsignal(number)) != signal.SIG_IGN}
    for number in before:  # a job in the background may have been started so as to ignore Ctrl-C
        signal.signal(number, unwind)
    try:
        code: int | None = resolve_name(command.main)(words)
        return code or 0
    except command.bad_input as error:
        return _told("error", error, 2)
    except OSError as error:
        return _told("stopped", error, 1, command.advice)
    except KeyboardInterrupt:
        return _ended_by(received[0] if received else signal.SIGINT, command)
    except SystemExit as error:
        if error.code != signal.SIGTERM:
            raise  # argparse's
        return _ended_by(signal.SIGTERM, command)  # of Ray's handler, which it sets while it starts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ended_by(number: int, command: Command) -> int:
    return _told(SIGNALS[number], command.advice or "nothing more is done", 128 + number)


def _told(what: str, why: object, code: int, advice: str = "") -> int:
    print(f"{what}: {without_credentials(str(why))}" + (f"; {advice}" if advice else ""), file=sys.stderr)
    return code


def _usage() -> str:
    return USAGE.format(commands="\n".join(f"  {name:15} {command.help}" for name, command in COMMANDS.items()))


def _meant(name: str) -> str:
    word = closest(name, COMMANDS)
    return f"did you mean {word!r}?" if word else f"it is one of {', '.join(COMMANDS)}"


if __name__ == "__main__":
    sys.exit(main())
