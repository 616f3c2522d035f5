"""Starting from a picture, where that is chosen, and how much of the noise schedule is run then."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from edgefusion.models.config_file import is_number
from edgefusion.models.families.registry import family_from_picture
from edgefusion.runtime.errors import UsageError

if TYPE_CHECKING:
    from edgefusion.models.families.family import Family
    from edgefusion.models.source import Source


def starting_from_picture(source: Source) -> Source:
    """``source``, of the family that starts from a picture with its networks.

    Raises UsageError where there is none.
    """
    class_name = source.index.class_name if source.index else ""
    family = family_from_picture(class_name, source.family)
    if family is None or source.kind == "onnx":
        raise UsageError(
            f"--image-to-image was given with {source.name}, of which no pipeline here starts from "
            "a picture; expected one that makes pictures of prompts, with a VAE. Leave it out."
        )
    return source.of_family(family)


def chosen_strength(source: Source, strength: float | None) -> float | None:
    """``strength``, checked to be of use; None for the family's usual one."""
    if strength is not None:
        check_strength(source.family, strength, source.name)
    return strength


def check_strength(family: Family, strength: object, what: str) -> None:
    """Raises UsageError for no number above 0, up to 1, and for ``what`` starts from noise."""
    if family.pictures.strength is None:
        raise UsageError(
            f"--strength was given, and {what} makes images of noise; expected a pipeline that "
            "starts from a picture (compile --image-to-image). Leave it out."
        )
    if not is_number(strength) or not 0 < strength <= 1:
        raise UsageError(
            f"--strength is {strength!r}; expected a number above 0 up to 1, the part of the noise "
            "schedule that is run."
        )


def chosen_control_scale(source: Source, scale: float | None) -> float | None:
    """``scale``, checked to be of use; None for the family's usual one."""
    if scale is not None:
        check_control_scale(source.family, scale, source.name)
        if scale == 0:
            raise UsageError("--control-scale is 0: compile the pipeline without the ControlNet.")
    return scale


def check_control_scale(
    family: Family, scale: object, what: str, most: float | None = None
) -> None:
    """Raises UsageError for no number from 0, up to ``most`` where ranges were measured with that,
    and for ``what`` follows no picture."""
    if family.pictures.scale is None:
        raise UsageError(
            f"--control-scale was given, and {what} has no ControlNet; expected a pipeline with "
            "one. Leave it out."
        )
    if not is_number(scale) or not 0 <= scale <= (inf if most is None else most):
        to = "" if most is None else f" to {most:g}, with which {what} was compiled and measured"
        raise UsageError(
            f"--control-scale is {scale!r}; expected a number from 0{to}: how much the picture "
            "counts that is followed."
        )
