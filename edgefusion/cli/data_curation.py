"""Commands of ``edgefusion data`` after the images are made: contact sheets, curation, packing."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefusion.cli.data_options import (
    ColumnOption,
    DatasetArgument,
    OutputOption,
    TokenizerOption,
    plug_in,
    require_extra,
    stage_command,
    tokenizer_in,
)
from edgefusion.cli.output import JsonOption
from edgefusion.cli.paths import Reads

if TYPE_CHECKING:
    from edgefusion.models.data.stage import Result, Stage


def sheet(
    dataset: DatasetArgument,
    output: OutputOption,
    columns: Annotated[int, typer.Option(min=1, help="Images in a row.")] = 6,
    rows: Annotated[int, typer.Option(min=1, help="Rows on a page.")] = 5,
    pixels: Annotated[int, typer.Option(min=16, help="Side of an image on the page.")] = 192,
    caption_column: ColumnOption = "text",
    json_to: JsonOption = None,
) -> None:
    """Contact sheets to look at, and keep.csv to fill in: keep (yes or no), text (corrected).

    Example: `edgefusion data sheet synt -o sheets`, then edit sheets/keep.csv.
    """
    require_extra()
    from edgefusion.models.data.contact_sheets import contact_sheets
    from edgefusion.models.data.dataset import open_dataset

    opened = open_dataset(dataset, caption_column)
    settings = {"columns": columns, "rows": rows, "pixels": pixels}

    def body(stage: Stage) -> Result:
        return contact_sheets(stage, opened, **settings)

    stage_command("sheet", output, str(dataset), opened.digest, settings, body, json_to)


def curate(
    dataset: DatasetArgument,
    output: OutputOption,
    decisions: Annotated[
        str,
        typer.Option(metavar="FILE|MODULE:NAME", help="keep.csv, filled in; or a callable."),
        Reads(),
    ],
    caption_column: ColumnOption = "text",
    tokenizer: TokenizerOption = None,
    json_to: JsonOption = None,
) -> None:
    """synt to synt-cur: keep what keep.csv keeps, with the captions in it.

    Example: `edgefusion data curate synt -o synt-cur --decisions sheets/keep.csv`.
    """
    require_extra()
    from edgefusion.models.data.curate import curate as run
    from edgefusion.models.data.curate import read_decisions
    from edgefusion.models.data.dataset import open_dataset

    opened = open_dataset(dataset, caption_column)
    curator = plug_in(decisions, lambda path: read_decisions(Path(path)))
    counter = tokenizer_in(tokenizer)
    file = Path(decisions)
    digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
    settings = {"decisions": decisions, "decisions_digest": digest}

    def body(stage: Stage) -> Result:
        return run(stage, opened, curator, tokenizer=counter)

    stage_command("synt-cur", output, str(dataset), opened.digest, settings, body, json_to)


def pack(
    datasets: Annotated[
        list[Path],
        typer.Argument(metavar="DATASET...", help="Datasets, one after the other."),
        Reads(),
    ],
    output: OutputOption,
    shard_samples: Annotated[int, typer.Option(min=1, help="Samples in a shard.")] = 1000,
    caption_column: ColumnOption = "text",
    json_to: JsonOption = None,
) -> None:
    """Datasets to webdataset shards, as training reads them: L-pps & synt.

    Example: `edgefusion data pack L-pps synt -o L-pps-synt`.
    """
    require_extra()
    from edgefusion.models.data.dataset import open_dataset
    from edgefusion.models.data.pack import pack as run

    opened = [open_dataset(path, caption_column) for path in datasets]
    digest = hashlib.sha256("".join(d.digest for d in opened).encode()).hexdigest()

    def body(stage: Stage) -> Result:
        return run(stage, opened, shard_samples=shard_samples)

    names = " & ".join(map(str, datasets))
    stage_command("shards", output, names, digest, {"shard_samples": shard_samples}, body, json_to)
