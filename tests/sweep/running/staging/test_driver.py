"""A driver fetches what it lacks itself, and puts what nodes may lack where they find it; on one machine nothing."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweep.command import main
from sweep.errors import SettingsError
from sweep.events import WorkerContext
from sweep.launch import launch
from sweep.results.folder import StudyFolder
from sweep.running.staging import driver
from sweep.running.staging.driver import OFFERED, fetch_missing, offer
from sweep.running.staging.fetching import FETCHED
from sweep.running.staging.node import data_folder, weights_file
from sweep.settings.compose import load_settings
from sweep.settings.settings import Settings, Study
from tests.chaos.faulty_proxy import FaultyProxy, faulty_bucket
from tests.packed import pack_noise
from tests.web_server import WebServer
from wae_core.data.images import data_sha256
from wae_core.data.manifest import IMAGES, MANIFEST, Manifest
from wae_core.data.preparing import check
from wae_core.evaluation.inception import WEIGHTS_NAME
from wae_core.storage.files import Location, delete_folder, listed, location
from wae_core.storage.objects import ObjectPath

numbers = itertools.count()


@pytest.fixture
def settings(study: Study, tmp_path: Path) -> Settings:
    """A launch of a study of `noise`, in this very process, whose data folder is not there."""
    protocol = replace(study.protocol, dataset="noise", steps=2, evaluation_steps=(1, 2), fid_samples=80)
    words = ["cluster=inprocess", "alg=vae", "tracking=http://127.0.0.1:9", "budget=3"]
    loaded = load_settings([*words, f"results={tmp_path / 'results'}", f"data={tmp_path / 'data'}"])
    mine = replace(loaded.study, name="test", protocol=replace(protocol, evaluation_images=10))
    return replace(loaded, study=mine)


def on_a_cluster(settings: Settings) -> Settings:
    return replace(settings, cluster=load_settings(["cluster=local"]).cluster)


@pytest.fixture
def _cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")


# --- what the driver lacks


def rows(settings: Settings) -> list[dict[str, Any]]:
    """Launch; returns the rows, but for what differs from launch to launch."""
    console = Console(file=io.StringIO(), width=500)
    launch(settings, console)
    table = StudyFolder(settings.results, "test").read_table("runs").to_pandas()
    timings = ["train_seconds", "eval_seconds", "cpu_seconds", "attempts", "started_at", "ended_at", "git_commit"]
    found: list[dict[str, Any]] = table.sort_values("run_id").drop(columns=timings).to_dict("records")
    return found


@pytest.mark.slow
def test_a_sweep_without_data_fetches_them_and_its_rows_are_the_same(
    settings: Settings, elsewhere: Path, source: Location, server: WebServer, tmp_path: Path
) -> None:
    quiet = rows(replace(settings, data=elsewhere, results=tmp_path / "quiet"))
    assert [row["status"] for row in quiet] == ["completed"] * 3
    for place in (source, elsewhere):
        results, data = tmp_path / f"results-{next(numbers)}", tmp_path / f"data-{next(numbers)}"
        assert str(rows(replace(settings, data=data, results=results, data_source=place))) == str(quiet)
        check("noise", data)
        assert not (results / OFFERED).exists()
    assert len(server.asked_for(IMAGES)) == 1


@pytest.mark.slow
def test_the_words_of_a_launch_reach_the_source(elsewhere: Path, tmp_path: Path, source: Location) -> None:
    words = ["sweep", "cluster=inprocess", "alg=vae", "budget=3", "study.dataset=noise", "study.name=mine"]
    words += ["tracking=http://127.0.0.1:9", "study.steps=2", "study.evaluation_steps=[2]", "study.fid_samples=80"]
    words += ["study.evaluation_images=10", "study.pretraining_images=10", f"results={tmp_path / 'results'}"]
    words += [f"data={tmp_path / 'data'}"]
    assert main(words) == 2
    assert not (tmp_path / "results").exists() and not (tmp_path / "data").exists()
    assert main([*words, f"data_source={tmp_path / 'nowhere'}"]) == 2
    assert not (tmp_path / "results").exists() and not (tmp_path / "data").exists()
    assert main([*words, f"data_source={source}"]) == 0
    check("noise", tmp_path / "data")


def test_a_dry_run_fetches_nothing(settings: Settings, server: WebServer, source: Location) -> None:
    with pytest.raises(ValueError, match="unknown data set 'noise'"):
        launch(replace(settings, data_source=source, dry_run=True), Console(file=io.StringIO()))
    assert server.asked == []


def test_weights_that_the_driver_lacks_are_fetched_and_named(
    settings: Settings, source: Location, weights: Path, tmp_path: Path
) -> None:
    pack_noise(settings.data)
    protocol = replace(settings.study.protocol, fid_features="inception")
    fetched = settings.data / FETCHED / WEIGHTS_NAME
    for given in (None, tmp_path / "nowhere.pth"):
        changed = replace(settings, data_source=source, inception=given)
        assert fetch_missing(changed, protocol, None, print).inception == fetched
    assert fetched.read_bytes() == weights.read_bytes()
    assert fetch_missing(
        replace(settings, data_source=source, inception=weights), protocol, None, print
    ).inception == (weights)


def test_a_source_that_does_not_answer_is_named(settings: Settings, server: WebServer, source: Location) -> None:
    server.cuts = [0] * 1000
    with pytest.raises(SettingsError, match=f"data_source is '{source}', from where nothing can be fetched: "):
        fetch_missing(replace(settings, data_source=source), settings.study.protocol, None, print)


def test_where_all_is_here_no_source_is_asked(settings: Settings, manifest: Manifest) -> None:
    pack_noise(settings.data)
    given = replace(settings, data_source=Path("/nowhere"))
    assert fetch_missing(given, settings.study.protocol, None, pytest.fail) == given


@pytest.mark.usefixtures("_cluster")
def test_nodes_that_would_fetch_other_data_are_noticed_at_the_launch(
    settings: Settings, source: Location, manifest: Manifest
) -> None:
    other = pack_noise(settings.data, seed=1)
    with pytest.raises(SettingsError) as refusal:
        fetch_missing(on_a_cluster(replace(settings, data_source=source)), settings.study.protocol, None, print)
    assert manifest.sha256 in str(refusal.value) and other.sha256 in str(refusal.value)


# --- what the nodes may lack


def test_on_one_machine_nothing_is_offered(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though a cluster is named, where the training is in this very process."""
    results = settings.results.absolute()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert offer(on_a_cluster(settings), settings.study.protocol, "0" * 64, results, pytest.fail) is None
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    assert offer(settings, settings.study.protocol, "0" * 64, results, pytest.fail) is None
    assert not results.exists()


