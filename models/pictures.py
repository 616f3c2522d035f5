"""Pictures as networks are given them: read from files, or drawn where none are at hand."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgefusion.models.families.family import IMAGE, SAMPLE
from edgefusion.models.families.pictures import CONTROL_IMAGE, Seen
from edgefusion.runtime.errors import InputError, UsageError, in_brief

if TYPE_CHECKING:
    from PIL.Image import Image

    from edgefusion.models.families.pictures import Picture, PictureUse, Shapes

Array = npt.NDArray[Any]
Size = tuple[int, int]
Files = Mapping[str, "Path | str | Image"]
"""Pictures by name, read or not."""

_PATCHES = 5
"""On a side, of a drawn picture."""
_FAILURES = (OSError, ValueError, SyntaxError, EOFError, TypeError)
"""What PIL raises for files that are no pictures, or damaged ones."""


def picture_size(shapes: Shapes) -> Size | None:
    """(height, width) of the pictures that networks with inputs of these ``shapes`` take."""
    found = next((shapes[name] for name in (IMAGE, CONTROL_IMAGE) if name in shapes), None)
    return None if found is None else (found[-2], found[-1])


def check_pictures(use: PictureUse, names: Mapping[str, object], what: str) -> None:
    """Raises UsageError unless ``names``, those that are not None, are the pictures that ``what``
    takes."""
    given = [name for name, value in names.items() if value is not None]
    taken = {picture.name: picture for picture in use.given}
    if beyond := [name for name in given if name not in taken]:
        expected = " and ".join(f"--{name}" for name in taken) or "a prompt alone"
        raise UsageError(
            f"--{beyond[0]} was given, and {what} takes {expected}. Leave it out, or compile a "
            "pipeline that takes it (docs/families.md)."
        )
    if missing := [taken[name] for name in taken if name not in given]:
        raise UsageError(
            f"no --{missing[0].name} was given, and {what} takes one: {missing[0].what}. "
            "Name its file."
        )


def read_pictures(use: PictureUse, files: Files, size: Size) -> dict[str, Array]:
    """The pictures of ``files`` by name, as networks are given them.

    Raises InputError for one that cannot be read, or is of another ``size`` (height, width).
    """
    return {each.name: _given(each, _opened(each, files[each.name], size)) for each in use.given}


def read_sets(
    use: PictureUse, sets: Sequence[Files], size: Size, what: str, prompts: int
) -> tuple[Mapping[str, Array], ...]:
    """Each of ``sets`` of pictures, as networks are given them: of the prompts, one after the
    other and over again, in place of drawn ones.

    Raises UsageError for pictures that ``what`` does not take, or more than ``prompts``, and what
    ``read_pictures`` does.
    """
    if len(sets) > prompts:
        raise UsageError(
            f"pictures of {len(sets)} prompts were given, and {prompts} prompts; expected a prompt "
            "for each. Give more prompts, or fewer pictures."
        )
    for each in sets:
        check_pictures(use, each, what)
    return tuple(read_pictures(use, each, size) for each in sets)


def chosen_pictures(
    use: PictureUse,
    sets: Sequence[Mapping[str, Array]],
    index: int,
    size: Size,
    rng: np.random.Generator,
) -> Mapping[str, Array]:
    """Those of the prompt ``index``: of ``sets``, drawn where there are none."""
    return sets[index % len(sets)] if sets else drawn_pictures(use, size, rng)


def sets_digest(sets: Sequence[Mapping[str, Array]]) -> str:
    """sha256, as hex, of all values; empty for none."""
    if not sets:
        return ""
    digest = hashlib.sha256()
    for each in sets:
        for name, values in sorted(each.items()):
            digest.update(f"{name} {values.shape}".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def drawn_pictures(use: PictureUse, size: Size, rng: np.random.Generator) -> dict[str, Array]:
    """Pictures of no subject, smooth and with edges, from dark to bright; of masks, a half.

    They stand for those that are given where a bundle runs.
    """
    from PIL import Image

    height, width = size
    found = {}
    for picture in use.given:
        coarse = rng.integers(0, 256, (_PATCHES, _PATCHES, 3), dtype=np.uint8)
        smooth = np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
        smooth[height // 4 : height // 2, width // 4 :] = rng.integers(0, 256, 3, dtype=np.uint8)
        if picture.form == "mask":
            smooth[:] = 0
            smooth[:, width // 2 :] = 255
        found[picture.name] = _given(picture, Image.fromarray(smooth))
    return found


def drawn_conditions(
    use: PictureUse,
    shapes: Shapes,
    rng: np.random.Generator,
    scale: float | None,
    latent: Array | None = None,
    pictures: Mapping[str, Array] | None = None,
) -> dict[str, Array]:
    """What follows from ``pictures``, drawn where there are none, for networks with inputs of these
    ``shapes``, where the image encoder is not at hand: ``latent`` is what it made of one, or else
    normal, as the VAE's scaling factor makes latents."""
    if SAMPLE not in shapes or not use.given:
        return {}
    shape = shapes[SAMPLE]
    size = picture_size(shapes) or (shape[-2], shape[-1])
    derived = use.derived(pictures or drawn_pictures(use, size, rng))
    if latent is None:
        latent = rng.standard_normal(shape).astype(np.float32)
    return use.conditions(Seen(derived, dict.fromkeys(use.encoded, latent), shapes, scale))


def _opened(picture: Picture, file: Path | str | Image, size: Size) -> Image:
    from PIL import Image, ImageOps

    try:
        opened = Image.open(file) if isinstance(file, Path | str) else file
        upright = ImageOps.exif_transpose(opened)
        upright.load()
    except (*_FAILURES, Image.DecompressionBombError) as error:
        raise InputError(
            f"--{picture.name} {file}: cannot be read as a picture ({in_brief(error)}). Expected a "
            "PNG or JPEG file."
        ) from error
    if (upright.height, upright.width) != size:
        height, width = size
        raise InputError(
            f"--{picture.name} {file if isinstance(file, Path | str) else ''} is {upright.width} x "
            f"{upright.height} pixels; expected {width} x {height}, for which the bundle was "
            "compiled. Scale or cut the picture, or compile with --width and --height."
        )
    return upright


def _given(picture: Picture, image: Image) -> npt.NDArray[np.float32]:
    """[1, channels, height, width], as the picture's form says."""
    if picture.form == "mask":
        grey = np.asarray(image.convert("L"), np.float32)[None, None] / np.float32(255)
        return (grey >= 0.5).astype(np.float32)
    rgb = np.asarray(image.convert("RGB"), np.float32).transpose(2, 0, 1)[None] / np.float32(255)
    values: npt.NDArray[np.float32] = rgb * 2 - 1 if picture.form == "signed" else rgb
    return np.ascontiguousarray(values)
