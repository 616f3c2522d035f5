"""What a family says of its pipelines, against diffusers' own pipelines of small folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edgefusion.models.pipeline_check import checked_source
from edgefusion.models.source import Source, resolve_source
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.progress import silent
from tests.model_folders import pipeline_folder, xl_pipeline_folder
from tests.torch_pipeline import torch_picture

PROMPT, STEPS, SEED = "a b a a b", 3, 5

MAKERS: dict[str, Callable[[Path], Path]] = {
    "stable-diffusion": pipeline_folder,
    "stable-diffusion-xl": xl_pipeline_folder,
}


@pytest.fixture(scope="module", params=MAKERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MAKERS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture
def source(folder: Path) -> Source:
    return checked_source(resolve_source(str(folder)), None, silent)


def test_pictures_are_those_of_diffusers(folder: Path, source: Source) -> None:
    from diffusers import DiffusionPipeline, LCMScheduler

    made = torch_picture(source, PROMPT, STEPS, SEED)

    theirs: Any = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    theirs.scheduler = LCMScheduler.from_config(theirs.scheduler.config)
    theirs.set_progress_bar_config(disable=True)
    (image,) = theirs(
        PROMPT,
        num_inference_steps=STEPS,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(SEED),
        output_type="np",
    ).images
    assert image.std() > 0.05
    np.testing.assert_allclose(made / 255, image, atol=0.51 / 255)


def test_a_part_that_is_missing_is_told(folder: Path, source: Source, tmp_path: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    for part in source.family.parts:
        (tmp_path / "model_index.json").write_text(
            json.dumps({k: v for k, v in index.items() if k != part.folder})
        )
        for other in source.family.parts:
            (tmp_path / other.folder).mkdir(exist_ok=True)
        with pytest.raises(InputError, match=rf"names no {part.folder}; expected all networks"):
            checked_source(resolve_source(str(tmp_path)), None, silent)


def test_a_pipeline_of_another_class_is_told(folder: Path, tmp_path: Path) -> None:
    for place in folder.iterdir():
        (tmp_path / place.name).symlink_to(place)
    index = tmp_path / "model_index.json"
    values = json.loads(index.read_text())
    index.unlink()
    index.write_text(json.dumps(values | {"_class_name": "StableDiffusionInpaintPipeline"}))
    wanted = r"part text_encoder_2|_class_name is StableDiffusionInpaintPipeline; expected one of"
    with pytest.raises(InputError, match=wanted):
        checked_source(resolve_source(str(tmp_path)), None, silent)


POOLED = "projection_class_embeddings_input_dim is 56"


@pytest.mark.parametrize(
    ("part", "values", "told"),
    [
        ("unet", {"addition_embed_type": None}, "addition_embed_type is null; expected text_time"),
        ("unet", {"addition_time_embed_dim": 7}, POOLED),
        ("text_encoder_2", {"projection_dim": 16}, POOLED),
        ("unet", {"cross_attention_dim": 8}, "hidden_size 8 and text_encoder_2/config.json has"),
        ("vae", {"shift_factor": 0.1}, "shift_factor is 0.1"),
    ],
)
def test_configurations_that_do_not_fit(
    part: str, values: Mapping[str, Any], told: str, tmp_path: Path
) -> None:
    folder = xl_pipeline_folder(tmp_path)
    config = folder / part / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | values))
    with pytest.raises(InputError, match=told):
        checked_source(resolve_source(str(folder)), None, silent)
