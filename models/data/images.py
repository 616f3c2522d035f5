"""Image files to RGB images and back, by Pillow; what cannot be read says why."""

from __future__ import annotations

import io
import warnings

from PIL import Image, ImageOps

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
"""What image files of a dataset end in."""
FORMATS = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
"""What stages write, with the suffix."""
_QUALITY = 95  # of jpeg and webp: beyond what a 512-pixel latent keeps


class UnreadableImageError(ValueError):
    """Bytes that are no whole image."""


def decoded(content: bytes) -> Image.Image:
    """An upright RGB image; transparent pixels lie on white.

    Raises UnreadableImageError for truncated and damaged files, other formats, and images so large
    that Pillow takes them for an attack.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                image.load()
                upright = ImageOps.exif_transpose(image)
                if upright.has_transparency_data:
                    opaque = upright.convert("RGBA")
                    white = Image.new("RGBA", opaque.size, "white")
                    return Image.alpha_composite(white, opaque).convert("RGB")
                return upright.convert("RGB")
    except (
        OSError,
        ValueError,
        SyntaxError,  # what Pillow raises for broken PNG chunks
        EOFError,
        MemoryError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise UnreadableImageError(str(error)) from error


def encoded(image: Image.Image, form: str) -> bytes:
    """The image as a file of one of ``FORMATS``; the same image always gives the same bytes."""
    sink = io.BytesIO()
    if form == "png":
        image.save(sink, "PNG")
    else:
        image.save(sink, form.upper(), quality=_QUALITY)
    return sink.getvalue()


def file_name(index: int, suffix: str) -> str:
    """Where a stage puts the image of its sample number ``index``, a thousand to a folder."""
    return f"images/{index // 1000:05d}/{index:08d}{suffix}"
