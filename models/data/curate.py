"""synt to synt-cur: keep what a person kept, with the captions that the person corrected
(EdgeFusion, section 2.2)."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from edgefusion.models.data.captions import captions_cut
from edgefusion.models.data.imagefolder import as_caption
from edgefusion.models.data.journal import Record
from edgefusion.models.data.plug_in_types import Curator, Decision
from edgefusion.models.data.reading import hand_on, read_image
from edgefusion.models.data.sample import Dataset, Sample
from edgefusion.models.data.stage import Result, Stage, split
from edgefusion.models.tokenization import Tokenizer
from edgefusion.runtime.errors import InputError

REMOVED, UNDECIDED = "removed by the curator", "undecided"
COLUMNS = ("number", "key", "keep", "text")
"""Of the file that ``contact_sheets`` makes and a person fills in."""
_WORDS = {"": None, **dict.fromkeys(("yes", "y", "1", "true", "keep"), True)}
_WORDS |= dict.fromkeys(("no", "n", "0", "false", "drop"), False)


def curate(
    stage: Stage,
    dataset: Dataset,
    curator: Curator,
    *,
    tokenizer: Tokenizer | None = None,
) -> Result:
    """The stage's body. What nobody has decided is dropped, counted apart."""

    def work(first: int, samples: Sequence[Sample]) -> list[Record]:
        return [
            _curated(stage, index, sample, curator) for index, sample in enumerate(samples, first)
        ]

    rows, dropped = split(stage.mapped("curate", dataset, work, chunk=64))
    corrected = sum(row["text"] != row["source_text"] for row in rows)
    cut = captions_cut((row["text"] for row in rows), tokenizer)
    return Result(rows, dropped, cut, {"captions_corrected": corrected})


def _curated(stage: Stage, index: int, sample: Sample, curator: Curator) -> Record:
    image = read_image(sample)
    if isinstance(image, str):
        return {"key": sample.key, "reason": image}
    decision = curator(sample.key, image, sample.caption)
    if not isinstance(decision, Decision):
        raise InputError(
            f"the curator gave a {type(decision).__name__} for {sample.key}; expected a Decision."
        )
    if not decision.keep:
        return {"key": sample.key, "reason": UNDECIDED if decision.keep is None else REMOVED}
    return {
        "file_name": hand_on(stage, index, sample),
        "text": as_caption(decision.caption) or sample.caption,
        "source_key": sample.key,
        "source_text": sample.caption,
    }


@dataclass(frozen=True, slots=True)
class TableCurator:
    """The decisions of a person, by key. What the table does not hold is undecided."""

    decisions: Mapping[str, Decision]

    def __call__(self, key: str, image: Image.Image, caption: str) -> Decision:  # noqa: ARG002
        """See ``Curator``."""
        return self.decisions.get(key, Decision(None, caption))


def read_decisions(path: Path) -> TableCurator:
    """A CSV file with the columns key, keep (yes, no, or nothing) and text.

    Raises InputError for a missing column, another word under ``keep``, and a key that comes twice.
    """
    decisions: dict[str, Decision] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS[1:] if name not in (reader.fieldnames or ())]
        if missing:
            raise InputError(
                f"{path} has no column {', '.join(missing)}; expected the keep.csv that "
                "`edgefusion data sheet` writes, with the column keep filled in."
            )
        for line, row in enumerate(reader, 2):
            word = (row["keep"] or "").strip().lower()
            if word not in _WORDS:
                raise InputError(f"{path}, line {line}: keep is {word!r}; expected yes or no.")
            if row["key"] in decisions:
                raise InputError(f"{path}, line {line}: {row['key']} comes twice; remove one.")
            decisions[row["key"]] = Decision(_WORDS[word], row["text"] or "")
    return TableCurator(decisions)
