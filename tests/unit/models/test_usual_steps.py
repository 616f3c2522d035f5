"""How many steps an image takes where nobody says: what the pipeline is decides."""

from __future__ import annotations

from dataclasses import replace
from inspect import signature

import diffusers
import pytest

from edgefusion.compiler.bundle.deployment import Deployment
from edgefusion.models.families.family import Family
from edgefusion.models.families.registry import FAMILIES, STABLE_DIFFUSION
from edgefusion.models.noise_scheduler import SCHEDULERS, NoiseScheduler
from edgefusion.models.source import resolve_source


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_has_its_pipelines_own_numbers(family: Family) -> None:
    for name, steps in family.pipelines.items():
        taken = signature(getattr(diffusers, name).__call__).parameters
        assert taken["num_inference_steps"].default == steps, name


def test_students_take_few_whatever_pipeline_they_are_in() -> None:
    def usual(class_name: str, scheduler: str) -> int:
        return STABLE_DIFFUSION.usual_steps(class_name, NoiseScheduler(scheduler))

    students = {name for name in SCHEDULERS if NoiseScheduler(name).is_of_students}
    assert students == {"LCMScheduler", "TCDScheduler"}
    for name in SCHEDULERS:
        assert usual("StableDiffusionPipeline", name) == (2 if name in students else 50)
        assert usual("LatentConsistencyModelPipeline", name) == 4
    assert usual("", "PNDMScheduler") == usual("StableDiffusionPipeline", "PNDMScheduler")
    # A pipeline whose scheduler is not known is refused elsewhere, and by its name.
    assert usual("StableDiffusionPipeline", "NoSuchScheduler") == 50


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        *(("miniature", 2), ("bk-sdm-tiny", 2), ("bk-sdm-tiny-lcm", 2), ("sd-v1.5", 2)),
        *(("sd-turbo", 1), ("sd-turbo-taesd", 1), ("sdxl-turbo", 1), ("mobilediffusion", 1)),
        *(("pixart-delta", 4), ("snapfusion", 8), ("choi-2023", 20), ("sd3-medium", 28)),
    ],
)
def test_what_comes_with_this_tool(name: str, steps: int) -> None:
    assert resolve_source(name).usual_steps == steps


def test_another_scheduler_is_another_number_but_of_what_was_made_for_its_own() -> None:
    ddim = Deployment("DDIMScheduler")
    assert replace(resolve_source("bk-sdm-tiny"), deployment=ddim).usual_steps == 50
    assert replace(resolve_source("snapfusion"), deployment=ddim).usual_steps == 8
