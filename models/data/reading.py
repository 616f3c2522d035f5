"""Reading a sample's image, or the reason why it has none; and handing the file on unchanged."""

from __future__ import annotations

from PIL import Image

from edgefusion.models.data.images import UnreadableImageError, decoded, file_name
from edgefusion.models.data.sample import Sample
from edgefusion.models.data.stage import Stage

MISSING_IMAGE, UNREADABLE = "missing image", "unreadable image"


def read_image(sample: Sample) -> Image.Image | str:
    """The sample's image, or why there is none."""
    try:
        content = sample.read()
    except FileNotFoundError:
        content = b""
    if not content:
        return MISSING_IMAGE
    try:
        return decoded(content)
    except UnreadableImageError:
        return UNREADABLE


def hand_on(stage: Stage, index: int, sample: Sample) -> str:
    """The sample's file in the stage's folder, as its number ``index``: a link where the file
    system has them, else a copy. Its name."""
    name = file_name(index, sample.suffix)
    if sample.path is None or not stage.link(name, sample.path):
        stage.write(name, sample.read())
    return name
