"""Names of the networks of a repetition of the experiment."""

from __future__ import annotations

BASE, ADVANCED = "base", "advanced"
"""The two teachers."""
TINY = "tiny"
"""The base teacher's block-removed student."""
EDGEFUSION = "few/edgefusion"
"""The network that is deployed: tuned on synt-cur, distilled to few steps on L-pps & synt."""
UNTUNED = "few/tiny"
"""The same without tuning."""
BY_BASE = "few/by-base"
"""The same, distilled to few steps from the base teacher."""
BY_ITSELF = "few/by-itself"
"""The same, distilled from the tuned student, as latent consistency usually is."""

FP32, NPU = "FP32", "W8A16 on the NPU"
"""The deployed network once more, as a pipeline of diffusers and as a compiled bundle, on fewer
prompts."""


def tuned(mixture: str) -> str:
    """``TINY`` after more distillation by the advanced teacher on a mixture of datasets."""
    return f"tuned/{mixture}"


def few(mixture: str) -> str:
    """The latent-consistency student of ``tuned(mixture)`` on the same data: the rows of the
    paper's Tables 2, 3 and 11."""
    return f"few/{mixture}"


def is_few(name: str) -> bool:
    """Whether the network draws in a few steps without guidance, rather than in many with it."""
    return name.startswith("few/")
