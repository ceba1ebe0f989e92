"""Memory of a WAE-GAN's step in the study bigwae (64×64×3, width 128): per image, and the batch that 80 GB hold.

python tests/benchmarks/memory.py
python tests/benchmarks/memory.py --architecture dcgan --batch 256 512

The first form counts what autograd keeps for the backward pass, which is exact. The second also takes a real
float32 step at two batch sizes, each in a process of its own on one CPU core, and reads the peak of its resident
memory (Linux): to what is kept, the backward pass adds the gradients of a few feature maps, and libraries their
buffers. Either takes minutes.
"""

import argparse
import multiprocessing
import re
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sweep.settings.compose import load_settings
from wae_core.data.images import ImageData
from wae_core.run import Hyperparameters, Run
from wae_core.training.loop import train
from wae_core.training.state import TrainingState

ACCELERATOR = 80e9  # bytes
DATA_SET = 182_599 * 3 * 64 * 64  # bytes of CelebA's training images, which train() holds on the device
LATENT_DIM = 512  # the largest of the study
PRECISIONS = ("float32", "bfloat16")
SMALL = (2, 3)  # batches; what is kept grows in proportion to the batch, or not at all


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--architecture", nargs="+", default=["dcgan", "resnet50v2"])
    parser.add_argument("--batch", nargs=2, type=int, metavar=("SMALLER", "LARGER"), help="sizes of the real steps")
    arguments = parser.parse_args()
    for architecture in arguments.architecture:
        report(architecture, arguments.batch)


def report(architecture: str, batches: list[int] | None) -> None:
    print(f"{architecture}, wae-gan, latent_dim {LATENT_DIM}", flush=True)
    fixed = DATA_SET + state_bytes(architecture)
    print(f"  weights, gradients, Adam's moments and the data set: {fixed / 1e9:.2f} GB")
    kept = {}
    for precision in PRECISIONS:
        kept[precision] = slope(SMALL, [bytes_kept(architecture, n, precision) for n in SMALL])
        print(f"  kept for the backward pass, {precision}: {kept[precision] / 1e6:.1f} MB an image", flush=True)
    factor = 1.0
    if batches:
        peaks = [in_new_process(architecture, n) for n in batches]
        measured = slope(batches, peaks)
        factor = measured / kept["float32"]
        for n, peak in zip(batches, peaks, strict=True):
            print(f"  peak of a float32 step at batch {n}: {peak / 1e9:.2f} GB")
        print(f"  that is {measured / 1e6:.1f} MB an image, {factor:.2f} times what is kept")
    for precision, size in kept.items():
        largest = int((ACCELERATOR - fixed) / (factor * size))
        print(f"  80 GB hold a batch of {'' if batches else 'less than '}{largest:,} in {precision}", flush=True)


def slope(batches: tuple[int, ...] | list[int], sizes: list[int]) -> float:
    return (sizes[1] - sizes[0]) / (batches[1] - batches[0])


def prepare(architecture: str, batch: int, precision: str = "float32") -> tuple[Run, ImageData, TrainingState]:
    """A run of a single step on random images."""
    protocol = load_settings(["study=bigwae"]).study.protocol
    protocol = replace(protocol, steps=1, evaluation_steps=(1,), pretraining_steps=0, precision=precision)
    hyperparameters = Hyperparameters(
        latent_dim=LATENT_DIM,
        batch_size=batch,
        learning_rate=1e-4,
        architecture=architecture,
        encoder="deterministic",
        adversary_learning_rate=1e-4,
        wae_lambda=1.0,
    )
    run = Run("bigwae", 0, "wae-gan", 0, 0, hyperparameters, protocol)
    images = torch.randint(256, (batch, 3, 64, 64), dtype=torch.uint8)
    data = ImageData("celeba", images, images[:0])
    return run, data, TrainingState(run, data, torch.device("cpu"))


def take_step(run: Run, data: ImageData, state: TrainingState) -> None:
    for _ in train(run, data, torch.device("cpu"), state):
        pass


def state_bytes(architecture: str) -> int:
    """Bytes of the weights, their gradients and Adam's two moments."""
    _, _, state = prepare(architecture, 2)
    networks = [network for network in (state.autoencoder, state.discriminator) if network is not None]
    return sum(4 * parameter.nbytes for network in networks for parameter in network.parameters())


def bytes_kept(architecture: str, batch: int, precision: str) -> int:
    """Bytes of the storages that one step saves for its backward pass, weights included, each counted once."""
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage  # held, so that no address is used twice
        return tensor

    prepared = prepare(architecture, batch, precision)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        take_step(*prepared)
    return sum(storage.nbytes() for storage in kept.values())


def peak_of_a_step(architecture: str, batch: int) -> int:
    """Peak of the resident bytes of this process, which has taken one step."""
    torch.set_num_threads(1)
    take_step(*prepare(architecture, batch))
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    return 1024 * int(peak[1])


def in_new_process(architecture: str, batch: int) -> int:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak_of_a_step, (architecture, batch))


if __name__ == "__main__":
    main()
