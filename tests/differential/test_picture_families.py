"""Families that take pictures, against diffusers' own pipelines of small folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import numpy as np
import pytest
from PIL import Image

from edgefusion.compiler.bundle.deployment import Deployment
from edgefusion.models.families.registry import FAMILIES
from edgefusion.models.guidance import chosen_guidance
from edgefusion.models.pictures import read_pictures
from edgefusion.models.pipeline_check import checked_source
from edgefusion.models.source import Source, resolve_source
from edgefusion.models.strength import starting_from_picture
from edgefusion.models.text_to_image import Generation
from edgefusion.models.trajectories import evaluations
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.progress import silent
from tests.diffusers_pipeline import their_picture
from tests.model_folders import pipeline_folder, with_tiny_autoencoder
from tests.picture_folders import PICTURE_FOLDERS, of_class, with_controlnet, with_u_net
from tests.torch_pipeline import generation, torch_network

PROMPT, SEED = "a b a a b", 5
THEIRS = {"image": "image", "mask": "mask_image", "control": "image"}
"""What diffusers calls pictures."""
Pixels = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A small folder of a family, made once."""

    @cache
    def made(family: str) -> Path:
        return PICTURE_FOLDERS[family](tmp_path_factory.mktemp(family))

    return made


def source_of(folder: Path, guidance: float = 1.0, **deployed: Any) -> Source:
    """Checked, and deployed as said."""
    source = resolve_source(str(folder))
    guided = chosen_guidance(source, guidance)
    source = replace(source, deployment=Deployment(guidance=guided, **deployed))
    return checked_source(source, None, silent)


def side_of(source: Source) -> int:
    """Pixels on a side of a small pipeline's pictures."""
    return 32 if "-xl-" in source.family.name else 16


