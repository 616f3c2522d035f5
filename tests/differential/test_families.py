"""What a family says of its pipelines, against diffusers' own pipelines of small folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
import pytest
import torch

from edgefusion.compiler.bundle.deployment import LCM, Deployment
from edgefusion.models.guidance import chosen_guidance
from edgefusion.models.image_size import chosen_latent
from edgefusion.models.noise_scheduler import SCHEDULERS
from edgefusion.models.pipeline_check import checked_source
from edgefusion.models.source import Source, resolve_source
from edgefusion.models.text_to_image import Generation, Network, Networks
from edgefusion.models.trajectories import evaluations
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.progress import silent
from tests import diffusers_pipeline
from tests.model_folders import (
    pipeline_folder,
    pixart_pipeline_folder,
    sd3_pipeline_folder,
    with_tiny_autoencoder,
    xl_pipeline_folder,
)
from tests.torch_pipeline import generation, torch_network

PROMPT, STEPS, SEED = "a b A a b", 3, 5
OWN_STEPS = 5
Image = np.ndarray[Any, Any]
Arrays = Mapping[str, Image]


def our_generation(
    source: Source, networks: Networks, steps: int = STEPS, negative: str | None = None
) -> Generation:
    """Of ``PROMPT``, with a source's own scheduler and as it is guided."""
    return generation(source, networks, PROMPT, steps, SEED, negative)


MAKERS: dict[str, Callable[[Path], Path]] = {
    "stable-diffusion": pipeline_folder,
    "stable-diffusion-xl": xl_pipeline_folder,
    "pixart": pixart_pipeline_folder,
    "stable-diffusion-3": sd3_pipeline_folder,
    "stable-diffusion-3-without-t5": partial(sd3_pipeline_folder, t5=False),
}


@pytest.fixture(scope="module", params=MAKERS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MAKERS[request.param](tmp_path_factory.mktemp(request.param))


@pytest.fixture
def source(folder: Path) -> Source:
    return checked_source(resolve_source(str(folder)), None, silent)


def their_picture(
    folder: Path, scheduler: Any = None, steps: int = STEPS, **arguments: Any
) -> Image:
    """Of ``PROMPT``, in [0, 1]."""
    return diffusers_pipeline.their_picture(folder, PROMPT, steps, SEED, scheduler, **arguments)


def test_pictures_are_those_of_diffusers(folder: Path, source: Source) -> None:
    made = our_generation(source, lambda component: torch_network(source, component))
    np.testing.assert_allclose(made.image / 255, their_picture(folder), atol=0.51 / 255)


def test_a_chosen_scheduler_is_taken_as_diffusers_takes_it(folder: Path, source: Source) -> None:
    from diffusers import LCMScheduler

    if LCM not in source.family.schedulers:
        pytest.skip("of another noise")
    chosen = replace(source, deployment=Deployment(LCM))
    made = our_generation(chosen, lambda component: torch_network(source, component))
    np.testing.assert_allclose(
        made.image / 255, their_picture(folder, LCMScheduler), atol=0.51 / 255
    )


EULER = {"prediction_type": "v_prediction", "timestep_spacing": "trailing"}
OWN: tuple[tuple[str, Mapping[str, Any]], ...] = (
    *((name, {}) for name in SCHEDULERS),
    ("DDIMScheduler", {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}),
    ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 3}),
    ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True, "prediction_type": "sample"}),
    ("EulerAncestralDiscreteScheduler", EULER),
    ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    ("EulerDiscreteScheduler", {"timestep_spacing": "leading", "steps_offset": 1}),
    ("KDPM2DiscreteScheduler", {"use_karras_sigmas": True}),
    ("PNDMScheduler", {"skip_prk_steps": True, "steps_offset": 1}),
    ("PNDMScheduler", {"skip_prk_steps": True, "prediction_type": "v_prediction"}),
)


