"""Networks and data so small that a training step takes milliseconds, of the real block types."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from edgefusion.models.training.block_removal import Variant, copy_weights, student_config
from edgefusion.models.training.encoders import Encoders
from edgefusion.models.training.kd import BlockRemovedDistillation
from edgefusion.models.training.noise_schedule import NoiseSchedule
from edgefusion.models.training.settings import Data, KdSettings, Optimizer, Run
from edgefusion.models.training.trainer import Training

CONTEXT_WIDTH, TOKENS, LATENT_SIDE = 8, 3, 8
SCHEDULE = NoiseSchedule.from_config({})
DATA = Data(path="unused")


def teacher_unet(seed: int = 0, **changes: Any) -> Any:
    """SD v1's block types and layers in three stages, some ten thousand parameters."""
    torch.manual_seed(seed)
    config: dict[str, Any] = {
        "sample_size": LATENT_SIDE,
        "block_out_channels": (8, 16, 16),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 2,
        "cross_attention_dim": CONTEXT_WIDTH,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**{**config, **changes})


def student_unet(teacher: Any, variant: Variant = "tiny", **changes: Any) -> Any:
    """The teacher's student, its weights copied."""
    student = UNet2DConditionModel(**{**student_config(teacher.config, variant), **changes})
    copy_weights(teacher, student)
    return student


def encoders() -> Encoders:
    """None: the data are encoded; the empty caption is all zeros."""
    return Encoders(None, None, torch.zeros(1, TOKENS, CONTEXT_WIDTH))


class Latents(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Random latents with random contexts, each a function of its index."""

    def __init__(self, count: int = 8) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(100 + index)
        return {
            "latents": torch.randn(4, LATENT_SIDE, LATENT_SIDE, generator=generator),
            "context": torch.randn(TOKENS, CONTEXT_WIDTH, generator=generator),
        }


def batch(count: int = 2) -> dict[str, torch.Tensor]:
    """The first samples."""
    return torch.utils.data.default_collate([Latents()[i] for i in range(count)])


def kd_training(
    folder: Path,
    run: Run,
    optimizer: Optimizer | None = None,
    *,
    dropout: float = 0.1,
    caption_dropout: float = 0.2,
    **settings: Any,
) -> Training:
    """Distillation of the tiny student; dropout in its blocks makes torch's generator matter."""
    teacher = teacher_unet()
    student = student_unet(teacher, dropout=dropout)
    chosen = KdSettings(
        teacher="unused", data=DATA, run=run, caption_dropout=caption_dropout, **settings
    )
    objective = BlockRemovedDistillation(teacher, student, encoders(), SCHEDULE, chosen)
    return Training(objective, Latents(), run, optimizer or Optimizer(learning_rate=1e-3), folder)


@contextmanager
def one_thread() -> Iterator[None]:
    """Threads cost more than they bring at this size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
