"""Stable Diffusion 3: which family a folder is of, and what of its parts does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgefusion
from edgefusion.models.families.registry import FAMILIES
from edgefusion.models.pipeline_check import checked_source
from edgefusion.models.source import resolve_source
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.progress import silent
from tests.model_folders import sd3_pipeline_folder


def changed(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("part", "values", "told"),
    [
        ("transformer", {"in_channels": 8}, "out_channels is 4; expected 8"),
        ("transformer", {"in_channels": 8, "out_channels": 8}, "in_channels is 8; vae/config.json"),
        (
            "transformer",
            {"joint_attention_dim": 32},
            "joint_attention_dim is 32; expected text_enc",
        ),
        ("transformer", {"pooled_projection_dim": 8}, "pooled_projection_dim is 8; expected 16"),
        ("transformer", {"sample_size": 0}, "sample_size is 0; expected a whole number above 0"),
        ("vae", {"shift_factor": "much"}, "shift_factor is 'much'; expected a number"),
        ("vae", {"latents_mean": [0.5]}, "latents_mean is .0.5.; expected null"),
    ],
)
def test_configurations_that_do_not_fit(
    part: str, values: dict[str, Any], told: str, tmp_path: Path
) -> None:
    folder = sd3_pipeline_folder(tmp_path)
    changed(folder / part / "config.json", values)
    with pytest.raises(InputError, match=told):
        checked_source(resolve_source(str(folder)), None, silent)


def test_clip_too_wide_for_the_context(tmp_path: Path) -> None:
    folder = sd3_pipeline_folder(tmp_path, t5=False)
    changed(folder / "transformer" / "config.json", {"joint_attention_dim": 12})
    with pytest.raises(InputError, match="joint_attention_dim is 12; expected at least the hidden"):
        checked_source(resolve_source(str(folder)), None, silent)


def test_schedulers_are_flow_matchings_alone(tmp_path: Path) -> None:
    folder = sd3_pipeline_folder(tmp_path, t5=False)
    assert resolve_source(str(folder)).family.name == "stable-diffusion-3-without-t5"
    with pytest.raises(UsageError, match="--scheduler ddim was given with pipeline, which is Stab"):
        edgefusion.compile_source(folder, output=tmp_path / "out.npub", scheduler="ddim")
    changed(folder / "model_index.json", {"scheduler": ["diffusers", "DDIMScheduler"]})
    with pytest.raises(InputError, match="scheduler is DDIMScheduler; expected one of flow match"):
        checked_source(resolve_source(str(folder)), None, silent)


def test_zeros_stand_for_t5() -> None:
    families = {family.name: family for family in FAMILIES}
    shapes = {"encoder_hidden_states": (1, 3 + 256, 8)}
    clip = {"hidden_states": np.ones((1, 3, 2)), "text_embeds": np.ones((1, 2))}
    encoded = {"text_encoder": clip, "text_encoder_2": clip}
    made = families["stable-diffusion-3-without-t5"].conditions(encoded, shapes)
    context = made["encoder_hidden_states"]
    assert context.shape == (1, 259, 8)
    assert (context[:, :3, :4] == 1).all()
    assert context.sum() == 3 * 4
    whole = families["stable-diffusion-3"]
    assert whole.conditions(encoded, shapes).keys() == {"pooled_projections"}
    behind = {"text_encoder_3": {"hidden_states": np.full((1, 256, 8), 2.0)}}
    context = whole.conditions(encoded | behind, shapes)["encoder_hidden_states"]
    assert (context[:, 3:] == 2).all()