@pytest.fixture(scope="module")
def denoised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose scheduler may be written over."""
    return pipeline_folder(tmp_path_factory.mktemp("denoised"))


def with_scheduler(folder: Path, name: str, values: Mapping[str, Any]) -> None:
    """Write a scheduler of diffusers into ``folder``, with Stable Diffusion's noise."""
    import diffusers

    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    with catch_warnings():
        simplefilter("ignore", DeprecationWarning)
        scheduler = getattr(diffusers, name)(**schedule, **values)
    scheduler.save_pretrained(folder / "scheduler")
    index = folder / "model_index.json"
    content = json.loads(index.read_text()) | {"scheduler": ["diffusers", name]}
    index.write_text(json.dumps(content))


@pytest.mark.parametrize(("name", "values"), OWN)
def test_a_folders_own_scheduler_denoises(
    name: str, values: Mapping[str, Any], denoised: Path
) -> None:
    with_scheduler(denoised, name, values)
    source = checked_source(resolve_source(str(denoised)), None, silent)
    made = our_generation(source, lambda component: torch_network(source, component), OWN_STEPS)
    np.testing.assert_allclose(
        made.image / 255, their_picture(denoised, steps=OWN_STEPS), atol=0.51 / 255
    )
    assert len(made.steps) == source.scheduler.runs(OWN_STEPS)


@pytest.mark.parametrize("latent", [(96, 64), (40, 72)])
def test_pictures_of_chosen_sizes(latent: tuple[int, int], folder: Path, source: Source) -> None:
    factor = 2 if source.family.name == "stable-diffusion" else 8
    height, width = (factor * side for side in latent)
    assert chosen_latent(source, height, width) == latent
    sized = replace(source, deployment=Deployment(latent=latent))
    made = our_generation(sized, lambda component: torch_network(sized, component), steps=2)
    theirs = their_picture(folder, steps=2, height=height, width=width)
    assert made.image.shape == (height, width, 3)
    np.testing.assert_allclose(made.image / 255, theirs, atol=0.51 / 255)


@pytest.mark.parametrize("size", [[20, 12], 100])
def test_the_latent_is_the_u_nets_whatever_size_the_vae_was_trained_at(
    size: object, tmp_path: Path
) -> None:
    folder = pipeline_folder(tmp_path)
    config = folder / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sample_size": size}))
    source = checked_source(resolve_source(str(folder)), None, silent)
    made = our_generation(source, lambda component: torch_network(source, component))
    assert made.image.shape == (16, 16, 3)
    np.testing.assert_allclose(made.image / 255, their_picture(folder), atol=0.51 / 255)


@pytest.mark.parametrize("negative", [None, "b b"])
def test_guided_pictures(negative: str | None, folder: Path, source: Source) -> None:
    chosen = replace(source, deployment=Deployment(guidance=chosen_guidance(source, 7.5)))
    seen: list[str] = []

    def networks(component: str) -> Network:
        run = torch_network(source, component)

        def counted(inputs: Arrays) -> Arrays:
            seen.append(component)
            return run(inputs)

        return counted

    made = our_generation(chosen, networks, negative=negative)
    told = {} if negative is None else {"negative_prompt": negative}
    theirs = their_picture(folder, guidance_scale=7.5, **told)
    np.testing.assert_allclose(made.image / 255, theirs, atol=0.51 / 255)
    plain = our_generation(source, networks)
    assert np.abs(made.image.astype(int) - plain.image).max() > 4
    counts = {name: seen.count(name) for name in source.components}
    expected = {name: 1 + evaluations(chosen, name, STEPS) for name in source.components}
    denoiser = source.family.denoiser.component
    expected[denoiser] = STEPS + evaluations(chosen, denoiser, STEPS)
    if negative is not None and source.family.zero_without_negative:  # read, where zeros were not
        expected |= {part.component: 3 for part in source.family.encoders}
    assert counts == expected


def test_guidance_without_zeros_where_the_pipeline_says_so(tmp_path: Path) -> None:
    folder = xl_pipeline_folder(tmp_path)
    index = folder / "model_index.json"
    values = json.loads(index.read_text()) | {"force_zeros_for_empty_prompt": False}
    index.write_text(json.dumps(values))
    source = checked_source(resolve_source(str(folder)), None, silent)
    chosen = replace(source, deployment=Deployment(guidance=chosen_guidance(source, 3)))
    made = our_generation(chosen, lambda component: torch_network(source, component))
    theirs = their_picture(folder, guidance_scale=3.0)
    np.testing.assert_allclose(made.image / 255, theirs, atol=0.51 / 255)