@pytest.mark.usefixtures("_cluster")
def test_of_the_digits_nothing_is_offered(settings: Settings) -> None:
    protocol = replace(settings.study.protocol, dataset="digits")
    assert offer(on_a_cluster(settings), protocol, "0" * 64, settings.results.absolute(), pytest.fail) is None


@pytest.mark.usefixtures("_cluster")
def test_a_source_that_is_named_is_the_nodes_too(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    given = on_a_cluster(replace(settings, data_source=Path("shared")))
    results = settings.results.absolute()
    assert offer(given, settings.study.protocol, "0" * 64, results, pytest.fail) == Path.cwd() / "shared"


@pytest.fixture(scope="module")
def proxy() -> Iterator[FaultyProxy]:
    with faulty_bucket() as proxy:
        yield proxy


@pytest.fixture(params=["disk", pytest.param("store", marks=pytest.mark.slow)])
def results(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "disk":
        return tmp_path / "results"
    request.getfixturevalue("proxy")
    return location(f"s3://chaos/results-{next(numbers)}")


Offered = Callable[..., tuple[Location, list[str]]]


@pytest.fixture
def offered(
    settings: Settings, results: Location, elsewhere: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> Offered:
    """offered(): what a launch on a cluster offers, and what it says."""
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")

    def make(identity: str) -> tuple[Location, list[str]]:
        said: list[str] = []
        protocol = replace(settings.study.protocol, fid_features="inception")
        given = on_a_cluster(replace(settings, data=elsewhere, inception=weights))
        place = offer(given, protocol, identity, results, said.append)
        assert place is not None
        return place, said

    return make


def test_a_cluster_finds_data_and_weights_in_the_results(
    offered: Offered,
    results: Location,
    manifest: Manifest,
    settings: Settings,
    context_of: Callable[..., WorkerContext],
) -> None:
    place, said = offered(manifest.sha256)
    assert str(place) == f"{results}/{OFFERED}/{manifest.sha256}"
    assert len(said) == 2 and all(str(place) in sentence for sentence in said)
    assert "data set noise (376 kB)" in said[0] and "Inception's weights (35 kB)" in said[1]
    assert offered(manifest.sha256) == (place, []), "a second launch finds all of it there"
    context = context_of(data_source=place)
    assert data_folder("noise", context, print) == context.data
    assert weights_file(context, print) == context.data / FETCHED / WEIGHTS_NAME
    check("noise", context.data)
    assert data_sha256("noise", context.data) == manifest.sha256


def test_nobody_takes_what_is_offered_for_a_study(offered: Offered, results: Location, manifest: Manifest) -> None:
    offered(manifest.sha256)
    for pattern in ("*", "*/plan.parquet", "*/runs", "*/study.yaml"):  # of status, ui, rebuild and rescore
        assert listed(results, pattern) == []
    assert main(["status", "--results", str(results)]) == 2


@pytest.mark.parametrize("file", [IMAGES, MANIFEST])
def test_what_is_missing_of_it_is_put_there_again(offered: Offered, manifest: Manifest, file: str) -> None:
    place, first = offered(manifest.sha256)
    (place / "noise" / file).unlink()
    _, said = offered(manifest.sha256)
    assert said == first[:1]
    assert (place / "noise" / file).exists()


def test_a_damaged_set_is_not_offered(offered: Offered, elsewhere: Path, manifest: Manifest) -> None:
    images = bytearray((elsewhere / "noise" / IMAGES).read_bytes())
    images[-1] ^= 1
    (elsewhere / "noise" / IMAGES).write_bytes(images)
    with pytest.raises(SettingsError, match="is damaged"):
        offered(manifest.sha256)


@pytest.mark.slow
@pytest.mark.usefixtures("_cluster")
@pytest.mark.parametrize("fault", ["lost", "dropped", "doubled", "unavailable"])
@pytest.mark.parametrize("file", [IMAGES, MANIFEST])
def test_a_store_s_answer_that_is_lost_changes_nothing(
    proxy: FaultyProxy,
    settings: Settings,
    elsewhere: Path,
    manifest: Manifest,
    context_of: Callable[..., WorkerContext],
    file: str,
    fault: str,
) -> None:
    results = location(f"s3://chaos/results-{next(numbers)}")
    proxy.once(fault, "PUT", file)
    given = on_a_cluster(replace(settings, data=elsewhere))
    place = offer(given, settings.study.protocol, manifest.sha256, results, print)
    context = context_of(data_source=place)
    data_folder("noise", context, print)
    check("noise", context.data)
    delete_folder(results)


@pytest.mark.usefixtures("_cluster")
def test_what_is_put_into_a_store_has_its_manifest_last(
    settings: Settings, elsewhere: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = ObjectPath("memory://", f"results-{next(numbers)}")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    given = on_a_cluster(replace(settings, data=elsewhere))
    with monkeypatch.context() as patch:
        patch.setattr(driver, "write_atomically", killed)
        with pytest.raises(KeyboardInterrupt):
            offer(given, settings.study.protocol, manifest.sha256, results, print)
    place = results / OFFERED / manifest.sha256 / "noise"
    assert (place / IMAGES).exists() and not (place / MANIFEST).exists()
    offer(given, settings.study.protocol, manifest.sha256, results, print)
    assert (place / MANIFEST).exists()
