"""Students are the published architectures, and their weights come from the published places."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel

from edgefusion.models.architectures import PRESETS
from edgefusion.models.training.block_removal import (
    VARIANTS,
    Variant,
    copy_weights,
    student_config,
    teacher_key,
)
from edgefusion.runtime.errors import InputError
from tests.training_cases import student_unet, teacher_unet


@pytest.mark.parametrize("variant", VARIANTS)
def test_students_of_sd_are_bk_sdm(variant: Variant) -> None:
    with torch.device("meta"):
        teacher: Any = PRESETS["sd-v1.4"].networks["unet"].build()
        published: Any = PRESETS[f"bk-sdm-{variant}"].networks["unet"].build()
        student = UNet2DConditionModel(**student_config(teacher.config, variant))
    shapes = {key: value.shape for key, value in student.state_dict().items()}
    assert shapes == {key: value.shape for key, value in published.state_dict().items()}
    assert copy_weights(teacher, student) == [], "every tensor has a place in the teacher"


def test_other_families_keep_what_is_theirs() -> None:
    """SD 2.1: a number of heads for each stage, linear projections, another context."""
    teacher = {
        **dict(teacher_unet().config),
        "block_out_channels": (320, 640, 1280, 1280),
        "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        "attention_head_dim": (5, 10, 20, 20),
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
    }
    config = student_config(teacher, "tiny")
    assert config["attention_head_dim"] == (5, 10, 20)
    assert config["up_block_types"] == ("CrossAttnUpBlock2D",) * 3
    assert (config["cross_attention_dim"], config["use_linear_projection"]) == (1024, True)
    with torch.device("meta"):
        teacher_network = UNet2DConditionModel(**teacher)
        assert copy_weights(teacher_network, UNet2DConditionModel(**config)) == []


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ("up_blocks.0.resnets.0.conv1.weight", "up_blocks.1.resnets.0.conv1.weight"),
        ("up_blocks.0.resnets.1.conv1.weight", "up_blocks.1.resnets.2.conv1.weight"),
        ("up_blocks.2.attentions.1.norm.bias", "up_blocks.3.attentions.2.norm.bias"),
        ("up_blocks.1.upsamplers.0.conv.bias", "up_blocks.2.upsamplers.0.conv.bias"),
        ("down_blocks.2.resnets.0.conv1.bias", "down_blocks.2.resnets.0.conv1.bias"),
        ("conv_out.weight", "conv_out.weight"),
    ],
)
def test_copy_map_of_tiny(student: str, teacher: str) -> None:
    assert teacher_key(student, removed_stages=1, teacher_layers=2) == teacher


def test_copy_map_of_base_changes_only_the_last_layers_up() -> None:
    def source(key: str) -> str:
        return teacher_key(key, removed_stages=0, teacher_layers=2)

    assert source("up_blocks.3.resnets.1.conv1.weight") == "up_blocks.3.resnets.2.conv1.weight"
    for key in ("up_blocks.3.resnets.0.conv1.weight", "mid_block.resnets.1.conv1.weight"):
        assert source(key) == key


@pytest.mark.parametrize("variant", VARIANTS)
def test_values_arrive(variant: Variant) -> None:
    teacher = teacher_unet()
    student = student_unet(teacher, variant)
    shift = int(variant == "tiny")
    ours, theirs = student.state_dict(), teacher.state_dict()
    for block in range(len(student.up_blocks)):
        for layer, source in ((0, 0), (1, 2)):
            mine = ours[f"up_blocks.{block}.resnets.{layer}.conv2.weight"]
            assert torch.equal(
                mine, theirs[f"up_blocks.{block + shift}.resnets.{source}.conv2.weight"]
            )
    assert torch.equal(
        ours["time_embedding.linear_1.weight"], theirs["time_embedding.linear_1.weight"]
    )
    assert (student.mid_block is None) == (variant != "base")


def test_misfits_are_named() -> None:
    teacher = teacher_unet()
    config = student_config(teacher.config, "tiny")
    other = UNet2DConditionModel(**{**config, "down_block_types": ("DownBlock2D",) * 2})
    assert copy_weights(teacher, other) == [], "fewer tensors, all of which fit"
    wider = UNet2DConditionModel(**{**config, "time_embedding_dim": 64})
    with pytest.raises(InputError, match=r"time_embedding\.linear_1\.weight \[64, 8\] from"):
        copy_weights(teacher, wider)
    assert "time_embedding.linear_1.weight" in copy_weights(teacher, wider, keep_misfits=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_out_channels": (8, 24)}, r"\[8, 24\] channels"),
        ({"cross_attention_dim": 16}, "context of width 16"),
        ({"in_channels": 9}, "in_channels is 9"),
    ],
)
def test_strangers_are_refused(changes: dict[str, Any], message: str) -> None:
    teacher = teacher_unet()
    config = {**student_config(teacher.config, "tiny"), **changes}
    with pytest.raises(InputError, match=message):
        copy_weights(teacher, UNet2DConditionModel(**config))
