"""Square crops of an image: the centre, and the two ends of the longer side (EdgeFusion, 2.2)."""

from __future__ import annotations

from PIL import Image

Box = tuple[int, int, int, int]


def square_boxes(width: int, height: int) -> dict[str, Box]:
    """Left, top, right and bottom of each square by its name; ``centre`` alone for squares.

    ``centre`` comes first, so that it wins where a scorer sees no difference.
    """
    side = min(width, height)
    spare = max(width, height) - side
    offsets = {"centre": spare // 2, "start": 0, "end": spare} if spare else {"centre": 0}
    return {
        name: (at, 0, at + side, side) if width > height else (0, at, side, at + side)
        for name, at in offsets.items()
    }


def square_crops(image: Image.Image, largest_pixels: int) -> dict[str, Image.Image]:
    """The squares, scaled down to ``largest_pixels`` a side where they are larger."""
    crops = {}
    for name, box in square_boxes(*image.size).items():
        crop = image.crop(box)
        if crop.width > largest_pixels:
            crop = crop.resize((largest_pixels, largest_pixels), Image.Resampling.LANCZOS)
        crops[name] = crop
    return crops
