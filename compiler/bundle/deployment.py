"""How a pipeline makes images, as far as it is chosen where it is compiled."""

from __future__ import annotations

from dataclasses import dataclass

from edgefusion.runtime.validation import Whole

LCM = "LCMScheduler"
"""What denoises where nothing says otherwise: diffusers' class for latent-consistency students."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """``scheduler`` is the class of diffusers that denoises; None for the pipeline's own, and
    never None in a bundle's manifest. ``latent`` is the latent's (height, width); None for the
    pipeline's own."""

    scheduler: str | None = None
    latent: tuple[Whole, Whole] | None = None


OWN = Deployment()
"""As the pipeline's own files say."""
AS_BEFORE = Deployment(LCM)
"""Of bundles whose manifest says none: there was no choice when they were made."""
