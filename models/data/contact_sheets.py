"""Pages of small numbered images with their captions, and the table that a curator fills in."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from textwrap import wrap

from PIL import Image, ImageDraw, ImageFont

from edgefusion.models.data.curate import COLUMNS
from edgefusion.models.data.images import encoded
from edgefusion.models.data.journal import Record
from edgefusion.models.data.reading import read_image
from edgefusion.models.data.sample import Dataset, Sample
from edgefusion.models.data.stage import Result, Stage

TABLE = "keep.csv"
_MARGIN, _LINE, _LINES, _FONT = 6, 13, 3, 11
_CHARACTER = 6  # about the width of one at that font size


def contact_sheets(
    stage: Stage, dataset: Dataset, *, columns: int = 6, rows: int = 5, pixels: int = 192
) -> Result:
    """The stage's body: ``sheets/sheet-0001.png`` and so on, and ``keep.csv`` with a line for each
    sample. Unreadable ones have a line but no image."""

    def work(first: int, samples: Sequence[Sample]) -> list[Record]:
        page = first // (columns * rows) + 1
        name = f"sheets/sheet-{page:04d}.png"
        stage.write(name, encoded(_page(first, samples, columns, pixels), "png"))
        return [{"sheet": name, "key": s.key, "text": s.caption} for s in samples]

    records = stage.mapped("sheets", dataset, work, chunk=columns * rows)
    stage.write(TABLE, _table(records))
    return Result(records, (), listing="samples.jsonl")


def _page(first: int, samples: Sequence[Sample], columns: int, pixels: int) -> Image.Image:
    cell = (pixels + _MARGIN, pixels + _LINE * _LINES + 2 * _MARGIN)
    rows = -(-len(samples) // columns)
    page = Image.new("RGB", (cell[0] * columns + _MARGIN, cell[1] * rows + _MARGIN), "white")
    pen = ImageDraw.Draw(page)
    font = ImageFont.load_default(_FONT)
    for place, sample in enumerate(samples):
        left = _MARGIN + cell[0] * (place % columns)
        top = _MARGIN + cell[1] * (place // columns)
        image = read_image(sample)
        if isinstance(image, str):
            pen.text((left, top), image, "red", font)
        else:
            image.thumbnail((pixels, pixels))
            page.paste(image, (left, top))
        text = wrap(f"{first + place + 1}: {sample.caption}", max(pixels // _CHARACTER, 8))
        for number, line in enumerate(text[:_LINES]):
            pen.text((left, top + pixels + _LINE * number), line, "black", font)
    return page


def _table(records: Sequence[Record]) -> bytes:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((n, r["key"], "", r["text"]) for n, r in enumerate(records, 1))
    return sink.getvalue().encode()
