"""``edgefusion explore``: search over machines, schedules, steps and models; it resumes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgefusion.cli.output import CsvOption, JsonOption, emit, progress, write_json, write_text
from edgefusion.cli.paths import Reads, WritesIn
from edgefusion.cli.table import Column, Table, plain
from edgefusion.runtime.errors import UsageError
from edgefusion.runtime.file_kinds import Kind
from edgefusion.runtime.settings import setting_text, short_name
from edgefusion.toolchain.reporting.number_forms import decibels, megabytes, milliseconds, whole

if TYPE_CHECKING:
    from edgefusion.runtime.progress import Say
    from edgefusion.toolchain.exploring.workers import Workers

app = typer.Typer(add_completion=False)
_NEEDED = ("optuna", "dask", "distributed", "sqlalchemy")
_FIGURES = (
    Column("latency_ms", "latency ms", milliseconds),
    Column("sram_bytes", "SRAM bytes", whole),
    Column("sram_used_bytes", "SRAM used", whole, detail=True),
    Column("dram_bytes", "DRAM MB", megabytes),
    Column("bound_ms", "bound ms", milliseconds, detail=True),
    Column("sqnr_db", "SQNR dB", decibels),
)


@app.command()
def explore(
    suite: Annotated[
        Path,
        typer.Argument(
            metavar="SUITE.toml", help="What to vary, and what for.", show_default=False
        ),
        Reads(),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            metavar="DIR",
            help="Write explore.json, trials.csv, pareto.html and, unless --storage names another "
            "place, study.db there.",
        ),
        WritesIn(
            {
                "explore.json": Kind.JSON,
                "trials.csv": Kind.CSV,
                "pareto.html": Kind.HTML,
                "study.db": Kind.BINARY,
            }
        ),
    ],
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="How many in all, in place of the suite's; more, and it goes on."),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes on this machine; 0: one thread of this process.")
    ] = 2,
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="A Dask scheduler in place of processes here, as in tcp://10.0.0.1:8786; its "
            "workers need edgefusion, and the bundles under the same paths.",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="A database for the study, as in postgresql://user@host/studies."
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=0, help="How many trials to show.")] = 15,
    json_to: JsonOption = None,
    csv_to: CsvOption = None,
) -> None:
    """Search for the machine, schedule, steps and model that suit best, and draw what trades off.

    Examples: `edgefusion explore suite.toml -o explored`; `edgefusion explore suite.toml -o
    explored --trials 200 --workers 8`; `edgefusion explore suite.toml -o explored --scheduler
    tcp://10.0.0.1:8786 --storage postgresql://user@host/studies`.

    The suite, a TOML file: parameters with ranges or choices, objectives (latency_ms, sram_bytes,
    sram_used_bytes, dram_bytes, sqnr_db), a sampler (grid, random, tpe, nsga2); docs/what_if.md
    explains it, examples/explore/suite.toml is one. Repeat the command to go on after whatever
    interrupted it: finished trials are kept, none is done twice.
    """
    _require_extra()
    from edgefusion.runtime.files import alone_in
    from edgefusion.toolchain.exploring.pareto_plot import pareto_figure
    from edgefusion.toolchain.exploring.plots import html
    from edgefusion.toolchain.exploring.study import findings, open_study, search
    from edgefusion.toolchain.exploring.suite import load_suite

    output.mkdir(parents=True, exist_ok=True)
    with progress() as say, alone_in(output):
        loaded = load_suite(suite, output / "models", trials=trials, progress=say)
        study = open_study(loaded, storage or f"sqlite:///{(output / 'study.db').absolute()}")
        before = findings(loaded, study)
        if len(before.trials) < loaded.trials:
            if before.trials:
                say(f"going on after {len(before.trials)} of {loaded.trials} trials")
            with _workers(workers, scheduler, say) as pool:
                search(loaded, study, pool, progress=say)
        found = findings(loaded, study)
        document = found.to_json()
        table = trials_table(document, len(document["trials"]))
        title = f"{found.suite}: {len(found.trials)} trials"
        write_json(str(output / "explore.json"), document)
        write_text(str(output / "trials.csv"), table.csv(), Kind.CSV)
        write_text(str(output / "pareto.html"), html(pareto_figure(found), title), Kind.HTML)
    emit(
        [table],
        lambda: document,
        json_to=json_to,
        csv_to=csv_to,
        shown=[trials_table(document, top)],
    )


def _require_extra() -> None:
    """Raises UsageError where the libraries of the extra ``explore`` are not installed."""
    from importlib.util import find_spec

    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise UsageError(
            f"this command needs {', '.join(missing)}, of the extra `explore`: "
            "pip install 'edgefusion[explore]'."
        )


def _workers(count: int, scheduler: str | None, say: Say) -> AbstractContextManager[Workers]:
    from edgefusion.toolchain.exploring.workers import cluster_workers, local_workers

    if scheduler:
        return cluster_workers(scheduler, say)
    say(f"starting {count} workers")
    return local_workers(count)


def trials_table(document: dict[str, Any], count: int) -> Table:
    """The ``count`` best trials of ``Findings.to_json``: the front first, by first objective."""
    objectives = document["objectives"]
    first = objectives[0]
    sign = -1 if first == "sqnr_db" else 1
    rows = [_row(trial) for trial in document["trials"]]
    rows.sort(
        key=lambda row: (not row["on_front"], sign * row[first] if row["fits"] else float("inf"))
    )
    names = dict.fromkeys(name for trial in document["trials"] for name in trial["values"])
    varied = {
        name
        for name in names
        if len({str(trial["values"][name]) for trial in document["trials"]}) > 1
    }
    columns = (
        Column("index", "trial", whole),
        Column("on_front", "front", lambda on: "*" if on else ""),
        *(c for c in _FIGURES if c.key != "sqnr_db" or any(row["sqnr_db"] for row in rows)),
        *(Column(n, short_name(n), _setting(n), detail=n not in varied) for n in names),
        *([Column("problem", "why not", keep=True)] if any(row["problem"] for row in rows) else []),
    )
    note = (
        f"{len(document['pareto_front'])} of {len(rows)} trials are on the front (*): no other one "
        f"is as good in {', '.join(objectives)} and better in one of them."
        if len(objectives) > 1
        else f"*: the best {objectives[0]} of {len(rows)} trials."
    )
    hidden = len(rows) - min(count, len(rows))
    note += f" {hidden} more are in trials.csv." if hidden else ""
    return Table(f"{document['suite']}: explored", columns, rows[:count], note)


def _row(trial: dict[str, Any]) -> dict[str, Any]:
    empty = dict.fromkeys(column.key for column in _FIGURES)
    return {**empty, **trial, **trial["values"], **(trial["figures"] or {})}


def _setting(name: str) -> Any:
    return lambda value: plain(value) if isinstance(value, str) else setting_text(name, value)
