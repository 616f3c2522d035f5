"""``edgefusion bench run``, ``check`` and ``update``: a suite's latency table and its baselines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgefusion.cli.output import CsvOption, JsonOption, emit, progress, write_text
from edgefusion.cli.paths import Reads, Writes, WritesIn, is_stdout
from edgefusion.cli.table import Column, Table, plain
from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.file_kinds import Kind
from edgefusion.toolchain.reporting.number_forms import megabytes, milliseconds, signed_percent

if TYPE_CHECKING:
    from edgefusion.runtime.progress import Say
    from edgefusion.toolchain.suites.bundles import Bundles
    from edgefusion.toolchain.suites.running import SuiteResult
    from edgefusion.toolchain.suites.suite import Suite

SuiteArgument = Annotated[
    Path,
    typer.Argument(
        metavar="SUITE.toml", help="What is timed; docs/latency_tables.md.", show_default=False
    ),
    Reads(),
]
CaseOption = Annotated[
    str | None,
    typer.Option("--case", metavar="GLOB", help="Only cases of such names, as in 'tiny/*'."),
]
BundleOption = Annotated[
    list[str] | None,
    typer.Option(
        "--bundle",
        metavar="ENTRY=FILE",
        help="A bundle to take for an entry in place of its own; may be repeated.",
    ),
    Reads(),
]
WorkDirOption = Annotated[
    Path | None,
    typer.Option(
        "--work-dir",
        metavar="DIR",
        help="Where bundles of sources are kept and found again; $EDGEFUSION_CACHE, or "
        "~/.cache/edgefusion, when left out.",
    ),
    WritesIn(),
]
MarkdownOption = Annotated[
    str | None,
    typer.Option("--markdown", metavar="FILE", help="Write it for a pull request; - is stdout."),
    Writes(Kind.MARKDOWN, stdout=True),
]


_LATENCY = Column("latency_ms", "latency ms", milliseconds)
_TRAFFIC = Column("dram_bytes", "DRAM MB", megabytes, detail=True)
_TIMED = (
    Column("case", "case"),
    _LATENCY,
    Column("bound_ms", "bound ms", milliseconds),
    _TRAFFIC,
    Column("target", "target", plain, detail=True),
    Column("schedule", "schedule", plain, detail=True),
    Column("steps", "steps", plain, detail=True),
)
_CHECKED = (
    Column("status", "status"),
    Column("case", "case"),
    _LATENCY,
    Column("baseline_latency_ms", "baseline ms", milliseconds),
    Column("change_percent", "change %", signed_percent),
    _TRAFFIC,
    Column("baseline_dram_bytes", "baseline MB", megabytes, detail=True),
)


def run(
    suite: SuiteArgument,
    case: CaseOption = None,
    bundle: BundleOption = None,
    work_dir: WorkDirOption = None,
    json_to: JsonOption = None,
    csv_to: CsvOption = None,
) -> None:
    """Time all cases of a suite and show the table; baselines are not looked at.

    Examples: `edgefusion bench run examples/ci/suite.toml`; `edgefusion bench run suite.toml
    --case 'tiny/*' --csv table.csv`.

    Latency is of an image: all evaluations of all components. Sources are compiled without values
    (latency only) and kept, so that the next run takes seconds.
    """
    from edgefusion.toolchain.suites.running import chosen_cases, time_cases
    from edgefusion.toolchain.suites.suite import load_suite

    with progress() as say:
        loaded = load_suite(suite)
        bundles = _bundles(loaded, bundle, work_dir, say)
        result = time_cases(loaded, chosen_cases(loaded, case), bundles, say)
    _show(result, _TIMED, "Latency of", json_to, csv_to, None, None, allow_new=False)


def check(
    suite: SuiteArgument,
    case: CaseOption = None,
    bundle: BundleOption = None,
    work_dir: WorkDirOption = None,
    allow_new: Annotated[
        bool, typer.Option("--allow-new", help="Cases without a baseline do not fail.")
    ] = False,
    json_to: JsonOption = None,
    csv_to: CsvOption = None,
    markdown: MarkdownOption = None,
    junit: Annotated[
        str | None,
        typer.Option("--junit", metavar="FILE", help="Write JUnit XML, a test a case."),
        Writes(Kind.XML, stdout=True),
    ] = None,
) -> None:
    """Compare all cases of a suite with their baselines, and explain what moved.

    Examples: `edgefusion bench check examples/ci/suite.toml`; `edgefusion bench check suite.toml
    --junit latency.xml --markdown latency.md`; `edgefusion bench check suite.toml --bundle
    tiny=build/tiny.npub`.

    A case is OK, CHANGED (a figure lies beyond its tolerance, which is zero when nothing is said),
    NEW (no baseline), MISSING (a baseline, but no case any more) or ERROR (it could not be timed).
    Exit code 7 if any but OK; if a case could not be timed, that error's own code.
    """
    from edgefusion.toolchain.suites.running import check_suite
    from edgefusion.toolchain.suites.suite import load_suite

    with progress() as say:
        loaded = load_suite(suite)
        bundles = _bundles(loaded, bundle, work_dir, say)
        result = check_suite(loaded, bundles, pattern=case, progress=say)
    _show(result, _CHECKED, "Check of", json_to, csv_to, markdown, junit, allow_new=allow_new)


def update(
    suite: SuiteArgument,
    reason: Annotated[
        str,
        typer.Option("--reason", metavar="TEXT", help="Why the figures moved; kept with them."),
    ],
    case: CaseOption = None,
    bundle: BundleOption = None,
    work_dir: WorkDirOption = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove baselines whose cases are gone.")
    ] = False,
    json_to: JsonOption = None,
    csv_to: CsvOption = None,
    markdown: MarkdownOption = None,
) -> None:
    """Write the baselines anew of those cases whose figures moved, and say what moved.

    Examples: `edgefusion bench update suite.toml --reason "first baselines"`; `edgefusion bench
    update suite.toml --case 'tiny/*' --reason "softmax takes two passes"`.

    All baselines are written or, if a case cannot be timed, none. Commit them with the change that
    moved them: the reasons are kept, newest first.
    """
    from edgefusion.toolchain.suites.running import update_suite
    from edgefusion.toolchain.suites.suite import load_suite

    with progress() as say:
        loaded = load_suite(suite)
        bundles = _bundles(loaded, bundle, work_dir, say)
        result = update_suite(loaded, bundles, reason, pattern=case, prune=prune, progress=say)
    _show(result, _CHECKED, "Update of", json_to, csv_to, markdown, None, updated=True)


def _bundles(suite: Suite, given: list[str] | None, folder: Path | None, say: Say) -> Bundles:
    from edgefusion.toolchain.suites.bundles import Bundles

    chosen = {}
    for text in given or []:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise UsageError(f"--bundle {text}: expected ENTRY=FILE, as in tiny=build/tiny.npub.")
        chosen[name] = Path(path)
    return Bundles(suite, folder=folder, given=chosen, progress=say)


def _show(
    result: SuiteResult,
    columns: tuple[Column, ...],
    what: str,
    json_to: str | None,
    csv_to: str | None,
    markdown: str | None,
    junit: str | None,
    *,
    allow_new: bool = False,
    updated: bool = False,
) -> None:
    """Write what was asked for, print the rest, and end with the verdict."""
    from edgefusion.toolchain.suites.documents import (
        suite_document,
        suite_junit,
        suite_lines,
        suite_markdown,
    )

    document = suite_document(result)
    if markdown:
        write_text(markdown, suite_markdown(result), Kind.MARKDOWN)
    if junit:
        write_text(junit, suite_junit(result, allow_new=allow_new), Kind.XML)
    table = Table(
        f"{what} {result.suite.name}: {_told(result, updated)}", columns, document["cases"]
    )
    taken = is_stdout(markdown) or is_stdout(junit)
    emit(
        [table],
        lambda: document,
        json_to=json_to,
        csv_to=csv_to,
        lines=[] if taken else suite_lines(result),
        shown=[] if taken else None,
    )
    verdict = None if updated else result.verdict(allow_new=allow_new)
    if verdict is not None:
        raise verdict


def _told(result: SuiteResult, updated: bool) -> str:
    if not updated:
        return result.summary()
    from edgefusion.toolchain.suites.comparison import Status

    written = sum(case.figures is not None and case.moved for case in result.cases)
    text = f"{written} of {len(result.cases)} baselines written" if written else "nothing to write"
    gone = result.count(Status.MISSING)
    return f"{text}; {gone} of cases that are gone (--prune removes them)" if gone else text
