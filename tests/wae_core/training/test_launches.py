"""What a pack launches, counted on the CPU: hardly more than one model does, and nothing between two layouts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import torch

from tests.wae_core.operators import Operators
from tests.wae_core.training.test_packs import pack_of
from wae_core.data.images import ImageData
from wae_core.networks import ARCHITECTURES
from wae_core.run import ALGORITHMS, Run
from wae_core.training.adam import Adam
from wae_core.training.loop import train_pack
from wae_core.training.state import TrainingState

CPU = torch.device("cpu")
MakeRun = Callable[..., Run]
every_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)
every_architecture = pytest.mark.parametrize(
    "architecture", [pytest.param(name, marks=pytest.mark.slow if "50" in name else ()) for name in ARCHITECTURES]
)


@pytest.fixture(autouse=True)
def without_optimiser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adam's launches are the same for a pack and for one model: here they would hide what the networks' are."""
    monkeypatch.setattr(Adam, "descend", lambda self, loss: torch.autograd.grad(loss, self.parameters))


def launches(
    make_run: MakeRun, data: ImageData, algorithm: str, architecture: str, size: int, steps: int
) -> Operators:
    """Of the first steps of a pack, forward and backward."""
    overrides = {"steps": steps, "evaluation_steps": (steps,), "pretraining_steps": 0, "batch_size": 8}
    runs = pack_of(make_run(algorithm, architecture=architecture, **overrides), size)
    states = [TrainingState(run, data, CPU) for run in runs]
    seen = Operators()
    with seen:
        for _ in train_pack(runs, data, CPU, states):
            pass
    return seen


@every_architecture
@every_algorithm
def test_a_step_of_three_models_launches_hardly_more_than_a_step_of_one(
    make_run: MakeRun, few_digits: ImageData, algorithm: str, architecture: str
) -> None:
    def of_a_step(size: int) -> Counter[str]:
        # The third step is within the first epoch and the first block of random draws.
        two, three = (
            launches(make_run, few_digits, algorithm, architecture, size, steps).launches for steps in (2, 3)
        )
        return three - two

    one, pack = of_a_step(1), of_a_step(3)
    assert one.total() > 100
    assert pack.total() <= 1.5 * one.total(), pack - one


@every_architecture
def test_a_pack_s_convolutions_find_maps_and_filters_in_one_layout(
    make_run: MakeRun, few_digits: ImageData, architecture: str
) -> None:
    convolved = launches(make_run, few_digits, "vae", architecture, 3, 1).convolved
    assert len(convolved) > 8
    # All but the images' gradient, which comes from the losses, where each member has its own.
    maps = [tensor for number, tensors in enumerate(convolved) for tensor in tensors if number != len(convolved) // 2]
    assert [tuple(m.shape) for m in maps if not m.is_contiguous(memory_format=torch.channels_last)] == []
