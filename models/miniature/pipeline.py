"""The miniature as a pipeline of diffusers: what is compiled, shipped and drawn from."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgefusion.models.checkpoint import quiet_libraries
from edgefusion.models.folder_index import INDEX
from edgefusion.models.miniature.networks import SCHEDULER
from edgefusion.models.miniature.raw_data import Prompts
from edgefusion.models.miniature.shapes import ATTRIBUTES
from edgefusion.models.miniature.words import tokenizer_files
from edgefusion.models.noise_scheduler import ORIGINAL_STEPS
from edgefusion.models.trajectories import OWN_PROMPTS
from edgefusion.runtime.files import replacing_folder
from edgefusion.runtime.partials import partial_folder

_CARD = "README.md"
_CALIBRATION_PROMPTS = 16
_CALIBRATION_SEED = 800_001
"""Of prompts that neither trainings nor judgements use."""


def write_miniature(
    folder: Path, unet: Any, text_encoder: Any, autoencoder: Any, facts: Mapping[str, str]
) -> None:
    """A StableDiffusionPipeline with an LCMScheduler, prompts to calibrate it with, and a card of
    ``facts``; it appears whole.

    U-Net and autoencoder are stored in float16, see ``as_stored``. Guidance is distilled into the
    U-Net: call the pipeline with ``guidance_scale=1``.
    """
    from diffusers import LCMScheduler, StableDiffusionPipeline
    from transformers import CLIPTokenizer

    with replacing_folder(folder, INDEX) as partial, partial_folder() as place, quiet_libraries():
        for name, content in tokenizer_files().items():
            (place / name).write_bytes(content)
        scheduler = LCMScheduler.from_config(
            {**SCHEDULER, "original_inference_steps": ORIGINAL_STEPS}
        )
        StableDiffusionPipeline(
            vae=_in_half(autoencoder),
            text_encoder=text_encoder,
            tokenizer=CLIPTokenizer.from_pretrained(place),
            unet=_in_half(unet),
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).save_pretrained(partial)
        (partial / _CARD).write_text(_card(facts))
        prompts = Prompts(_CALIBRATION_SEED)(0, _CALIBRATION_PROMPTS)
        (partial / OWN_PROMPTS).write_text("".join(f"{prompt}\n" for prompt in prompts))


def as_stored(network: Any) -> Any:
    """A copy that computes in float32 with weights rounded to float16, as a folder holds them."""
    return _in_half(network).float()


def _in_half(network: Any) -> Any:
    return copy.deepcopy(network).half()


def _card(facts: Mapping[str, str]) -> str:
    words = "".join(f"| {name} | {', '.join(known)} |\n" for name, known in ATTRIBUTES.items())
    rows = "".join(f"| {name} | {value} |\n" for name, value in facts.items())
    return f"""---
library_name: diffusers
pipeline_tag: text-to-image
license: apache-2.0
---

# EdgeFusion miniature

Draws one coloured shape on a plain ground, 32x32 pixels, in 1, 2 or 4 steps without guidance
(`guidance_scale=1`). Prompts: "a small red circle on the left on blue", of these words alone; what
has no position is in the middle.

| | |
|---|---|
{words}
It was made by `edgefusion train miniature` on drawn pictures: a teacher, its block-removed student,
latent-consistency distillation. It exists to be compiled and looked at. Small shapes are the
hardest to get right. U-Net and decoder are stored in float16. The image encoder is untrained; only
the decoder is of use.

| | |
|---|---|
{rows}"""
