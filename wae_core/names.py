"""The names and sizes that several packages must agree on, readable without torch."""

from __future__ import annotations

import re
from typing import Literal, get_args

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")  # of a study, a data set, a search space: whole, it becomes part of paths
Device = Literal["cpu", "cuda", "xla"]
DEVICES: tuple[str, ...] = get_args(Device)
# How a study's training steps compute. tf32: CUDA's matrix products and convolutions round their factors to 10 bits;
# bfloat16: the networks' forward and backward passes under autocast. Weights, optimisers and losses stay float32.
PRECISIONS = ("float32", "tf32", "bfloat16")
YARDSTICK = "float64"  # a precision that a protocol may have, for the tests, and a study may not
LIKELIHOODS = ("gaussian", "bernoulli")
PICTURES = ("interpolations", "reconstructions", "samples")  # of a model, in the order of the paper's composites
# How a picture is laid out: images in a row, pixels between images, screen pixels per pixel.
COLUMNS, GAP, ZOOM = 8, 2, 2
REFERENCES = ("held_out", "train")  # splits of a data set, against whose images FIDs may be measured
