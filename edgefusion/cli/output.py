"""Where commands write: tables and text to stdout, progress and errors to stderr, files whole.

``-`` stands for stdout, which then holds that one document and nothing else.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from edgefusion.cli.interruption import heed
from edgefusion.cli.paths import Writes, is_stdout
from edgefusion.cli.table import Table
from edgefusion.cli.wide import wide_wanted
from edgefusion.runtime.file_kinds import Kind
from edgefusion.runtime.progress import Say

_WIDTH_WITHOUT_TERMINAL = 10_000
"""Nothing wraps: whoever reads it is a program, a file, or a pager that scrolls."""
_LINE_EVERY_SECONDS = 2.0
_LAST_COUNT = re.compile(r"(.*)\b\d+ of (?:\d+|the\b).*")
"""The total may be unknown: "3 of the samples"."""
_WARNING = "warning: "

JsonOption = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE", help="Write the result as JSON; - is stdout."),
    Writes(Kind.JSON, stdout=True),
]
CsvOption = Annotated[
    str | None,
    typer.Option("--csv", metavar="FILE", help="Write all rows as CSV; - is stdout."),
    Writes(Kind.CSV, stdout=True),
]


def show(*tables: Table, lines: Sequence[str] = ()) -> None:
    """Print ``lines``, then the tables: as many columns as the terminal has room for, all of them
    with ``--wide``; where there is no terminal, values are whole."""
    out = Console(highlight=False)
    whole = not out.is_terminal
    if whole:
        out.width = _WIDTH_WITHOUT_TERMINAL
    for line in lines:
        out.print(Text(line), soft_wrap=True)
    for number, table in enumerate(tables):
        if number:
            out.print()
        table.show(out, whole=whole, wide=wide_wanted())


def write_text(target: str, text: str, kind: Kind) -> None:
    """Write ``text`` of ``kind`` to a file, which appears whole or not at all, or to stdout."""
    if is_stdout(target):
        sys.stdout.write(text)
        return
    from edgefusion.runtime.files import disk_errors, replacing

    with replacing((Path(target),), kind) as (partial,), disk_errors(Path(target)):
        partial.write_text(text, encoding="utf-8")


def write_json(target: str, value: Any) -> None:
    """Write ``value`` as JSON."""
    write_text(target, json.dumps(value, indent=1, allow_nan=False) + "\n", Kind.JSON)


def emit(
    tables: Sequence[Table],
    document: Callable[[], Any],
    *,
    json_to: str | None = None,
    csv_to: str | None = None,
    lines: Sequence[str] = (),
    shown: Sequence[Table] | None = None,
    quiet: bool = False,
    warnings: Sequence[str] = (),
) -> None:
    """What every reporting command ends with: files as asked, tables unless stdout is taken (by
    one of them, or, when ``quiet``, by another).

    CSV holds the first of ``tables``; the terminal shows ``shown`` where it is given. ``warnings``
    come last, on stderr.
    """
    if json_to:
        write_json(json_to, document())
    if csv_to:
        write_text(csv_to, tables[0].csv(), Kind.CSV)
    if not quiet and not is_stdout(json_to) and not is_stdout(csv_to):
        show(*(tables if shown is None else shown), lines=lines)
    sys.stdout.flush()
    for warning in warnings:
        sys.stderr.write(f"{_WARNING}{warning}\n")


@dataclass(slots=True)
class Progress:
    """Where long work says what it is doing; ``warnings`` are those among it, each once, for
    ``emit`` to repeat where they are not scrolled away. Where an end was asked for and a library
    dropped that, work ends here."""

    tell: Say
    warnings: list[str] = field(default_factory=list)

    def __call__(self, text: str) -> None:
        heed()
        warning = text.removeprefix(_WARNING)
        if warning != text and warning not in self.warnings:
            self.warnings.append(warning)
        self.tell(text)


@contextmanager
def progress() -> Iterator[Progress]:
    """A callback for lines of progress: a spinner on a terminal, elsewhere plain lines with the
    time since the start. Of lines that differ in their last count alone ("3 of 9"), one every two
    seconds. Warnings stay on the terminal."""
    err = Console(stderr=True, highlight=False)
    begin = time.perf_counter()
    if err.is_terminal:
        with err.status("starting") as status:

            def spin(text: str) -> None:
                if text.startswith(_WARNING):
                    err.print(Text(text))
                    return
                passed = time.perf_counter() - begin
                line = Text(f"{text} ({passed:.0f} s)", overflow="ellipsis", no_wrap=True)
                status.update(line)

            yield Progress(spin)
        return
    last, last_kind = 0.0, ""

    def line(text: str) -> None:
        nonlocal last, last_kind
        now = time.perf_counter() - begin
        kind = _LAST_COUNT.sub(r"\1", text)
        if kind != last_kind or now - last >= _LINE_EVERY_SECONDS:
            last, last_kind = now, kind
            sys.stderr.write(f"[{now:6.1f} s] {text}\n")
            sys.stderr.flush()

    yield Progress(line)
