"""L-pp to L-pps: new captions for the cropped images (EdgeFusion, section 2.2).

It comes after cropping, so that captions tell what the crop shows.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgefusion.models.data.captions import captions_cut
from edgefusion.models.data.imagefolder import as_caption
from edgefusion.models.data.journal import Record
from edgefusion.models.data.plug_in_types import Captioner
from edgefusion.models.data.reading import hand_on, read_image
from edgefusion.models.data.sample import Dataset, Sample
from edgefusion.models.data.stage import Result, Stage, split
from edgefusion.models.plug_ins import listed
from edgefusion.models.tokenization import Tokenizer
from edgefusion.runtime.errors import InputError

NO_CAPTION = "no caption made"


def recaption(
    stage: Stage,
    dataset: Dataset,
    captioner: Captioner,
    *,
    batch: int,
    tokenizer: Tokenizer | None = None,
) -> Result:
    """The stage's body; ``batch`` images are captioned at once. The old caption stays in the column
    ``source_text``. Raises InputError for a captioner that gives other than one text an image."""

    def work(first: int, samples: Sequence[Sample]) -> list[Record]:
        images = [read_image(sample) for sample in samples]
        readable = [image for image in images if not isinstance(image, str)]
        made = listed("captioner", captioner(readable)) if readable else []
        if len(made) != len(readable) or not all(isinstance(text, str) for text in made):
            raise InputError(
                f"the captioner gave {len(made)} captions for {len(readable)} images; expected one "
                "text each."
            )
        captions = iter(made)
        records = []
        for index, (sample, image) in enumerate(zip(samples, images, strict=True), first):
            caption = "" if isinstance(image, str) else as_caption(next(captions))
            if isinstance(image, str) or not caption:
                reason = image if isinstance(image, str) else NO_CAPTION
                records.append({"key": sample.key, "reason": reason})
                continue
            records.append(
                {
                    "file_name": hand_on(stage, index, sample),
                    "text": caption,
                    "source_key": sample.key,
                    "source_text": sample.caption,
                }
            )
        return records

    rows, dropped = split(stage.mapped("caption", dataset, work, chunk=batch))
    return Result(rows, dropped, captions_cut((row["text"] for row in rows), tokenizer))
