"""What a component does for an image, by its name: read the prompt or a picture, control, denoise,
or make the result.

Names of components are a contract of bundles, recipes and latency tables, and so is what they mean.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Literal

PipelineRole = Literal["encoder", "image_encoder", "control", "denoiser", "decoder", "model"]
"""An ``encoder`` reads the prompt, an ``image_encoder`` a picture; a ``control`` runs before the
denoiser, at each of its runs. A ``model`` is a network of no pipeline."""

Component = Literal[
    "text_encoder",
    "text_encoder_2",
    "text_encoder_3",
    "vae_encoder",
    "controlnet",
    "unet",
    "transformer",
    "vae_decoder",
    "model",
]
"""All names. An ONNX file that is no part of a pipeline is a ``model``."""

ROLES: Mapping[Component, PipelineRole] = MappingProxyType(
    {
        "text_encoder": "encoder",
        "text_encoder_2": "encoder",
        "text_encoder_3": "encoder",
        "vae_encoder": "image_encoder",
        "controlnet": "control",
        "unet": "denoiser",
        "transformer": "denoiser",
        "vae_decoder": "decoder",
        "model": "model",
    }
)

ROLE_PRECISION: Mapping[PipelineRole, Literal["fp16", "w8a16"]] = MappingProxyType(
    {
        "encoder": "fp16",
        "image_encoder": "fp16",
        "control": "w8a16",
        "denoiser": "w8a16",
        "decoder": "fp16",
        "model": "fp16",
    }
)
"""The paper's choice: what runs once in FP16, what runs every step with INT8 weights."""


def role_of(component: str) -> PipelineRole:
    """The role of a component; ``model`` for names of no pipeline."""
    return next((role for name, role in ROLES.items() if name == component), "model")


def runs_each_step(component: str) -> bool:
    """Whether a component runs as often as the denoiser."""
    return role_of(component) in ("control", "denoiser")


def denoiser_of(components: Collection[str]) -> str | None:
    """The component that runs once a step; None where there is none."""
    return next((name for name in components if role_of(name) == "denoiser"), None)


def makes_images(components: Collection[str]) -> bool:
    """Whether there is one of each role that an image needs."""
    return {"encoder", "denoiser", "decoder"} <= {role_of(name) for name in components}


_PROMPT = "_prompt"


def prompt_part(component: str) -> str:
    """What reports call the part of ``component`` that runs once a prompt, not once a step."""
    return f"{component}{_PROMPT}"


def network_of(name: str) -> str:
    """The component that ``name`` is, or is the ``prompt_part`` of."""
    return name.removesuffix(_PROMPT)
