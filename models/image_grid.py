"""Images of one size side by side, with labels, in one image."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

Cells = Sequence[Image.Image | None]
_FONT_PX = 14
_MARGIN_PX = 6


def image_grid(
    rows: Sequence[Cells],
    *,
    labels: Sequence[str] = (),
    titles: Sequence[str] = (),
    enlarged: int = 1,
    background: str = "white",
) -> Image.Image:
    """``rows`` from above, each from the left; None leaves its cell empty.

    ``labels`` stand before the rows, ``titles`` over the columns; without either, images touch.
    ``enlarged`` repeats pixels, so that small images can be looked at.
    """
    font = ImageFont.load_default(_FONT_PX)
    margin = _MARGIN_PX if labels or titles else 0
    first = next(image for row in rows for image in row if image is not None)
    width, height = (side * enlarged for side in first.size)

    # What the labels need, and where the images begin
    left = margin + max((int(font.getlength(text)) + margin for text in labels), default=0)
    top = margin + (_FONT_PX + margin if titles else 0)
    columns = max(map(len, rows))
    size = (left + columns * (width + margin), top + len(rows) * (height + margin))
    grid = Image.new("RGB", size, background)
    pen = ImageDraw.Draw(grid)
    for column, text in enumerate(titles):
        pen.text((left + column * (width + margin), margin / 2), text, "black", font)
    for row, text in enumerate(labels):
        middle = top + row * (height + margin) + height / 2
        pen.text((margin, middle), text, "black", font, anchor="lm")
    for row, cells in enumerate(rows):
        for column, image in enumerate(cells):
            if image is not None:
                place = (left + column * (width + margin), top + row * (height + margin))
                grid.paste(image.resize((width, height), Image.Resampling.NEAREST), place)
    return grid
