"""How many samples an FID needs: Spearman's rank correlation with the 10,000-sample FID, over a study's models.

python tests/benchmarks/fid_sample_count.py results/digits
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr

from wae_core.data.images import load_dataset, to_uint8
from wae_core.evaluation.features import load_features
from wae_core.evaluation.frechet import FrechetReference
from wae_core.evaluation.gaussian import GaussianStatistics
from wae_core.model_file import load_model

COUNTS = (250, 500, 1000, 2000, 4000, 10_000)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="a study's results folder")
    torch.set_num_threads(1)
    paths = sorted(parser.parse_args().study.glob("work/*/best.safetensors"))
    fids = np.array([fids_of(path) for path in paths])
    print(f"{len(paths)} models, FID at 10,000 samples from {fids[:, -1].min():.2f} to {fids[:, -1].max():.2f}")
    for column, count in enumerate(COUNTS):
        rho = spearmanr(fids[:, column], fids[:, -1]).statistic
        print(f"{count:6,} samples: Spearman {rho:.4f}, mean FID {fids[:, column].mean():.2f}")


def fids_of(path: Path) -> list[float]:
    """FID of one model at each of COUNTS; each count draws samples of its own, as a sweep would."""
    model, run, _ = load_model(path)
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    data = load_dataset(run.protocol.dataset)
    features = load_features(run.protocol.fid_features, torch.device("cpu"))
    held_out = features(data.held_out).double().numpy()
    reference = FrechetReference(held_out.mean(0), np.cov(held_out.T))
    generator = torch.Generator().manual_seed(0)
    figures = []
    for count in COUNTS:
        statistics = GaussianStatistics(features.dim)
        for size in torch.split(torch.full((count,), 1), 500):
            z = torch.randn(len(size), run.hyperparameters.latent_dim, generator=generator)
            images = model.images(z * run.protocol.prior_variance**0.5)
            statistics.update(features(to_uint8(images, data.pixel_range)))
        figures.append(reference.distance(statistics.mean, statistics.covariance))
    return figures


if __name__ == "__main__":
    main()
