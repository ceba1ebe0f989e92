"""From settings to the runs of a budget, and from the missing ones to packs in the order in which they start."""

from __future__ import annotations

import io
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from sweep.checks import SettingsError
from sweep.results import StudyFolder, write_table
from sweep.settings import Settings, Study
from wae_core.data import load_dataset
from wae_core.device import select_device
from wae_core.features import load_features
from wae_core.networks import ARCHITECTURES
from wae_core.run import Hyperparameters, Run


@dataclass(frozen=True)
class Pack:
    """Runs of equal tensor shapes that one worker trains together."""

    runs: tuple[Run, ...]


def plan_runs(study: Study, algorithm: str, budget: int) -> list[Run]:
    """All runs of `algorithm` within `budget` models: whole configurations, in order, with all their seeds.

    A pure function: a larger budget gives the same runs and then more.
    """
    return [
        Run(
            study=study.name,
            study_seed=study.seed,
            algorithm=algorithm,
            config_index=index,
            seed=seed,
            hyperparameters=Hyperparameters(**study.space.sample(algorithm, index, study.seed)),  # type: ignore[arg-type]
            protocol=study.protocol,
        )
        for index in range(budget // study.seeds)
        for seed in range(study.seeds)
    ]


def pack_runs(runs: Sequence[Run], seconds: Callable[[Run], float], sizes: Mapping[str, int]) -> list[Pack]:
    """The runs in packs of equal shapes, the longest first, so that no worker is left alone with one at the end.

    Args:
        seconds: what a run is predicted to take.
        sizes: how many runs a pack holds at most, by architecture.
    """
    by_shape: defaultdict[tuple[str | int | bool, ...], list[Run]] = defaultdict(list)
    for run in runs:
        h = run.hyperparameters
        by_shape[run.algorithm, h.architecture, h.latent_dim, h.batch_size, run.is_stochastic].append(run)
    packs = []
    for alike in by_shape.values():
        size = sizes[alike[0].hyperparameters.architecture]
        packs += [Pack(tuple(alike[i : i + size])) for i in range(0, len(alike), size)]
    return sorted(packs, key=lambda pack: sum(map(seconds, pack.runs)), reverse=True)


def check_trainable(settings: Settings) -> None:
    """Refuse, before anything is written, a study whose runs could not start.

    Raises:
        SettingsError: data, feature weights, device or an architecture that is not there, or more images asked for
            than the data set has.
    """
    study = settings.study
    try:
        data = load_dataset(study.protocol.dataset, settings.data)
        if "RAY_ADDRESS" not in os.environ:  # a cluster's devices are not those of this machine
            select_device(settings.cluster.device)
        features = load_features(study.protocol.fid_features, torch.device("cpu"), settings.inception)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    if study.protocol.vae_likelihood == "bernoulli" and data.pixel_range[0] < 0:
        raise SettingsError(
            f"study.vae_likelihood is 'bernoulli', but {data.name} is in colour, with pixels in [−1, 1]"
        )
    try:
        features(data.held_out[:1])
    except ValueError as error:
        raise SettingsError(f"study.fid_features is {study.protocol.fid_features!r}, but {error}") from error
    support = {h.name: h.distribution.support for h in study.space.hyperparameters}
    for architecture in support["architecture"]:
        if architecture not in ARCHITECTURES:
            raise SettingsError(
                f"space {study.space.name}: architecture {architecture!r} is none of {', '.join(ARCHITECTURES)}"
            )
    largest_batch = max(int(size) for size in support["batch_size"])
    if largest_batch > len(data.train):
        raise SettingsError(
            f"space {study.space.name}: batch_size goes up to {largest_batch}, "
            f"but {data.name} has {len(data.train)} training images"
        )
    for key, limit in (("evaluation_images", len(data.held_out)), ("pretraining_images", len(data.train))):
        if getattr(study.protocol, key) > limit:
            raise SettingsError(
                f"study.{key} is {getattr(study.protocol, key)}, but {data.name} has {limit} such images"
            )


def plan_table(runs: Sequence[Run]) -> pa.Table:
    """plan.parquet: one row per planned run, with its coordinates and hyperparameters."""
    rows = [
        {
            "run_id": run.run_id,
            "algorithm": run.algorithm,
            "config_index": run.config_index,
            "config_id": run.config_id,
            "seed": run.seed,
            "steps_planned": run.protocol.steps,
            **asdict(run.hyperparameters),
        }
        for run in runs
    ]
    return pa.Table.from_pylist(rows, schema=PLAN)


def extend_plan(folder: StudyFolder, runs: Sequence[Run]) -> None:
    """Add runs to plan.parquet; what was planned before stays as it was."""
    table = plan_table(runs)
    if folder.plan_file.exists():
        earlier = _stored_plan(folder)
        is_new = pc.invert(pc.is_in(table["run_id"], value_set=earlier["run_id"].combine_chunks()))
        table = pa.concat_tables([earlier, table.filter(is_new)])
        if len(table) == len(earlier):
            return
    write_table(folder.plan_file, table)


def planned_runs(folder: StudyFolder, study: Study) -> list[Run]:
    """The runs of plan.parquet, in the order in which they were planned."""
    if not folder.plan_file.exists():
        return []
    return [
        Run(
            study=study.name,
            study_seed=study.seed,
            algorithm=row["algorithm"],
            config_index=row["config_index"],
            seed=row["seed"],
            hyperparameters=Hyperparameters(**{field.name: row[field.name] for field in fields(Hyperparameters)}),
            protocol=study.protocol,
        )
        for row in _stored_plan(folder).to_pylist()
    ]


def _stored_plan(folder: StudyFolder) -> pa.Table:
    return pq.read_table(io.BytesIO(folder.plan_file.read_bytes()), schema=PLAN)


PLAN = pa.schema(
    [
        ("run_id", pa.string()),
        ("algorithm", pa.string()),
        ("config_index", pa.int64()),
        ("config_id", pa.string()),
        ("seed", pa.int64()),
        ("steps_planned", pa.int64()),
        ("latent_dim", pa.int64()),
        ("batch_size", pa.int64()),
        ("learning_rate", pa.float64()),
        ("architecture", pa.string()),
        ("encoder", pa.string()),
        ("adversary_learning_rate", pa.float64()),
        ("kernel_scale", pa.float64()),
        ("wae_lambda", pa.float64()),
        ("decoder_variance", pa.float64()),
    ]
)
