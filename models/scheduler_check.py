"""The scheduler of a pipeline folder: whether it denoises here, or another in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgefusion.compiler.bundle.deployment import LCM
from edgefusion.models.noise_scheduler import FLOW
from edgefusion.models.source import SCHEDULER_FILE
from edgefusion.runtime.errors import InputError

if TYPE_CHECKING:
    from edgefusion.models.folder_index import PipelineIndex
    from edgefusion.models.source import Source

_OWN_RANDOMNESS = frozenset({"DPMSolverSDEScheduler"})
"""Of the same noise, but their steps draw from a generator that no seed here reaches."""


def check_scheduler(source: Source, index: PipelineIndex) -> str | None:
    """What to tell the user of what denoises ``source``, a pipeline folder; None for LCM's own.

    Raises InputError, naming the key, for a scheduler of another noise, or that does not denoise by
    its configuration.
    """
    named, chosen = index.parts.get("scheduler"), source.scheduler
    if named is None:
        return (
            f"warning: {source.name}: {index.path.name} names no scheduler; Stable Diffusion v1's "
            f"noise schedule is taken, denoised by {chosen.name}"
        )
    path = index.path.parent / SCHEDULER_FILE
    if not path.is_file():
        raise InputError(
            f"{path} is missing, though {index.path.name} names a {named}. Download the whole "
            "pipeline again."
        )
    known = source.family.schedulers
    if named not in known and named not in _OWN_RANDOMNESS:
        noise = "flow matching" if FLOW in known else "DDPM's discrete noise"
        raise InputError(
            f"{index.path}: scheduler is {named}; expected one of {noise} "
            f"({', '.join(sorted(known))}). Take a pipeline that was trained with one."
        )
    if chosen.name in _OWN_RANDOMNESS:
        raise InputError(
            f"{index.path}: scheduler is {named}, whose steps draw noise that does not depend on "
            "the seed; expected another. Choose one with --scheduler, such as DPMSolverMultistep."
        )
    chosen.check(chosen.fewest_steps)
    if chosen.name != named:
        advice = (
            ". Models that were not distilled for few steps make poor pictures so; distil this one "
            "(edgefusion train) if it was not"
        )
        return (
            f"warning: {source.name}: the folder's scheduler {named} is replaced by {chosen.name}, "
            "with the folder's noise schedule and prediction_type "
            f"{chosen.config.get('prediction_type', 'epsilon')}"
            f"{advice if chosen.name == LCM else ''}"
        )
    if named == LCM:
        return None
    return (
        f"{source.name}: denoised by its own {named}. Models that were not distilled for few steps "
        "want 20 or more (--steps)"
    )
