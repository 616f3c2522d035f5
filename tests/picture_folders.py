"""Small pipelines that take pictures, made of those that take prompts alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.model_folders import pipeline_folder, xl_pipeline_folder


def of_class(folder: Path, name: str, **parts: Any) -> Path:
    """``folder``, whose pipeline is now of another class of diffusers, with more ``parts``."""
    index = folder / "model_index.json"
    content = json.loads(index.read_text()) | {"_class_name": name} | parts
    index.write_text(json.dumps(content))
    return folder


def with_u_net(folder: Path, **values: Any) -> Path:
    """``folder`` with another U-Net, of these ``values`` in its configuration."""
    from diffusers import UNet2DConditionModel

    config = json.loads((folder / "unet" / "config.json").read_text())
    torch.manual_seed(1)
    made: Any = UNet2DConditionModel.from_config(config | values)
    made.save_pretrained(folder / "unet")
    return folder


def with_controlnet(folder: Path) -> Path:
    """``folder`` with a ControlNet that was made of its U-Net, none of its weights zero."""
    from diffusers import ControlNetModel, UNet2DConditionModel

    unet: Any = UNet2DConditionModel.from_pretrained(folder / "unet")
    levels = len(json.loads((folder / "vae" / "config.json").read_text())["block_out_channels"])
    torch.manual_seed(2)
    made: Any = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4,) * levels)
    for weight in made.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.3)
    made.save_pretrained(folder / "controlnet")
    return folder


def _latent_consistency(place: Path) -> Path:
    folder = with_u_net(pipeline_folder(place), time_cond_proj_dim=6)
    from diffusers import LCMScheduler

    LCMScheduler(beta_schedule="scaled_linear").save_pretrained(folder / "scheduler")
    return of_class(
        folder,
        "LatentConsistencyModelImg2ImgPipeline",
        scheduler=["diffusers", "LCMScheduler"],
    )


_CONTROL = {"controlnet": ["diffusers", "ControlNetModel"]}
PICTURE_FOLDERS: dict[str, Callable[[Path], Path]] = {
    "stable-diffusion-image-to-image": lambda place: of_class(
        pipeline_folder(place), "StableDiffusionImg2ImgPipeline"
    ),
    "stable-diffusion-xl-image-to-image": lambda place: of_class(
        xl_pipeline_folder(place), "StableDiffusionXLImg2ImgPipeline"
    ),
    "latent-consistency-image-to-image": _latent_consistency,
    "stable-diffusion-inpainting": lambda place: of_class(
        with_u_net(pipeline_folder(place), in_channels=9), "StableDiffusionInpaintPipeline"
    ),
    "stable-diffusion-xl-inpainting": lambda place: of_class(
        with_u_net(xl_pipeline_folder(place), in_channels=9), "StableDiffusionXLInpaintPipeline"
    ),
    "stable-diffusion-controlnet": lambda place: of_class(
        with_controlnet(pipeline_folder(place)), "StableDiffusionControlNetPipeline", **_CONTROL
    ),
    "stable-diffusion-xl-controlnet": lambda place: of_class(
        with_controlnet(xl_pipeline_folder(place)),
        "StableDiffusionXLControlNetPipeline",
        **_CONTROL,
    ),
}
"""By family."""