def pictures_of(source: Source) -> dict[str, Image.Image]:
    """Noise for pictures, a rectangle for a mask."""
    side, rng = side_of(source), np.random.default_rng(0)
    found = {}
    for picture in source.family.pictures.given:
        pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
        if picture.form == "mask":
            pixels[:] = 0
            pixels[3 : side // 2 + 1, 5:] = 255
        found[picture.name] = Image.fromarray(pixels)
    return found


def our_generation(source: Source, steps: int) -> Generation:
    side = side_of(source)
    pictures = read_pictures(source.family.pictures, pictures_of(source), (side, side))
    networks = lambda name: torch_network(source, name)  # noqa: E731
    return generation(source, networks, PROMPT, steps, SEED, pictures=pictures)


def theirs(folder: Path, source: Source, steps: int, **arguments: Any) -> Pixels:
    given = {THEIRS[name]: picture for name, picture in pictures_of(source).items()}
    if len(given) > 1 or "control" in source.family.pictures.given[0].name:
        given |= {"height": side_of(source), "width": side_of(source)}
    return their_picture(folder, PROMPT, steps, SEED, **{**given, **arguments})


def near(made: Generation, theirs: Pixels) -> None:
    np.testing.assert_allclose(made.image / 255, theirs, atol=0.51 / 255)


def test_all_families_that_take_pictures_are_here() -> None:
    assert {each.name for each in FAMILIES if each.pictures.given} == set(PICTURE_FOLDERS)


@pytest.mark.parametrize(
    ("family", "strength", "steps"),
    [
        *((family, None, 5) for family in PICTURE_FOLDERS),
        ("stable-diffusion-image-to-image", 0.6, 5),
        ("stable-diffusion-image-to-image", 1.0, 3),
        ("latent-consistency-image-to-image", 0.5, 4),
        ("stable-diffusion-inpainting", 0.6, 5),
    ],
)
def test_pictures_are_those_of_diffusers(
    family: str, strength: float | None, steps: int, folder_of: Callable[[str], Path]
) -> None:
    folder = folder_of(family)
    source = source_of(folder, strength=strength)
    made = our_generation(source, steps)
    arguments = {} if strength is None else {"strength": strength}
    near(made, theirs(folder, source, steps, **arguments))
    for part in source.family.parts:
        runs = {"encoder": 1, "decoder": 1, "image_encoder": len(made.pictures)}
        expected = runs.get(part.role, len(made.steps))
        assert evaluations(source, part.component, steps) == expected


@pytest.mark.parametrize(
    "family", ["stable-diffusion-inpainting", "stable-diffusion-xl-controlnet"]
)
def test_guided_pictures(family: str, folder_of: Callable[[str], Path]) -> None:
    folder = folder_of(family)
    source = source_of(folder, guidance=5.0)
    near(our_generation(source, 3), theirs(folder, source, 3, guidance_scale=5.0))


def test_how_much_a_picture_counts_that_is_followed(folder_of: Callable[[str], Path]) -> None:
    folder = folder_of("stable-diffusion-controlnet")
    half, whole = (source_of(folder, control_scale=scale) for scale in (0.5, None))
    made = our_generation(half, 3)
    near(made, theirs(folder, half, 3, controlnet_conditioning_scale=0.5))
    assert np.abs(made.image - our_generation(whole, 3).image.astype(float)).max() > 5


@pytest.mark.parametrize(
    ("scheduler", "values", "runs"),
    [
        ("EulerAncestralDiscreteScheduler", {"timestep_spacing": "trailing"}, 3),
        ("HeunDiscreteScheduler", {}, 5),
        ("PNDMScheduler", {"skip_prk_steps": True}, 4),
    ],
)
def test_schedulers_begin_at_the_strength(
    scheduler: str, values: Mapping[str, Any], runs: int, tmp_path: Path
) -> None:
    import diffusers

    folder = of_class(
        pipeline_folder(tmp_path),
        "StableDiffusionImg2ImgPipeline",
        scheduler=["diffusers", scheduler],
    )
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    with catch_warnings():
        simplefilter("ignore")
        getattr(diffusers, scheduler)(**noise, **values).save_pretrained(folder / "scheduler")
    source = source_of(folder, strength=0.35)
    made = our_generation(source, 9)
    near(made, theirs(folder, source, 9, strength=0.35))
    assert len(made.steps) == evaluations(source, "unet", 9) == runs


def test_a_control_is_given_fractions_of_timesteps(tmp_path: Path) -> None:
    from diffusers import EulerDiscreteScheduler

    folder = of_class(
        PICTURE_FOLDERS["stable-diffusion-controlnet"](tmp_path),
        "StableDiffusionControlNetPipeline",
        scheduler=["diffusers", "EulerDiscreteScheduler"],
    )
    EulerDiscreteScheduler(beta_schedule="scaled_linear").save_pretrained(folder / "scheduler")
    source = source_of(folder)
    near(our_generation(source, 3), theirs(folder, source, 3))


def test_an_encoder_of_convolutions_makes_latents_without_noise(tmp_path: Path) -> None:
    maker = PICTURE_FOLDERS["stable-diffusion-image-to-image"]
    folder = with_tiny_autoencoder(maker(tmp_path))
    source = source_of(folder)
    made = our_generation(source, 5)
    assert list(made.pictures["image"]) == ["latent"]
    near(made, theirs(folder, source, 5))


def test_a_pipeline_of_prompts_is_taken_for_one_that_starts_from_a_picture(tmp_path: Path) -> None:
    folder = pipeline_folder(tmp_path)
    taken = starting_from_picture(resolve_source(str(folder)))
    source = checked_source(taken, None, silent)
    assert source.components == ("text_encoder", "vae_encoder", "unet", "vae_decoder")
    made = our_generation(source, 5)
    of_class(folder, "StableDiffusionImg2ImgPipeline")
    near(made, theirs(folder, source, 5))


@pytest.mark.parametrize("name", ["stable-diffusion-inpainting", "stable-diffusion-controlnet"])
def test_no_pipeline_starts_from_a_picture_with_these_networks(name: str, tmp_path: Path) -> None:
    source = resolve_source(str(PICTURE_FOLDERS[name](tmp_path)))
    if source.family.pictures.start is not None:
        assert starting_from_picture(source) is source
        return
    with pytest.raises(UsageError, match="no pipeline here starts from a picture"):
        starting_from_picture(source)


@pytest.mark.parametrize(
    ("family", "part", "values", "told"),
    [
        ("stable-diffusion-inpainting", "unet", {"in_channels": 4}, "in_channels is 4; expected 9"),
        ("stable-diffusion-image-to-image", "unet", {"in_channels": 9}, "9; expected 4, the chan"),
        ("stable-diffusion-image-to-image", "vae", {"in_channels": 1}, "in_channels is 1; expect"),
        ("stable-diffusion-image-to-image", "vae", {"shift_factor": 1}, "shift_factor is 1"),
        (
            "stable-diffusion-controlnet",
            "controlnet",
            {"layers_per_block": 2},
            "layers_per_block is 2; unet/config.json has 1",
        ),
        (
            "stable-diffusion-controlnet",
            "controlnet",
            {"conditioning_embedding_out_channels": [4]},
            "expected as many numbers as the VAE has levels",
        ),
        (
            "stable-diffusion-controlnet",
            "controlnet",
            {"global_pool_conditions": True},
            "global_pool_conditions is True; expected False",
        ),
    ],
)
def test_configurations_that_do_not_fit(
    family: str, part: str, values: Mapping[str, Any], told: str, tmp_path: Path
) -> None:
    folder = PICTURE_FOLDERS[family](tmp_path)
    config = folder / part / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | values))
    with pytest.raises(InputError, match=told):
        checked_source(resolve_source(str(folder)), None, silent)


def test_several_control_nets_are_refused(tmp_path: Path) -> None:
    folder = of_class(
        with_controlnet(with_u_net(pipeline_folder(tmp_path))),
        "StableDiffusionControlNetPipeline",
        controlnet=["diffusers", "MultiControlNetModel"],
    )
    with pytest.raises(InputError, match="MultiControlNetModel for controlnet; expected Control"):
        checked_source(resolve_source(str(folder)), None, silent)
