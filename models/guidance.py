"""Guidance (Ho and Salimans, "Classifier-free diffusion guidance", 2022): how much a prompt counts.

A denoiser is run with the prompt and without it, and goes on from the one prediction past the
other: by S times their difference from the one without. Students that were distilled with guidance
take S as an input instead, and run once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgefusion.compiler.bundle.deployment import Guidance
from edgefusion.models.config_file import json_object
from edgefusion.models.folder_index import INDEX
from edgefusion.models.tokenization import PromptReader, ids_of
from edgefusion.runtime.errors import UsageError

if TYPE_CHECKING:
    from edgefusion.models.source import Source
    from edgefusion.models.text_to_image import Sampling

Array = npt.NDArray[Any]


def chosen_guidance(source: Source, scale: float | None) -> Guidance | None:
    """How ``source`` is guided by ``scale``; None for not at all, or as it was distilled.

    Raises UsageError for a scale below 1, and for a source that is no pipeline with a denoiser.
    """
    if scale is None:
        return None
    _check_scale(scale)
    if source.kind == "onnx" or source.family.denoiser.component not in source.components:
        raise UsageError(
            f"--guidance {scale:g} was given with {source.name}, which is no pipeline with a "
            "denoiser; expected one. Leave it out."
        )
    if _takes_scale(source):
        return Guidance(scale, passes=1)
    zeros = source.family.zero_without_negative and _zeros_are_meant(source)
    return None if scale == 1 else Guidance(scale, zero_negative=zeros)


def guided(sampling: Sampling, scale: float | None, negative: str | None) -> Sampling:
    """``sampling`` with another scale, where one is given, checked to use a ``negative`` prompt
    that is given.

    Raises UsageError where the denoiser was not compiled for it.
    """
    if scale is not None:
        _check_scale(scale)
        if sampling.takes_scale:
            sampling = replace(sampling, guidance=Guidance(scale, passes=1))
        elif scale == 1:
            sampling = replace(sampling, guidance=None)
        elif sampling.guidance is None:
            raise UsageError(
                f"--guidance is {scale:g}, and the bundle was compiled without: its ranges were "
                f"measured so. Compile with --guidance {scale:g}."
            )
        else:
            sampling = replace(sampling, guidance=replace(sampling.guidance, scale=scale))
    if negative is not None and not sampling.is_guided:
        raise UsageError(
            "--negative-prompt has no effect without guidance in two passes; expected a bundle "
            "compiled with --guidance above 1, of a denoiser that does not take it as an input."
        )
    return sampling


def negative_ids(
    sampling: Sampling, read: PromptReader, negative: str | None
) -> Mapping[str, npt.NDArray[np.int64]] | None:
    """Token ids of what the prompt is told apart from, by text encoder: the empty prompt where no
    other is given. None where no encoder reads any: without guidance, or for zeros."""
    if sampling.guidance is None or not sampling.is_guided:
        return None
    if negative is None and sampling.guidance.zero_negative:
        return None
    return ids_of(read(negative or ""))


def as_zeros(encoded: Mapping[str, Mapping[str, Array]]) -> dict[str, dict[str, Array]]:
    """What text encoders made, by component, with nothing in it."""
    return {
        component: {name: np.zeros_like(value) for name, value in made.items()}
        for component, made in encoded.items()
    }


def _check_scale(scale: object) -> None:
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not isfinite(scale):
        raise UsageError(f"--guidance is {scale!r}; expected a number from 1 (none).")
    if scale < 1:
        raise UsageError(f"--guidance is {scale:g}; expected a number from 1 (none).")


def _takes_scale(source: Source) -> bool:
    """Whether the denoiser takes the scale as an input."""
    component = source.family.denoiser.component
    if source.architecture is not None:
        network = source.architecture.networks[component]
        return getattr(network, "guidance_embedding_width", None) is not None
    assert source.index is not None
    config = source.index.configs.of(component)
    return config.values.get("time_cond_proj_dim") is not None


def _zeros_are_meant(source: Source) -> bool:
    """Whether the pipeline says, or leaves open, that no negative prompt is zeros."""
    if source.path is None:
        return True
    index = json_object(source.path / INDEX, "Name a pipeline's folder.")
    return index.get("force_zeros_for_empty_prompt") is not False
