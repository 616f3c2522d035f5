"""What a bundle keeps of its pipeline beside the networks: tokenizers, scaling, the scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgefusion.compiler.bundle.deployment import LCM

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle
    from edgefusion.models.families.family import Family
    from edgefusion.models.noise_scheduler import NoiseScheduler
    from edgefusion.models.pipeline_files import PipelineConfig


def config_of(bundle: Bundle) -> PipelineConfig:
    """What the files of its source say that travel in a bundle."""
    from edgefusion.models.pipeline_files import PREFIX, pipeline_config

    names = (name for name in bundle.manifest.members if name.startswith(PREFIX))
    return pipeline_config({name: bundle.read(name) for name in names})


def scheduler_of(bundle: Bundle) -> NoiseScheduler:
    """What denoises for a bundle, at its strength: the manifest says it, for its files may be of
    another class."""
    deployment = bundle.manifest.deployment
    made = family_of(bundle).scheduler(deployment.scheduler or LCM, config_of(bundle).scheduler)
    return made.at(deployment.strength)


def family_of(bundle: Bundle) -> Family:
    """The family of pipelines that a bundle's networks are of."""
    from edgefusion.models.families.registry import family_named

    return family_named(bundle.manifest.source.family)


def denoiser_runs(bundle: Bundle, steps: int) -> int:
    """Evaluations of the denoiser for an image of so many steps.

    Raises UsageError for other steps than the bundle's that its scheduler cannot do, where the
    scheduler decides how often the denoiser runs.
    """
    return bundle.manifest.deployment.passes * scheduler_of(bundle).runs(steps)
