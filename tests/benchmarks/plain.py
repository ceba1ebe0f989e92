"""The straightforward WAE-MMD that the training step is compared with: textbook PyTorch, eager, float32."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, LATENT_DIM, BATCH = 8, 8, 64  # of the digits study, whose `dcgan_small` this is
LEARNING_RATE, WAE_LAMBDA, COST_SCALE = 2e-3, 10.0, 0.05
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def encoder() -> nn.Sequential:
    """x [n, 1, 28, 28] -> codes [n, LATENT_DIM]."""
    return nn.Sequential(
        *_convolution(1, WIDTH, padding=1),  # 14 × 14
        *_convolution(WIDTH, 2 * WIDTH, padding=1),  # 7 × 7
        *_convolution(2 * WIDTH, 4 * WIDTH, padding=2),  # 4 × 4
        nn.Flatten(),
        nn.Linear(4 * WIDTH * 4 * 4, LATENT_DIM),
    )


def decoder() -> nn.Sequential:
    """Codes [n, LATENT_DIM] -> images [n, 1, 28, 28] in [0, 1]."""
    return nn.Sequential(
        nn.Linear(LATENT_DIM, 8 * WIDTH * 7 * 7),
        nn.ReLU(),
        nn.Unflatten(1, (8 * WIDTH, 7, 7)),
        nn.ConvTranspose2d(8 * WIDTH, 2 * WIDTH, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(2 * WIDTH),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * WIDTH, 1, 4, stride=2, padding=1),
        nn.Sigmoid(),
    )


def _convolution(channels: int, out_channels: int, padding: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, out_channels, 4, stride=2, padding=padding, bias=False)
    return [convolution, nn.BatchNorm2d(out_channels), nn.ReLU()]


def parameter_count() -> int:
    return sum(p.numel() for network in (encoder(), decoder()) for p in network.parameters())


def train(images: Tensor, device: torch.device) -> Iterator[float]:
    """Train on images [n, 1, 28, 28] in [0, 1]; yields the loss of each step."""
    images = images.to(device)
    q, g = encoder().to(device), decoder().to(device)
    optimiser = torch.optim.Adam([*q.parameters(), *g.parameters()], lr=LEARNING_RATE)
    while True:
        for chosen in torch.split(torch.randperm(len(images), device=device), BATCH)[: len(images) // BATCH]:
            x = images[chosen]
            codes = q(x)
            prior = torch.randn_like(codes)
            reconstruction = COST_SCALE * F.mse_loss(g(codes), x, reduction="sum") / len(x)
            loss = reconstruction + WAE_LAMBDA * mmd(prior, codes)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            yield loss.item()


def mmd(z: Tensor, codes: Tensor) -> Tensor:
    """The unbiased MMD² of two sets [n, d] with the sum of seven inverse multiquadratic kernels."""
    n = len(z)
    among = [_kernel(x, x).fill_diagonal_(0).sum() / (n * (n - 1)) for x in (z, codes)]
    return among[0] + among[1] - 2 * _kernel(z, codes).mean()


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    squared = torch.cdist(x, y) ** 2
    scale = 2.0 * LATENT_DIM
    return torch.stack([s * scale / (s * scale + squared) for s in SCALES]).sum(0)
