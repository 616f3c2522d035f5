"""How a pipeline makes images, as far as it is chosen where it is compiled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edgefusion.runtime.validation import Finite, Whole

LCM = "LCMScheduler"
"""What denoises where nothing says otherwise: diffusers' class for latent-consistency students."""


@dataclass(frozen=True, slots=True)
class Guidance:
    """``scale`` is how far a prediction goes from that without the prompt to that with it, and
    beyond. Of two ``passes`` of the denoiser the first is without; a denoiser that takes the scale
    as an input has one. ``zero_negative``: without is zeros, not the empty prompt, where there is
    no negative one."""

    scale: Finite
    passes: Literal[1, 2] = 2
    zero_negative: bool = False


@dataclass(frozen=True, slots=True)
class Deployment:
    """``scheduler`` is the class of diffusers that denoises; None for the pipeline's own, and
    never None in a bundle's manifest. ``latent`` is the latent's (height, width); None for the
    pipeline's own. ``guidance`` is None for none, and for a student's own. ``strength`` is how much
    of the noise schedule is run, from a picture with so much noise; in a bundle's manifest it is
    None where images are made of noise. ``control_scale`` is how much a picture that is followed
    counts; None for as usual."""

    scheduler: str | None = None
    latent: tuple[Whole, Whole] | None = None
    guidance: Guidance | None = None
    strength: Finite | None = None
    control_scale: Finite | None = None

    @property
    def passes(self) -> int:
        """How often the denoiser runs where its scheduler asks for it once."""
        return self.guidance.passes if self.guidance else 1

    @property
    def reads_negative(self) -> bool:
        """Whether text encoders read a second prompt, where none is given."""
        return self.guidance is not None and self.passes == 2 and not self.guidance.zero_negative


OWN = Deployment()
"""As the pipeline's own files say."""
AS_BEFORE = Deployment(LCM)
"""Of bundles whose manifest says none: there was no choice when they were made."""
