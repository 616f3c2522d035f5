"""Pictures as networks are given them, against diffusers' own preparation of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

from edgefusion.models.families.pictures import CONTROLLED, MASK, PICTURE, Seen, inpainting
from edgefusion.models.noise_scheduler import SCHEDULERS, NoiseScheduler
from edgefusion.models.pictures import drawn_pictures, picture_size, read_pictures
from edgefusion.runtime.errors import InputError, UsageError

HEIGHT, WIDTH = 24, 16
PAINTING = inpainting(1.0)


def noise(*channels: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, *channels), dtype=np.uint8)


def test_numbers_are_those_of_diffusers() -> None:
    picture, mask = Image.fromarray(noise(3)), Image.fromarray(noise())
    made = read_pictures(PAINTING, {PICTURE: picture, MASK: mask}, (HEIGHT, WIDTH))
    signed = VaeImageProcessor(vae_scale_factor=1)
    binary: Any = VaeImageProcessor(
        vae_scale_factor=1, do_normalize=False, do_binarize=True, do_convert_grayscale=True
    )
    np.testing.assert_allclose(made[PICTURE], signed.preprocess(picture).numpy(), atol=1e-6)
    np.testing.assert_array_equal(made[MASK], binary.preprocess(mask).numpy())
    unit: Any = VaeImageProcessor(vae_scale_factor=1, do_normalize=False)
    control = read_pictures(CONTROLLED, {"control": picture}, (HEIGHT, WIDTH))["control"]
    np.testing.assert_allclose(control, unit.preprocess(picture).numpy(), atol=1e-6)


def test_a_mask_is_made_as_small_as_the_latent_as_torch_makes_it() -> None:
    from torch import from_numpy
    from torch.nn.functional import interpolate

    mask = (noise()[None, None] > 128).astype(np.float32)
    latent = np.zeros((1, 4, 3, 2), np.float32)
    seen = Seen({MASK: mask}, {"masked_image": latent}, {MASK: (1, 1, 3, 2)})
    expected = interpolate(from_numpy(mask), size=(3, 2)).numpy()
    np.testing.assert_array_equal(PAINTING.conditions(seen)[MASK], expected)


def test_files_of_other_forms_are_read_as_people_see_them(tmp_path: Path) -> None:
    pixels, path = noise(3), tmp_path / "x.png"
    expected = read_pictures(CONTROLLED, {"control": Image.fromarray(pixels)}, (HEIGHT, WIDTH))
    Image.fromarray(pixels).convert("RGBA").save(path)
    found = read_pictures(CONTROLLED, {"control": path}, (HEIGHT, WIDTH))
    np.testing.assert_array_equal(found["control"], expected["control"])
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(pixels)))
    exif = turned.getexif()
    exif[0x0112] = 6  # to be turned clockwise, which undoes it
    turned.save(path, exif=exif)
    found = read_pictures(CONTROLLED, {"control": path}, (HEIGHT, WIDTH))
    np.testing.assert_array_equal(found["control"], expected["control"])


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n cut"])
def test_a_file_that_is_no_picture(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"--control .*x\.png: cannot be read as a picture"):
        read_pictures(CONTROLLED, {"control": path}, (HEIGHT, WIDTH))


def test_drawn_pictures_have_the_forms_of_given_ones() -> None:
    made = drawn_pictures(PAINTING, (HEIGHT, WIDTH), np.random.default_rng(1))
    again = drawn_pictures(PAINTING, (HEIGHT, WIDTH), np.random.default_rng(1))
    assert made[PICTURE].shape == (1, 3, HEIGHT, WIDTH)
    assert -1 <= made[PICTURE].min() < -0.5 < 0.5 < made[PICTURE].max() <= 1
    assert set(np.unique(made[MASK])) == {0.0, 1.0}
    np.testing.assert_array_equal(made[PICTURE], again[PICTURE])


def test_the_size_is_that_of_the_input() -> None:
    assert picture_size({"sample": (1, 4, 3, 2), "control_image": (1, 3, 24, 16)}) == (24, 16)
    assert picture_size({"sample": (1, 4, 3, 2)}) is None


@pytest.mark.parametrize("name", SCHEDULERS)
def test_steps_are_cut_at_the_strength(name: str) -> None:
    whole = NoiseScheduler(name)
    cut = whole.at(0.4)
    assert cut.timesteps(10) == whole.timesteps(10)[-len(cut.timesteps(10)) :]
    assert cut.runs(10) == len(cut.timesteps(10)) < whole.runs(10)
    assert whole.at(1.0).timesteps(10) == whole.timesteps(10)
    assert not cut.does(2)
    with pytest.raises(UsageError, match=r"0\.4, which leaves none of 2 denoising .*expected 0\.5"):
        cut.timesteps(2)


def test_a_student_takes_all_its_steps_below_the_strength() -> None:
    student = NoiseScheduler("LCMScheduler", spreads_steps=True)
    assert student.at(0.5).timesteps(4) == (499, 379, 259, 139)
    assert student.at(None).timesteps(4) == (999, 759, 499, 259)
    assert NoiseScheduler("DDIMScheduler", spreads_steps=True).at(0.5).runs(4) == 2
