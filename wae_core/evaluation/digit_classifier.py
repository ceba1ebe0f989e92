"""The classifier of handwritten digits whose penultimate layer is the feature network `digits`, and its training.

    python -m wae_core.evaluation.digit_classifier FOLDER

trains it on the 60,000 training images of MNIST (FOLDER holds the four IDX files, gzipped), prints the accuracy on
the 10,000 test images, and writes the weights: about two minutes on one core. The same machine writes the same
file again; another kind of CPU rounds otherwise, and WEIGHTS_SHA256 is then to be replaced by what is printed.

Every size and constant here is ours: chosen for speed (strides, few channels where the image is large) and for a
Fréchet distance that grows with the damage done to real digits.
"""

from __future__ import annotations

import argparse
import hashlib
import math
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wae_core.data.idx import read_idx
from wae_core.evaluation.weights_file import read_weights

FEATURE_DIM = 64
IMAGE_SHAPE = (1, 28, 28)
WEIGHTS = Path(__file__).parent / "weights" / "digit_classifier.safetensors"
WEIGHTS_SHA256 = "5c0e4290c186869611467210bec8225b81254654cb9851523fda475dbf5b2f49"

SEED = 0
EPOCHS = 10
BATCH = 128
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.01


class DigitFeatures(nn.Module):
    """Images of digits to the activations of the penultimate layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 12, kernel_size=5, stride=2, padding=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(12, 32, kernel_size=3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 48, kernel_size=3, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(48 * 4 * 4, FEATURE_DIM),
            # A plain ReLU leaves a quarter of the features at 0 for every digit; without any, the distance
            # separates neighbouring degrees of damage less well.
            nn.LeakyReLU(0.1, inplace=True),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the features [n, 64] of pixel values in 0 … 255, of any dtype, [n, 1, 28, 28].

        Raises:
            ValueError: images of another shape.
        """
        if images.shape[1:] != IMAGE_SHAPE:
            expected = ", ".join(map(str, IMAGE_SHAPE))
            raise ValueError(f"images have shape {list(images.shape)}; the digit classifier takes [n, {expected}]")
        features: Tensor = self.layers(images.float() / 255)
        return features


class DigitClassifier(nn.Module):
    """Features and a linear layer: pixel values in 0 … 255, [n, 1, 28, 28] -> logits [n, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = DigitFeatures()
        self.head = nn.Linear(FEATURE_DIM, 10)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits


def load_digit_classifier(path: Path = WEIGHTS) -> DigitClassifier:
    """Load the trained classifier, frozen, in evaluation mode, on the CPU.

    Raises:
        OSError: the file cannot be read.
        ValueError: its sha256 is not WEIGHTS_SHA256.
    """
    classifier = DigitClassifier()
    classifier.load_state_dict(safetensors.torch.load(read_weights(path, WEIGHTS_SHA256)))
    return classifier.eval().requires_grad_(False)


def train(images: Tensor, labels: Tensor) -> DigitClassifier:
    """Train on uint8 images [n, 1, 28, 28] and labels [n]; seeds torch's global generator with SEED."""
    torch.manual_seed(SEED)
    classifier = DigitClassifier()
    optimizer = torch.optim.AdamW(classifier.parameters(), weight_decay=WEIGHT_DECAY)
    steps = EPOCHS * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.15)
    for epoch in range(EPOCHS):
        order = torch.randperm(len(images))
        total = 0.0
        for batch in torch.split(order[: len(images) // BATCH * BATCH], BATCH):
            loss = F.cross_entropy(classifier(augment(images[batch].float())), labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        print(f"epoch {epoch + 1} of {EPOCHS}: training loss {total / len(images):.4f}", flush=True)
    return classifier.eval()


def augment(images: Tensor) -> Tensor:
    """Turn, scale and shift, blur and add noise to each image a little; float in 0 … 255, [n, 1, 28, 28].

    So that the features change smoothly, not abruptly, where an image leaves the set of real digits.
    """
    n = len(images)
    angle = torch.empty(n).uniform_(-10, 10) * (math.pi / 180)
    scale = torch.empty(n).uniform_(0.9, 1.1)
    shift = torch.empty(n, 2).uniform_(-2, 2) * (2 / IMAGE_SHAPE[-1])  # 2 pixels; the grid spans [−1, 1]
    cos, sin = scale * angle.cos(), scale * angle.sin()
    affine = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], dim=1).view(n, 2, 3)
    images = F.grid_sample(images, F.affine_grid(affine, list(images.shape), False), align_corners=False)

    binomial = torch.tensor([1.0, 2.0, 1.0]) / 4
    blurred = F.conv2d(images, torch.outer(binomial, binomial)[None, None], padding=1)
    images = images.lerp(blurred, torch.rand(n, 1, 1, 1))

    deviation = torch.empty(n, 1, 1, 1).uniform_(0, 0.05 * 255)
    return (images + deviation * torch.randn_like(images)).clamp(0, 255)


@torch.no_grad()
def accuracy(classifier: DigitClassifier, images: Tensor, labels: Tensor) -> float:
    """Return the share of the images [n, 1, 28, 28] whose label [n] has the largest logit."""
    logits = torch.cat([classifier(batch) for batch in torch.split(images, 1000)])
    return (logits.argmax(1) == labels).float().mean().item()


def main() -> None:
    """Train on FOLDER's MNIST, print the test accuracy and the weights' sha256, write the weights."""
    parser = argparse.ArgumentParser(prog="python -m wae_core.evaluation.digit_classifier", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="holds the four files *-ubyte.gz of MNIST")
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="weights file (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    (images, labels), (test_images, test_labels) = (
        (
            torch.tensor(read_idx(arguments.folder / f"{part}-images-idx3-ubyte.gz", IMAGE_SHAPE[1:])).unsqueeze(1),
            torch.tensor(read_idx(arguments.folder / f"{part}-labels-idx1-ubyte.gz", ())).long(),
        )
        for part in ("train", "t10k")
    )
    classifier = train(images, labels)
    print(f"test accuracy {accuracy(classifier, test_images, test_labels):.4f}")
    content = safetensors.torch.save(classifier.state_dict())
    arguments.output.write_bytes(content)
    print(f'{arguments.output}: {len(content)} bytes\nWEIGHTS_SHA256 = "{hashlib.sha256(content).hexdigest()}"')


if __name__ == "__main__":
    main()
