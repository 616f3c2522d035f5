"""Pictures by diffusers' own pipelines of a folder: what ours have to be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
import torch

Picture = np.ndarray[Any, Any]

AS_IT_IS = {"PixArtAlphaPipeline": {"use_resolution_binning": False, "clean_caption": False}}
"""Of pictures whose size is not rounded to those that a model was trained at, and captions that are
not cleaned, whichever libraries are there."""


def their_picture(
    folder: Path, prompt: str, steps: int, seed: int, scheduler: Any = None, **arguments: Any
) -> Picture:
    """[h, w, 3] in [0, 1]; ``scheduler`` takes the place of the folder's."""
    from diffusers import DiffusionPipeline

    with catch_warnings():  # of what it sets in a scheduler's configuration, and of numpy's plans
        simplefilter("ignore")
        index = json.loads((folder / "model_index.json").read_text())
        absent = {name: None for name, entry in index.items() if entry == [None, None]}
        pipeline: Any = DiffusionPipeline.from_pretrained(folder, local_files_only=True, **absent)
        if scheduler is not None:
            pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
        pipeline.set_progress_bar_config(disable=True)
        own = AS_IT_IS.get(type(pipeline).__name__, {})
        (image,) = pipeline(
            prompt,
            num_inference_steps=steps,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
            **{"guidance_scale": 1.0, **own, **arguments},
        ).images
    assert image.std() > 0.05
    return np.asarray(image)