@pytest.mark.parametrize("maker", MAKERS)
def test_pictures_by_an_autoencoder_of_convolutions(maker: str, tmp_path: Path) -> None:
    folder = with_tiny_autoencoder(MAKERS[maker](tmp_path))
    source = checked_source(resolve_source(str(folder)), None, silent)
    made = our_generation(source, lambda component: torch_network(source, component))
    np.testing.assert_allclose(made.image / 255, their_picture(folder), atol=0.51 / 255)


def test_queries_and_keys_that_are_normed_and_second_attentions(tmp_path: Path) -> None:
    folder = sd3_pipeline_folder(tmp_path, later=True)
    source = checked_source(resolve_source(str(folder)), None, silent)
    made = our_generation(source, lambda component: torch_network(source, component))
    np.testing.assert_allclose(made.image / 255, their_picture(folder), atol=0.51 / 255)


def test_guidance_as_an_input(tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    folder = pipeline_folder(tmp_path)
    config = json.loads((folder / "unet" / "config.json").read_text())
    torch.manual_seed(1)
    unet: Any = UNet2DConditionModel.from_config(config | {"time_cond_proj_dim": 6})
    unet.save_pretrained(folder / "unet")
    source = checked_source(resolve_source(str(folder)), None, silent)
    chosen = replace(source, deployment=Deployment(guidance=chosen_guidance(source, 3)))
    made = our_generation(chosen, lambda component: torch_network(source, component))
    theirs = their_picture(folder, guidance_scale=3.0)
    np.testing.assert_allclose(made.image / 255, theirs, atol=0.51 / 255)
    assert len(made.steps) == evaluations(chosen, "unet", STEPS) == STEPS
    assert [len(step.passes) for step in made.steps] == [1] * STEPS


def test_a_part_that_is_missing_is_told(folder: Path, source: Source, tmp_path: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    for part in source.family.parts:
        (tmp_path / "model_index.json").write_text(
            json.dumps({k: v for k, v in index.items() if k != part.folder})
        )
        for other in source.family.parts:
            (tmp_path / other.folder).mkdir(exist_ok=True)
        lacking = rf"names no {part.folder}; expected all networks"
        with pytest.raises(InputError, match=rf"{lacking}|names the part tokenizer_3 "):
            checked_source(resolve_source(str(tmp_path)), None, silent)


def test_a_pipeline_of_another_class_is_told(folder: Path, tmp_path: Path) -> None:
    for place in folder.iterdir():
        (tmp_path / place.name).symlink_to(place)
    index = tmp_path / "model_index.json"
    values = json.loads(index.read_text())
    index.unlink()
    index.write_text(json.dumps(values | {"_class_name": "StableDiffusionDepth2ImgPipeline"}))
    wanted = r"_class_name is StableDiffusionDepth2ImgPipeline; expected one of"
    with pytest.raises(InputError, match=wanted):
        checked_source(resolve_source(str(tmp_path)), None, silent)


POOLED = "projection_class_embeddings_input_dim is 56"


@pytest.mark.parametrize(
    ("part", "values", "told"),
    [
        ("unet", {"addition_embed_type": None}, "addition_embed_type is null; expected text_time"),
        ("unet", {"addition_time_embed_dim": 7}, POOLED),
        ("text_encoder_2", {"projection_dim": 16}, POOLED),
        ("unet", {"cross_attention_dim": 8}, "hidden_size 8 and text_encoder_2/config.json has"),
        ("vae", {"shift_factor": 0.1}, "shift_factor is 0.1"),
    ],
)
def test_configurations_that_do_not_fit(
    part: str, values: Mapping[str, Any], told: str, tmp_path: Path
) -> None:
    folder = xl_pipeline_folder(tmp_path)
    config = folder / part / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | values))
    with pytest.raises(InputError, match=told):
        checked_source(resolve_source(str(folder)), None, silent)
