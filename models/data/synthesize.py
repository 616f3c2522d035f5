"""synt: prompts from a language model or a file, images from a large diffusion model
(EdgeFusion, section 2.2: GPT-4 and SDXL)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from edgefusion.models.data.captions import captions_cut
from edgefusion.models.data.imagefolder import as_caption
from edgefusion.models.data.images import FORMATS, encoded, file_name
from edgefusion.models.data.journal import Record
from edgefusion.models.data.plug_in_types import Generator, PromptProvider
from edgefusion.models.data.stage import Result, Stage, split
from edgefusion.models.plug_ins import listed
from edgefusion.models.tokenization import Tokenizer
from edgefusion.runtime.errors import InputError

REPEATED, EMPTY, BLANK = "repeated prompt", "empty prompt", "image of one colour"


@dataclass(frozen=True, slots=True)
class SynthesisSettings:
    """``count`` prompts are asked for, ``request`` at once; ``batch`` images are drawn at once, of
    prompt number i from seed ``seed`` + i. ``prompts`` and ``generator`` name the plug-ins."""

    count: int
    seed: int = 0
    request: int = 32
    batch: int = 1
    form: str = "png"
    prompts: str = ""
    generator: str = ""

    def to_json(self) -> dict[str, Any]:
        """As the report holds it."""
        return asdict(self)


def synthesize(
    stage: Stage,
    settings: SynthesisSettings,
    prompts: PromptProvider,
    generator: Generator,
    *,
    tokenizer: Tokenizer | None = None,
) -> Result:
    """The stage's body. Fewer prompts than asked for are enough; none is an InputError."""

    # 1. Prompts, which no later run asks for again
    def ask(_first: int, starts: Sequence[int]) -> list[Record]:
        return [_asked(prompts, start, settings) for start in starts]

    starts = range(0, settings.count, settings.request)
    answers = stage.mapped("prompts", starts, ask, chunk=1)
    asked = [as_caption(prompt) for answer in answers for prompt in answer["prompts"]]
    if not asked:
        raise InputError(f"{settings.prompts or 'the prompt provider'} gave no prompt at all.")
    wanted, dropped = _different(asked)

    # 2. Images
    def draw(_first: int, part: Sequence[tuple[int, str]]) -> list[Record]:
        seeds = [settings.seed + index for index, _ in part]
        images = listed("generator", generator([prompt for _, prompt in part], seeds))
        if len(images) != len(part) or not all(isinstance(each, Image.Image) for each in images):
            kinds = ", ".join(sorted({type(each).__name__ for each in images}))
            raise InputError(
                f"the generator gave {len(images)} ({kinds}) for {len(part)} prompts; expected an "
                "image each."
            )
        records: list[Record] = []
        for (index, prompt), seed, image in zip(part, seeds, images, strict=True):
            if _is_blank(image):
                records.append({"key": str(index), "reason": BLANK, "text": prompt})
                continue
            name = file_name(index, FORMATS[settings.form])
            stage.write(name, encoded(image.convert("RGB"), settings.form))
            records.append({"file_name": name, "text": prompt, "seed": seed})
        return records

    rows, blank = split(stage.mapped("draw", wanted, draw, chunk=settings.batch))
    return Result(
        rows,
        [*dropped, *blank],
        captions_cut((row["text"] for row in rows), tokenizer),
        {"prompts_asked_for": settings.count},
    )


def _asked(prompts: PromptProvider, start: int, settings: SynthesisSettings) -> Record:
    count = min(settings.request, settings.count - start)
    asked = listed("prompt provider", prompts(start, count))[:count]
    for each in asked:
        if not isinstance(each, str):
            raise InputError(f"the prompt provider gave {each!r}; expected texts.")
    return {"prompts": asked}


def _is_blank(image: Image.Image) -> bool:
    return not np.ptp(np.asarray(image.convert("RGB")), axis=(0, 1)).any()


def _different(asked: Sequence[str]) -> tuple[list[tuple[int, str]], list[Record]]:
    """The prompts with their numbers, and those dropped: empty, or told before in other case."""
    seen: set[str] = set()
    wanted, dropped = [], []
    for index, prompt in enumerate(asked):
        folded = prompt.casefold()
        if not prompt or folded in seen:
            reason = REPEATED if prompt else EMPTY
            dropped.append({"key": str(index), "reason": reason, "text": prompt})
            continue
        seen.add(folded)
        wanted.append((index, prompt))
    return wanted, dropped
