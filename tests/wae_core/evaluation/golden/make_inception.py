"""Makes inception.safetensors: torch-fidelity's Inception-v3 on the test's random weights and images.

    python -m pip download --no-deps torch-fidelity==0.4.0
    python -m zipfile -e torch_fidelity-0.4.0-py3-none-any.whl torch-fidelity
    python tests/wae_core/golden/make_inception.py torch-fidelity

torch-fidelity is read from that folder and not installed: it would bring torchvision and another torch.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import torch
from safetensors.torch import save_file

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[3]))
from tests.wae_core.evaluation.test_inception import GOLDEN, RESIZED_ROWS, random_images, random_weights  # noqa: E402

# An empty package in place of torch_fidelity/__init__.py, which imports torchvision: these modules do not.
package = ModuleType("torch_fidelity")
package.__path__ = [str(Path(sys.argv[1]) / "torch_fidelity")]
sys.modules["torch_fidelity"] = package
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # noqa: E402
from torch_fidelity.interpolate_compat_tensorflow import (  # noqa: E402
    interpolate_bilinear_2d_like_tensorflow1x,
)
from torch_fidelity.version import __version__  # noqa: E402


class Unloaded(FeatureExtractorInceptionV3):  # type: ignore[misc]
    """The public network, whose constructor insists on a weights file, with weights of its own instead."""

    def load_state_dict(self, *_: object, **__: object) -> None:
        shapes = {name: list(tensor.shape) for name, tensor in self.state_dict().items()}
        super().load_state_dict(random_weights(shapes))


torch.set_num_threads(1)
with tempfile.NamedTemporaryFile(suffix=".pth") as nothing:
    torch.save({}, nothing.name)
    public = Unloaded("inception-v3-compat", ["2048"], feature_extractor_weights_path=nothing.name)
images = random_images()
resized = interpolate_bilinear_2d_like_tensorflow1x(images[:2].float(), size=(299, 299), align_corners=False)
shapes = {name: list(tensor.shape) for name, tensor in sorted(public.state_dict().items())}
source = f"torch-fidelity {__version__}, torch {torch.__version__}, {platform.machine()}, float32"
save_file(
    {"features": public(images)[0].contiguous(), "resized_rows": resized[:, :, RESIZED_ROWS].contiguous()},
    GOLDEN,
    # one entry: safetensors writes several in any order, and the file is to come out the same each time
    metadata={"made_by": json.dumps({"source": source, "state_dict": shapes}, separators=(",", ":"))},
)
print(f"{GOLDEN}: {GOLDEN.stat().st_size} bytes")
