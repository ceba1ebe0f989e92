"""pythae's WAE-MMD trainer as a process of its own: each line on stdin asks for the milliseconds of one step.

Run by part `step` with the Python that `--pythae` names; the networks and the batch are those of plain.py.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import tempfile
import time

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import WAE_MMD, WAE_MMD_Config
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig

from tests.benchmarks import plain


class Encoder(BaseEncoder):
    def __init__(self) -> None:
        super().__init__()
        self.network = plain.encoder()

    def forward(self, x: torch.Tensor) -> ModelOutput:
        return ModelOutput(embedding=self.network(x))


class Decoder(BaseDecoder):
    def __init__(self) -> None:
        super().__init__()
        self.network = plain.decoder()

    def forward(self, z: torch.Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.network(z))


def main(steps: int, device: str) -> None:
    torch.set_num_threads(1)
    logging.disable()
    config = WAE_MMD_Config(
        input_dim=(1, 28, 28),
        latent_dim=plain.LATENT_DIM,
        reg_weight=plain.WAE_LAMBDA,
        reconstruction_loss_scale=plain.COST_SCALE,
    )
    images = torch.rand(steps * plain.BATCH, 1, 28, 28)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        trainer = BaseTrainer(
            WAE_MMD(config, Encoder(), Decoder()),
            train_dataset=BaseDataset(images, torch.zeros(len(images))),
            training_config=BaseTrainerConfig(
                output_dir=folder,
                per_device_train_batch_size=plain.BATCH,
                learning_rate=plain.LEARNING_RATE,
                optimizer_cls="Adam",
                no_cuda=device == "cpu",
            ),
        )
        trainer.prepare_training()
        trainer.train_step(epoch=1)  # warm-up
        for epoch, _ in enumerate(sys.stdin, start=2):
            began = time.perf_counter()
            trainer.train_step(epoch)  # one epoch: `steps` steps
            print(1000 * (time.perf_counter() - began) / steps, file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
