"""A short distillation, for ``torchrun``: FOLDER BATCH_SIZE."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from edgefusion.models.training.settings import Optimizer, Run
from edgefusion.models.training.trainer import train
from tests.training_cases import kd_training


def distil(folder: Path, batch_size: int) -> None:
    """Four steps of two batches. AdamW's epsilon is large, or the sign of a gradient of 1e-9 would
    decide a weight's first steps."""
    run = Run(4, batch_size, accumulation=2, log_every=1, checkpoint_every=2, tensorboard="off")
    optimizer = Optimizer(learning_rate=1e-3, epsilon=1e-2)
    train(kd_training(folder, run, optimizer, dropout=0.0))


if __name__ == "__main__":
    torch.set_num_threads(1)
    distil(Path(sys.argv[1]), int(sys.argv[2]))
