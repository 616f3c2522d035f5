"""``edgefusion report``: one page, or Markdown, that says all about one bundle or several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgefusion.cli.output import JsonOption, progress, show, write_json, write_text
from edgefusion.cli.paths import Reads, Writes, is_stdout
from edgefusion.cli.scenario_options import (
    LowerAgainOption,
    ScheduleOption,
    SetOption,
    StepsOption,
    TargetOption,
    WhatIf,
    opened,
)
from edgefusion.runtime.errors import InputError, UsageError
from edgefusion.runtime.file_kinds import Kind

if TYPE_CHECKING:
    from edgefusion.runtime.progress import Say

app = typer.Typer(add_completion=False)

SCHEMA_VERSION = 1


@app.command()
def report(
    bundles: Annotated[
        list[Path],
        typer.Argument(metavar="BUNDLE", help="One .npub file or several.", show_default=False),
        Reads(),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.html", help="Write the page, 6 to 9 MB."),
        Writes(Kind.HTML),
    ] = None,
    markdown: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write Markdown for a pull request; - is stdout."),
        Writes(Kind.MARKDOWN, stdout=True),
    ] = None,
    json_to: JsonOption = None,
    title: Annotated[str | None, typer.Option(help="The heading; the bundles' names.")] = None,
    settings: SetOption = None,
    target: TargetOption = None,
    schedule: ScheduleOption = None,
    steps: StepsOption = None,
    lower_again: LowerAgainOption = False,
    verification: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="What `verify --json` wrote of a bundle; repeatable."),
        Reads(),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option("--images", metavar="FILE", help="A picture to show; repeatable."),
        Reads(),
    ] = None,
    top: Annotated[
        int, typer.Option(min=1, help="Of how many costliest ops tilings are searched again.")
    ] = 8,
    what_if: Annotated[
        bool,
        typer.Option(
            "--what-if/--no-what-if",
            help="Time what more bandwidth, SRAM or engines would give: a few seconds for each "
            "bundle, half a minute for a full-size one.",
        ),
    ] = True,
) -> None:
    """Write all about a bundle as one HTML file that needs no network: latency, timeline, costliest
    ops, traffic, roofline, tilings, and what would help. Several bundles stand side by side.

    Examples: `edgefusion report tiny.npub -o report.html`; `edgefusion report mlt.npub serial.npub
    -o both.html`; `edgefusion report tiny.npub --markdown - --no-what-if`; `edgefusion report
    tiny.npub -o fast.html --set dma_bandwidth=2x`; `edgefusion verify tiny.npub --json v.json`,
    then `edgefusion report tiny.npub -o report.html --verification v.json --images fox.png`.

    The page, the Markdown and the JSON hold the numbers of `simulate` and `traffic`.
    """
    from edgefusion.toolchain.reporting.page.document import heading as page_heading
    from edgefusion.toolchain.reporting.page.markdown import markdown_report

    if output is None and markdown is None and json_to is None:
        raise UsageError("name what to write: -o report.html, --markdown FILE, or --json FILE.")
    asked = WhatIf(settings or (), target, schedule, steps, lower_again)
    verified = _verifications(verification or [], bundles)
    pictures = _pictures(images or [])
    with progress() as say:
        documents = [
            _document(path, label, asked, top, what_if, verified, say)
            for path, label in zip(bundles, _labels(bundles), strict=True)
        ]
        heading = title or page_heading(documents)
        if output is not None:
            from edgefusion.toolchain.reporting.page.html import html_report

            say(f"writing {output}")
            write_text(str(output), html_report(documents, heading, pictures), Kind.HTML)
    if markdown is not None:
        write_text(markdown, markdown_report(documents, heading), Kind.MARKDOWN)
    if json_to is not None:
        write_json(json_to, {"schema_version": SCHEMA_VERSION, "bundles": documents})
    if not is_stdout(markdown) and not is_stdout(json_to):
        lines = [f"{each['made_from']['bundle']}: {each['verdict']}" for each in documents]
        written = [str(each) for each in (output, markdown, json_to) if each is not None]
        show(lines=[*lines, f"written: {', '.join(written)}"])


def _document(
    path: Path,
    label: str,
    asked: WhatIf,
    top: int,
    what_if: bool,
    verified: dict[str, dict[str, Any]],
    say: Say,
) -> dict[str, Any]:
    from edgefusion.toolchain.reporting.page.document import bundle_document

    bundle, scenario = opened(path, asked, say)
    return bundle_document(
        bundle,
        scenario,
        label=label,
        top=top,
        with_what_ifs=what_if,
        verification=verified.get(path.name),
        progress=say,
    )


def _labels(paths: Sequence[Path]) -> list[str]:
    """File names; with their folders where two are the same."""
    names = [path.name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _verifications(files: Sequence[Path], bundles: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """By name of the bundle. Raises InputError for one of a bundle that is not reported."""
    from edgefusion.toolchain.reporting.page.verification import read_verification

    names = [path.name for path in bundles]
    found = {}
    for file in files:
        verification = read_verification(file)
        name = Path(verification["bundle"]).name
        if name not in names:
            raise InputError(
                f"{file} is the verification of {name}; this report is of {', '.join(names)}."
            )
        found[name] = verification
    return found


def _pictures(files: Sequence[Path]) -> list[tuple[str, str]]:
    from edgefusion.toolchain.reporting.page.html import image_uri

    return [(file.name, image_uri(file)) for file in files]
