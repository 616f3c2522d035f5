"""The U-Nets: a teacher of Stable Diffusion's blocks, and its Tiny student."""

from __future__ import annotations

from typing import Any

import torch

from edgefusion.models.miniature.codec import LATENT_CHANNELS, PATCH_PX
from edgefusion.models.miniature.shapes import SIDE_PX
from edgefusion.models.miniature.text_encoder import WIDTH
from edgefusion.models.noise_scheduler import STABLE_DIFFUSION_SCHEDULE
from edgefusion.models.training.block_removal import copy_weights, student_config

LATENT_SHAPE = (LATENT_CHANNELS, SIDE_PX // PATCH_PX, SIDE_PX // PATCH_PX)
SCHEDULER = {
    **STABLE_DIFFUSION_SCHEDULE,
    "prediction_type": "sample",
    "rescale_betas_zero_snr": True,
}
"""Networks predict the clean latent: 48 channels of noise do not go through 32 of a U-Net, those
of a plain picture do. And the last timestep is noise alone (Lin et al., "Common Diffusion Noise
Schedules and Sample Steps are Flawed", 2024): Stable Diffusion's leaves 7 % of the picture in it,
which is nothing for one pixel and everything for a ground of a thousand equal ones. A network that
has learned to read the ground there sees grey in pure noise, and draws it."""
HEADS = 2
NORM_GROUPS = 8


def teacher_unet(channels: tuple[int, ...], seed: int) -> Any:
    """Two layers a stage, attention in all but the innermost, and a mid block."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(seed)
    outer = len(channels) - 1
    return UNet2DConditionModel(
        sample_size=LATENT_SHAPE[1],
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=channels,
        down_block_types=("CrossAttnDownBlock2D",) * outer + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * outer,
        layers_per_block=2,
        cross_attention_dim=WIDTH,
        attention_head_dim=HEADS,
        norm_num_groups=NORM_GROUPS,
    )


def tiny_unet(teacher: Any) -> Any:
    """The student with the blocks of BK-SDM-Tiny, its weights not yet filled in."""
    return type(teacher)(**student_config(teacher.config, "tiny"))


def student_of(teacher: Any) -> Any:
    """The Tiny student with the teacher's weights.

    The innermost two stages of Stable Diffusion are equally wide. Where these are not, one block,
    which takes what the removed stage gave, has another width, and starts as it was drawn.
    """
    student = tiny_unet(teacher)
    copy_weights(teacher, student, keep_misfits=True)
    return student
