"""Damaged, foreign and older files in a results folder: one sentence that names the file, and never a wrong row."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweep import command
from sweep.errors import ResultsError, SettingsError
from sweep.results import study_file
from sweep.results.folder import StudyFolder, read_evaluations, read_runs
from sweep.results.layout import EVALUATION_TABLE, RECORD_FILE, RUN_TABLE
from sweep.results.parquet import parse, serialise, write_table
from sweep.results.plan_file import PLAN, PLAN_FILE, PlanFile, plan_table, read_plan
from sweep.results.tables import Tables
from sweep.search.plan import plan_runs
from sweep.settings.compose import load_settings
from sweep.settings.settings import FailurePolicy, Study
from tests.places import local
from wae_core.data.images import data_sha256

steady = settings(
    derandomize=True, deadline=None, database=None, max_examples=60, suppress_health_check=list(HealthCheck)
)
PARQUET = {
    "plan": "plan.parquet",
    "runs": "runs/vae.parquet",
    "evaluations": "evaluations/vae.parquet",
    "record": "records/vae-00001-s1.parquet",
}
LAYOUTS = {"plan": PLAN_FILE, "runs": RUN_TABLE, "evaluations": EVALUATION_TABLE, "record": RECORD_FILE}


@st.composite
def damaged(draw: st.DrawFn, good: bytes) -> bytes:
    """Some bytes other than `good`: cut, flipped, put in, left out, or nothing of it at all."""
    kind = draw(st.sampled_from(["cut", "flip", "put in", "leave out", "random", "zeros"]))
    place = draw(st.integers(0, len(good) - 1))
    if kind == "cut":
        return good[:place]
    if kind == "flip":
        bad = bytearray(good)
        for position in [place, *draw(st.lists(st.integers(0, len(good) - 1), max_size=4, unique=True))]:
            bad[position] ^= draw(st.integers(1, 255))
        return bytes(bad) if bytes(bad) != good else good[:-1]
    if kind == "put in":
        return good[:place] + draw(st.binary(min_size=1, max_size=20)) + good[place:]
    if kind == "leave out":
        return good[:place] + good[place + draw(st.integers(1, 20)) :]
    if kind == "zeros":
        length = draw(st.integers(1, 4096))
        zeroed = good[:place] + b"\0" * len(good[place : place + length]) + good[place + length :]
        return zeroed if zeroed != good else b""
    return draw(st.binary(max_size=200)) + draw(st.sampled_from([b"", b"PAR1"]))


@pytest.fixture(scope="module")
def study_words() -> list[str]:
    return ["alg=vae", "budget=6"]


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, study_words: list[str], make_result: Callable[..., Any]
) -> StudyFolder:
    """Six runs of the study `digits` that have ended, one of them in a record: nothing is left to train."""
    study = load_settings(study_words).study
    folder = StudyFolder(tmp_path_factory.mktemp("finished"), study.name)
    folder.records.mkdir(parents=True)
    study_file.claim(folder, study, FailurePolicy(tries=3, worker_deaths=5), None, data_sha256("digits"))
    runs = plan_runs(study, "vae", 6)
    PlanFile(folder).extend(runs)
    for run in runs:
        if run.run_id != "vae-00001-s1":
            folder.publish(*make_result(run, fids=(9.0, 8.0, 7.0, 6.0, 5.0, 4.0), apart=50))
    Tables(folder)
    (last,) = [run for run in runs if run.run_id == "vae-00001-s1"]
    folder.publish(*make_result(last, "diverged", fids=(9.0, float("nan")), apart=50))
    return folder


@pytest.fixture
def place(finished: StudyFolder, tmp_path: Path) -> StudyFolder:
    """A copy of it."""
    shutil.copytree(local(finished.root), tmp_path / "results" / finished.root.name)
    return StudyFolder(tmp_path / "results", finished.root.name)


def refusal(call: Callable[[], Any]) -> str:
    """What the call says when it refuses; empty if it does not."""
    try:
        call()
    except (ResultsError, SettingsError) as error:
        return str(error)
    return ""


def is_sentence_about(path: Path, said: str) -> bool:
    return str(path) in said and len(said.strip().splitlines()) == 1 and "Traceback" not in said


# --- any garbage


@pytest.mark.parametrize("kind", PARQUET)
def test_a_damaged_file_is_refused_or_reads_as_it_was(finished: StudyFolder, kind: str) -> None:
    good = (finished.root / PARQUET[kind]).read_bytes()
    table = parse(good, LAYOUTS[kind], "good", "")
    refused = 0

    @steady
    @given(bad=damaged(good))
    def read(bad: bytes) -> None:
        nonlocal refused
        said = refusal(lambda: parse(bad, LAYOUTS[kind], Path("bad.parquet"), "what to do"))
        if said:
            refused += 1
            assert is_sentence_about(Path("bad.parquet"), said)
            assert said.endswith("; what to do")
            assert len(said) < 500
        else:
            assert str(parse(bad, LAYOUTS[kind], "bad", "").to_pylist()) == str(table.to_pylist())

    read()
    assert refused >= 50, "nearly all damage matters"


@pytest.mark.slow
@pytest.mark.parametrize("kind", PARQUET)
def test_every_byte_of_a_file_counts(finished: StudyFolder, kind: str) -> None:
    """The hash alone sees a changed value in a page that is still a page: of each byte, one bit."""
    good = (finished.root / PARQUET[kind]).read_bytes()
    rows = str(parse(good, LAYOUTS[kind], "good", "").to_pylist())
    unseen = 0
    for position in range(0, len(good), 7):
        bad = bytearray(good)
        bad[position] ^= 1 << position % 8
        try:
            assert str(parse(bytes(bad), LAYOUTS[kind], "bad", "").to_pylist()) == rows
            unseen += 1
        except ResultsError:
            continue
    assert unseen <= 2, "bytes of the key under which the hash lies"


@pytest.mark.slow
@pytest.mark.parametrize("kind", PARQUET)
def test_the_commands_answer_garbage_with_a_sentence(
    place: StudyFolder, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, results, name = local(place.root / PARQUET[kind]), place.root.parent, place.root.name
    good = path.read_bytes()
    frames = [read_runs(results, name), read_evaluations(results, name)]
    assert command.main(["status", "--results", str(results)]) == 0
    shown = capsys.readouterr().out

    @settings(steady, max_examples=15)
    @given(bad=damaged(good))
    def look(bad: bytes) -> None:
        path.write_bytes(bad)
        capsys.readouterr()
        if command.main(["status", "--results", str(results)]) == 2:
            assert is_sentence_about(path, capsys.readouterr().err)
        else:
            assert capsys.readouterr().out == shown
        for reader, frame in zip((read_runs, read_evaluations), frames, strict=True):
            said = refusal(lambda reader=reader: reader(results, name))  # type: ignore[misc]
            assert is_sentence_about(path, said) if said else reader(results, name).equals(frame)

    look()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plan", "runs", "evaluations", "real_images", "study"])
@pytest.mark.parametrize("garbage", ["cut", "empty", "words"])
def test_a_launch_on_damaged_files_is_refused_and_changes_nothing(
    place: StudyFolder, study_words: list[str], kind: str, garbage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    local(place.real_images_file).write_text('{"fid": 1.5, "count": 100, "sharpness": 0.5}')
    path = local(place.root) / (PARQUET | {"real_images": "real_images.json", "study": "study.yaml"})[kind]
    good = path.read_bytes()
    bad = {"cut": good[: len(good) // 2], "empty": b"", "words": b"just words"}[garbage]
    path.write_bytes(bad)
    if kind == "real_images":  # after the training, so that nothing is lost: the command that only reads will do
        assert command.main(["status", "--results", str(place.root.parent)]) == 2
    else:
        assert command.main(["sweep", *study_words, f"results={place.root.parent}"]) == 2
    assert is_sentence_about(path, capsys.readouterr().err)
    assert path.read_bytes() == bad
    assert (place.root / PARQUET["record"]).exists()


# --- Parquet that is whole, and none of ours


def without(name: str) -> Callable[[pa.Table], pa.Table]:
    return lambda table: table.drop_columns([name])


def with_column(name: str, values: Callable[[pa.Table], list[Any]], type_: pa.DataType | None = None) -> Any:
    def change(table: pa.Table) -> pa.Table:
        position = table.column_names.index(name)
        column = pa.array(values(table), type_ or table.schema.field(name).type)
        return table.set_column(position, name, column)

    return change


def constant(name: str, value: object, type_: pa.DataType | None = None) -> Any:
    return with_column(name, lambda table: [value] * len(table), type_)


FOREIGN = {
    "an older version": (
        ("runs", "record"),
        lambda table: constant("schema_version", 1)(table).drop_columns(["precision"]),
        "lacks the column precision",
    ),
    "an older version of equal columns": (("runs", "record"), constant("schema_version", 1), "schema_version is 1"),
    "a column less": (tuple(PARQUET), without("seed"), "lacks the column seed"),
    "a column more": (
        tuple(PARQUET),
        lambda table: table.append_column("mine", pa.array([1] * len(table))),
        "unknown column 'mine'",
    ),
    "another type": (tuple(PARQUET), constant("seed", "0", pa.string()), "column seed is not int64"),
    "a narrower type": (tuple(PARQUET), constant("seed", 0, pa.int32()), "column seed is not int64"),
    "columns mixed up": (
        tuple(PARQUET),
        lambda table: table.select(table.column_names[::-1]),
        "columns are mixed up",
    ),
    "no columns": (tuple(PARQUET), lambda table: table.select([]), "lacks the column"),
    "no run_id": (tuple(PARQUET), constant("run_id", None), "column run_id has empty fields"),
    "a path as run_id": (tuple(PARQUET), constant("run_id", "../../x"), "run_id '../../x'"),
    "another run's run_id": (tuple(PARQUET), constant("run_id", "vae-00007-s7"), "run_id 'vae-00007-s7'"),
    "an unknown status": (("runs", "record"), constant("status", "great"), "status is 'great'"),
    "rows twice": (("plan", "runs", "evaluations"), lambda t: pa.concat_tables([t, t]), "two rows of one run_id"),
    "a date beyond all dates": (
        ("runs", "record"),
        constant("ended_at", 2**62, pa.timestamp("us", tz="UTC")),
        "cannot be used",
    ),
    "evaluations of another run": (
        ("record",),
        with_column(
            "evaluations",
            lambda table: [
                [e | {"run_id": "vae-00000-s0", "config_index": 0, "seed": 0} for e in row]
                for row in table["evaluations"].to_pylist()
            ],
        ),
        "evaluations of another run",
    ),
    "no evaluations": (("record",), constant("evaluations", None), "column evaluations has empty fields"),
    "two rows in a record": (
        ("record",),
        lambda table: pa.concat_tables([
            table,
            constant("evaluations", [])(
                constant("seed", 2)(constant("run_id", "vae-00001-s2")(table)),
            ),
        ]),
        "not the record of run vae-00001-s1",
    ),
    "no row in a record": (("record",), lambda table: table.slice(0, 0), "not the record of run vae-00001-s1"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [(kind, change, said) for kinds, change, said in FOREIGN.values() for kind in kinds],
    ids=[f"{name}: {kind}" for name, (kinds, _, _) in FOREIGN.items() for kind in kinds],
)
@pytest.mark.parametrize("writer", ["ours", "another"])
def test_a_foreign_table_is_refused_with_what_is_wrong(
    place: StudyFolder, kind: str, change: Callable[[pa.Table], pa.Table], said: str, writer: str
) -> None:
    path = local(place.root) / PARQUET[kind]
    table = change(parse(path.read_bytes(), LAYOUTS[kind], path, ""))
    if writer == "ours":
        write_table(path, table)
    else:
        pq.write_table(table, path)
    read = read_plan if kind == "plan" else lambda folder: folder.read_table("evaluations")
    with pytest.raises(ResultsError, match=said) as caught:
        read(place)
    assert is_sentence_about(path, str(caught.value))


def test_a_table_under_another_algorithms_name_is_refused(place: StudyFolder) -> None:
    for name in ("wae-mmd", "mine"):
        path = local(place.root) / "runs" / f"{name}.parquet"
        shutil.copy(path.with_name("vae.parquet"), path)
        with pytest.raises(ResultsError, match="not the table of one algorithm") as caught:
            read_runs(place.root.parent, place.root.name)
        assert is_sentence_about(path, str(caught.value))
        path.unlink()


def test_a_table_that_another_program_wrote_is_read(place: StudyFolder) -> None:
    frame = read_runs(place.root.parent, place.root.name)
    for name in ("runs/vae.parquet", "evaluations/vae.parquet", "plan.parquet", PARQUET["record"]):
        table = pq.read_table(io.BytesIO((place.root / name).read_bytes()))
        pq.write_table(table.replace_schema_metadata(None), place.root / name)
    assert read_runs(place.root.parent, place.root.name).equals(frame)
    assert len(read_plan(place)) == 6


def test_the_hash_is_of_the_file_itself() -> None:
    table = plan_table([])
    data = serialise(table)
    assert serialise(table) == data
    assert pq.read_table(io.BytesIO(data)).schema.equals(PLAN)
    assert b"sha256-of-this-file" not in data


# --- a record that cannot be read stops nothing


def test_a_bad_record_is_set_aside_and_its_run_can_have_another_result(
    folder: StudyFolder, study: Study, make_result: Callable[..., Any]
) -> None:
    first, bad, last = plan_runs(study, "vae", 3)
    for run in (first, bad, last):
        folder.publish(*make_result(run))
    path = local(folder.records) / f"{bad.run_id}.parquet"
    damage = path.read_bytes()[:-10]
    path.write_bytes(damage)
    with pytest.raises(ResultsError, match=bad.run_id):
        folder.read_table("runs")
    tables = Tables(folder)
    assert tables.run_ids() == {first.run_id, last.run_id}
    (problem,) = tables.problems
    assert is_sentence_about(path, problem)
    assert str(folder.damaged) in problem
    assert list(local(folder.records).iterdir()) == []
    (kept,) = local(folder.damaged).iterdir()
    assert kept.read_bytes() == damage, "nothing is deleted"
    assert set(folder.read_table("runs")["run_id"].to_pylist()) == tables.run_ids()

    row, evaluations = make_result(bad, fids=(4.0,))
    assert folder.publish(row, evaluations)
    assert tables.compact() == [bad.run_id]
    assert [r for r in folder.read_table("runs").to_pylist() if r["run_id"] == bad.run_id] == [asdict(row)]
    assert len(tables.problems) == 1


def test_a_folder_in_a_records_place_is_set_aside_too(folder: StudyFolder) -> None:
    (folder.records / "vae-00000-s0.parquet").mkdir()
    tables = Tables(folder)
    assert tables.run_ids() == set()
    assert len(tables.problems) == 1
    assert list(local(folder.records).iterdir()) == []


# --- study.yaml


def test_a_damaged_study_file_is_refused_or_says_the_same(folder: StudyFolder, study: Study) -> None:
    study_file.claim(folder, study, FailurePolicy(tries=3, worker_deaths=5))
    good = folder.study_file.read_bytes()

    @settings(steady, max_examples=40)
    @given(bad=damaged(good))
    def claim(bad: bytes) -> None:
        local(folder.study_file).write_bytes(bad)
        said = refusal(lambda: study_file.widening(folder, study))
        if said:
            assert str(folder.root) in said
            assert "\n" not in said
            assert len(said) < 1000
        else:
            assert all(line.startswith("space.") and "\n" not in line for line in study_file.widening(folder, study))

    claim()


@pytest.mark.parametrize(
    "content",
    [
        "seed: !!bool maybe",
        "seed: !!int ''",
        "seed: !!timestamp x",
        "seed: !!float x",
        "? [1, 2]\n: 3",
        "seed: 1e999",
    ],
)
def test_what_yaml_stumbles_over_is_refused(folder: StudyFolder, study: Study, content: str) -> None:
    local(folder.study_file).write_text(content)
    with pytest.raises(SettingsError, match=r"study\.yaml"):
        study_file.widening(folder, study)


def test_a_study_file_that_would_unfold_into_a_huge_value_is_refused_briefly(
    folder: StudyFolder, study: Study
) -> None:
    study_file.claim(folder, study, FailurePolicy(tries=3, worker_deaths=5))
    bomb = "&a [x, x, x, x, x, x, x, x, x, x]"
    for new, old in zip("bcdefghi", "abcdefgh", strict=True):
        bomb = f"[{bomb}, &{new} [{', '.join([f'*{old}'] * 10)}]]"
    text = local(folder.study_file).read_text()
    local(folder.study_file).write_text(text.replace("steps: 4", f"steps: {bomb}"))
    with pytest.raises(SettingsError, match=r"protocol\.steps") as caught:
        study_file.widening(folder, study)
    assert len(str(caught.value)) < 1000


# --- search spaces


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"latent_dim: !!python/name:os.system x", b"[" * 1000, b"a: b"]
)
def test_a_bad_space_file_is_a_sentence_of_the_command(
    tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    assert command.main(["sweep", f"space={path}", f"results={tmp_path / 'results'}"]) == 2
    assert is_sentence_about(path, capsys.readouterr().err)
    assert not (tmp_path / "results").exists()
