"""``edgefusion diff``: what moved between two bundles, and what it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgefusion.cli.output import CsvOption, JsonOption, emit, progress, write_text
from edgefusion.cli.paths import Reads, Writes, is_stdout
from edgefusion.cli.table import Column, Table
from edgefusion.runtime.file_kinds import Kind
from edgefusion.toolchain.reporting.number_forms import (
    megabytes,
    milliseconds,
    signed_megabytes,
    signed_milliseconds,
    signed_percent,
    whole,
)

if TYPE_CHECKING:
    from edgefusion.toolchain.reporting.comparison.compare import Comparison

app = typer.Typer(add_completion=False)


def _argument(name: str, text: str) -> Any:
    return typer.Argument(metavar=name, help=text, show_default=False)


@app.command()
def diff(
    before: Annotated[Path, _argument("BEFORE", "A .npub file."), Reads()],
    after: Annotated[Path, _argument("AFTER", "The .npub file to compare with it."), Reads()],
    force: Annotated[
        bool, typer.Option("--force", help="Compare bundles for different machines, too.")
    ] = False,
    top: Annotated[int, typer.Option(min=0, help="How many ops to show.")] = 10,
    json_to: JsonOption = None,
    csv_to: CsvOption = None,
    markdown_to: Annotated[
        str | None,
        typer.Option("--markdown", metavar="FILE", help="For a pull request; - is stdout."),
        Writes(Kind.MARKDOWN, stdout=True),
    ] = None,
) -> None:
    """Tell what moved between two bundles, by component, op, engine and cause, and why.

    Examples: `edgefusion diff old.npub new.npub`; `edgefusion diff mlt.npub pipelined.npub
    --markdown - | gh pr comment -F -`; `edgefusion diff phone.npub tablet.npub --force --json -`.

    Both are timed by this tool; figures are of an image. Ops are matched by component, module,
    kind and origin. Differences are attributed in this order, and add up: steps, the target's
    parameters, then by op the graph, precision, schedule, overlap (the op is the same, what runs
    beside it is not), and for other instructions the target, cost model, tool, or tiles. MB are
    10^6 bytes. Differences are no error: the exit code is 0.
    """
    from edgefusion.api import open_bundle
    from edgefusion.toolchain.profiling.profile import profile_bundle
    from edgefusion.toolchain.reporting.comparison.compare import compare
    from edgefusion.toolchain.reporting.comparison.document import diff_document
    from edgefusion.toolchain.reporting.comparison.markdown import markdown

    profiles = []
    with progress() as say:
        for path in (before, after):
            say(f"checking {path}")
            profiles.append(profile_bundle(open_bundle(path), progress=say))
        say("comparing")
        comparison = compare(*profiles, force=force)
        document = diff_document(comparison)
    if markdown_to:
        write_text(markdown_to, markdown(comparison), Kind.MARKDOWN)
    taken = is_stdout(markdown_to)
    emit(
        [Table("", _OPS_CSV, document["ops"])],
        lambda: document,
        json_to=json_to,
        csv_to=csv_to,
        lines=[] if taken else _lines(comparison),
        shown=[] if taken else list(_tables(document, top)),
    )


def _lines(comparison: Comparison) -> list[str]:
    from edgefusion.toolchain.reporting.comparison.document import headline, sentences

    title = f"{comparison.a.label} → {comparison.b.label}"
    if comparison.same_figures:
        return [title, *sentences(comparison)]
    changes = [f"{c.what}: {c.before} → {c.after}" for c in comparison.changes]
    return [title, headline(comparison), *changes]


_LATENCY = (
    Column("latency_before_ms", "ms", milliseconds),
    Column("latency_after_ms", "→ ms", milliseconds),
    Column("latency_change_ms", "± ms", signed_milliseconds),
    Column("latency_change_percent", "± %", signed_percent),
)
_BYTES = (
    Column("dram_before_bytes", "MB", megabytes),
    Column("dram_after_bytes", "→ MB", megabytes),
    Column("dram_change_bytes", "± MB", signed_megabytes),
    Column("dram_change_percent", "± %", signed_percent),
)
_ATTRIBUTION = (
    Column("title", "comes from"),
    Column("ops", "ops", whole),
    Column("latency_change_ms", "± ms", signed_milliseconds),
    Column("share_percent", "% of before", signed_percent),
    Column("dram_change_bytes", "± MB", signed_megabytes),
)
_BUSY = tuple(replace(each, key=each.key.replace("latency", "busy")) for each in _LATENCY)
_WHY = (Column("reason", "why"), Column("what", "what differs"))
_TOLD = (Column("before", "before", detail=True), Column("after", "after", detail=True))
_OPS = (
    Column("path", "op", path=True, keep=True),
    Column("attributed_ms", "± ms", signed_milliseconds),
    Column("dram_change_bytes", "± MB", signed_megabytes),
    *_WHY,
    *(replace(each, detail=True) for each in _LATENCY[:2]),
    *_TOLD,
)
_OPS_CSV = (
    *(Column(key, key) for key in ("component", "module", "kind", "name_before", "name_after")),
    *_WHY,
    *_TOLD,
    *_LATENCY,
    *_BYTES,
    *(Column(key, key) for key in ("attributed_ps", "attributed_ms", "attributed_bytes")),
)


def _tables(document: dict[str, Any], top: int) -> Iterator[Table]:
    """What moved; nothing where nothing did."""
    if not document["attribution"]:
        return
    yield Table("What it comes from", _ATTRIBUTION, document["attribution"])
    components = [{"name": name, **row} for name, row in document["components"].items()]
    name = Column("name", "component")
    yield Table("Latency of all evaluations", (name, *_LATENCY), components)
    yield Table("DRAM traffic of all evaluations", (name, *_BYTES), components)
    engines = [{"name": name, **row} for name, row in document["engines"].items()]
    yield Table("Busy time by engine", (Column("name", "engine"), *_BUSY), engines)
    causes = [
        {"name": name, **row}
        for name, row in document["causes"].items()
        if row["dram_before_bytes"] or row["dram_after_bytes"]
    ]
    yield Table("DRAM traffic by cause", (Column("name", "cause"), *_BYTES), causes)
    ops = document["ops"]
    if top and ops:
        title = f"{min(top, len(ops))} of {len(ops)} ops that differ, of {document['op_count']}"
        note = "± ms is what is left to the op after steps and target."
        yield Table(title, _OPS, ops[:top], note)
