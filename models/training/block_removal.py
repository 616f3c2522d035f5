"""BK-SDM's students: a U-Net with blocks of its teacher removed, and the weights that stay.

Base keeps one pair of residual and attention block where the teacher's stages have two (and two of
three on the way up), Small also removes the mid block, Tiny also the innermost stage. Source: Kim
et al., "BK-SDM: A Lightweight, Fast, and Cheap Version of Stable Diffusion" (2023), and its
published checkpoints. Works for every U-Net of the Stable Diffusion family, whatever its size.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, get_args

from edgefusion.runtime.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import nn

Variant = Literal["base", "small", "tiny"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)

_FROM_OUTERMOST = (
    "block_out_channels",
    "down_block_types",
    "layers_per_block",
    "attention_head_dim",
    "num_attention_heads",
    "cross_attention_dim",
    "transformer_layers_per_block",
    "only_cross_attention",
)
"""Configuration entries with a value a stage, outermost first; some may be one value for all."""
_UP_LAYER = re.compile(r"up_blocks\.(\d+)\.(resnets|attentions)\.1\.(.+)")
_UP_BLOCK = re.compile(r"up_blocks\.(\d+)\.(.+)")
_MISFITS_SHOWN = 3


def student_config(teacher: Mapping[str, Any], variant: Variant) -> dict[str, Any]:
    """The configuration of a ``UNet2DConditionModel`` with the blocks of ``variant``.

    ``teacher`` is the configuration of its teacher. Raises InputError for a teacher that has
    nothing to remove.
    """
    levels = len(teacher["block_out_channels"])
    config = {key: value for key, value in teacher.items() if not key.startswith("_")}
    config["layers_per_block"] = 1
    if variant != "base":
        config["mid_block_type"] = None
    if variant == "tiny":
        if levels < 2:
            raise InputError(
                "the teacher's U-Net has one stage; expected two or more, for a tiny student has "
                "one less. Choose the variant small or base."
            )
        for key in _FROM_OUTERMOST:
            if isinstance(config.get(key), list | tuple):
                config[key] = tuple(config[key][:-1])
        config["up_block_types"] = tuple(config["up_block_types"][1:])
    return config


def teacher_key(student_key: str, *, removed_stages: int, teacher_layers: int) -> str:
    """Where in its teacher a student's tensor comes from.

    Up-blocks are numbered from the innermost, so theirs shift by the stages removed. Of their
    layers the first and the last stay; all else keeps its name.
    """
    if match := _UP_LAYER.fullmatch(student_key):
        block, kind, rest = int(match[1]), match[2], match[3]
        return f"up_blocks.{block + removed_stages}.{kind}.{teacher_layers}.{rest}"
    if match := _UP_BLOCK.fullmatch(student_key):
        return f"up_blocks.{int(match[1]) + removed_stages}.{match[2]}"
    return student_key


def removed_stages(teacher: Mapping[str, Any], student: Mapping[str, Any]) -> int:
    """How many inner stages the student lacks: 0 or 1.

    Raises InputError, naming what differs, for a student that was not made from such a teacher.
    """
    of_teacher, of_student = teacher["block_out_channels"], student["block_out_channels"]
    missing = len(of_teacher) - len(of_student)
    if missing not in (0, 1) or list(of_teacher[: len(of_student)]) != list(of_student):
        raise InputError(
            f"the student's stages have {list(of_student)} channels, the teacher's "
            f"{list(of_teacher)}; expected the same ones, or all but the innermost. Choose a "
            "student that was made from this kind of teacher, or make one (student: tiny)."
        )
    for key in ("in_channels", "out_channels", "sample_size"):
        if teacher.get(key) != student.get(key):
            raise InputError(
                f"the student's {key} is {student.get(key)!r}, the teacher's {teacher.get(key)!r}; "
                "expected the same latents. Choose a student and teacher of one family."
            )
    _same_context(teacher["cross_attention_dim"], student["cross_attention_dim"])
    return missing


def copy_weights(
    teacher: nn.Module, student: nn.Module, *, keep_misfits: bool = False
) -> list[str]:
    """Fill the student from its teacher, tensor by tensor; the names of those that do not fit.

    Raises InputError, naming the first of them, if there are any, unless ``keep_misfits`` leaves
    them as they were drawn. ``time_embedding.cond_proj`` of a student for latent-consistency
    distillation has no counterpart and is no misfit; it stays as it is.
    """
    configs: list[Any] = [teacher.config, student.config]
    layers = configs[0]["layers_per_block"]
    of_teacher = teacher.state_dict()
    shift = removed_stages(*configs)
    copied: dict[str, torch.Tensor] = {}
    misfits: dict[str, str] = {}
    for key, tensor in student.state_dict().items():
        source = teacher_key(
            key,
            removed_stages=shift,
            teacher_layers=layers if isinstance(layers, int) else layers[0],
        )
        if source in of_teacher and of_teacher[source].shape == tensor.shape:
            copied[key] = of_teacher[source]
        elif not key.startswith("time_embedding.cond_proj."):
            found = list(of_teacher[source].shape) if source in of_teacher else "nothing"
            misfits[key] = f"{key} {list(tensor.shape)} from {source} {found}"
    if misfits and not keep_misfits:
        shown = "; ".join(list(misfits.values())[:_MISFITS_SHOWN])
        raise InputError(
            f"{len(misfits)} of the student's {len(copied) + len(misfits)} tensors do not fit its "
            f"teacher, first {shown}. Expected equal shapes: choose a student of the same family."
        )
    student.load_state_dict(copied, strict=False)
    return list(misfits)


def _same_context(of_teacher: Any, of_student: Any) -> None:
    """A width for all stages, or one a stage; the student sees the teacher's text encoder."""
    first = [w if isinstance(w, int) else w[0] for w in (of_teacher, of_student)]
    if first[0] != first[1]:
        raise InputError(
            f"the student's U-Net expects context of width {first[1]}, the teacher's of "
            f"{first[0]}; expected the same, for both see one text encoder. Choose another pair."
        )
