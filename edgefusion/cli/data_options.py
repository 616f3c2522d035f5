"""Options that the commands of ``edgefusion data`` share, and what their values name."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgefusion.cli.output import emit, progress
from edgefusion.cli.paths import Reads, WritesIn
from edgefusion.cli.table import Column, Table
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.toolchain.reporting.number_forms import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgefusion.models.data.plug_in_types import PromptProvider
    from edgefusion.models.data.report import Report
    from edgefusion.models.data.stage import Result, Stage
    from edgefusion.models.tokenization import Tokenizer

DatasetArgument = Annotated[
    Path,
    typer.Argument(
        metavar="DATASET",
        help="Folder of images with metadata.jsonl (or .txt files), or of .tar shards.",
        show_default=False,
    ),
    Reads(),
]
OutputOption = Annotated[
    Path, typer.Option("-o", "--output", metavar="DIR", help="Folder of the result."), WritesIn()
]
ColumnOption = Annotated[
    str, typer.Option("--caption-column", metavar="NAME", help="Column that holds the captions.")
]
TokenizerOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="A pipeline's tokenizer/, to count captions that are longer than CLIP's 77 tokens.",
    ),
    Reads(),
]
FormatOption = Annotated[
    str, typer.Option("--image-format", metavar="png|jpeg|webp", help="How images are written.")
]


def checked_format(form: str) -> str:
    """The image format; UsageError for one that no stage writes."""
    from edgefusion.models.data.images import FORMATS

    if form not in FORMATS:
        raise UsageError(f"--image-format {form}: expected one of {', '.join(FORMATS)}.")
    return form


def require_extra() -> None:
    """Raises UsageError where the libraries of the extra ``train`` are not installed."""
    from importlib.util import find_spec

    names = ("imagehash", "webdataset", "requests")
    if missing := [name for name in names if find_spec(name) is None]:
        raise UsageError(
            f"this command needs {', '.join(missing)}, of the extra `train`: "
            "pip install 'edgefusion[train]'."
        )


def tokenizer_in(folder: Path | None) -> Tokenizer | None:
    """The tokenizer in ``folder``, None for none."""
    from edgefusion.models.data.captions import open_tokenizer

    return None if folder is None else open_tokenizer(folder)


def plug_in(name: str, from_folder: Callable[[str], Any]) -> Any:
    """What ``name`` means: package.module:attribute, or a folder of weights for ``from_folder``."""
    from edgefusion.models.plug_ins import is_object_name, named_function

    return named_function(name) if is_object_name(name) else from_folder(name)


def prompt_provider(
    name: str, model: str, instruction: Path | None, key_variable: str, seed: int
) -> PromptProvider:
    """A server for http addresses, package.module:attribute, or a file of prompts."""
    from edgefusion.models.data.prompts import INSTRUCTION, ChatPrompts, prompts_from_file

    if not name.startswith(("http://", "https://")):
        found: PromptProvider = plug_in(name, lambda path: prompts_from_file(Path(path)))
        return found
    if not model:
        raise UsageError("--prompts names a server; expected the model to ask with --prompt-model.")
    try:
        text = instruction.read_text(encoding="utf-8") if instruction else INSTRUCTION
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--instruction {instruction} cannot be read: {error}.") from error
    return ChatPrompts(name, model, text, key_variable, seed=seed)


def prompts_digest(provider: PromptProvider) -> str:
    """What tells one source of prompts from another: all that a file holds, or how a server is
    asked; nothing is known of other callables."""
    from edgefusion.models.data.prompts import ChatPrompts, FilePrompts

    known = isinstance(provider, FilePrompts | ChatPrompts)
    return hashlib.sha256(repr(provider).encode()).hexdigest() if known else ""


def stage_command(
    kind: str,
    output: Path,
    source: str,
    digest: str,
    settings: Mapping[str, Any],
    body: Callable[[Stage], Result],
    json_to: str | None,
) -> None:
    """Run a stage and show what it did."""
    from edgefusion.models.data.stage import run_stage

    with progress() as say:
        report = run_stage(output, kind, source, digest, settings, body, say=say)
    show_report(report, output, json_to)


def show_report(report: Report, output: Path, json_to: str | None) -> None:
    """The counts, in and out by reason, and the same as JSON."""
    document = report.to_json()
    rows = [{"what": "in", "samples": report.samples_in}]
    rows += [{"what": f"  {reason}", "samples": -n} for reason, n in report.dropped.items()]
    rows.append({"what": "out", "samples": report.samples_out})
    if report.captions_cut is not None:
        rows.append({"what": "of these, captions CLIP cuts", "samples": report.captions_cut})
    columns = (Column("what", report.stage), Column("samples", "samples", whole))
    table = Table(f"{output}, from {report.source}", columns, rows)
    emit([table], lambda: document, json_to=json_to)
