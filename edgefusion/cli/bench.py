"""``edgefusion bench``: the paper's tables on our machine, and latency tables with baselines."""

from __future__ import annotations

from typing import Annotated

import typer

from edgefusion.cli import bench_suites
from edgefusion.cli.output import CsvOption, JsonOption, emit, progress
from edgefusion.cli.paper_tables import table6, table7
from edgefusion.cli.paths import Reads

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="The paper's tables, and latency tables.\n\nExample: `edgefusion bench paper --json -`.",
)


@app.callback()
def bench() -> None:
    """The paper's tables on our machine, and latency tables that are checked against baselines.

    Examples: `edgefusion bench paper`; `edgefusion bench run suite.toml`; `edgefusion bench check
    suite.toml --junit latency.xml`; `edgefusion bench update suite.toml --reason "wider tiles"`.
    """


@app.command()
def paper(
    target: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="Target to simulate."), Reads()
    ] = "exynos2400",
    sdm: Annotated[
        bool, typer.Option(help="Include the SDM v1.5 rows (exports 860 M more parameters).")
    ] = True,
    json_to: JsonOption = None,
    csv_to: CsvOption = None,
) -> None:
    """Compile BK-SDM-Tiny and SD v1.5 at full size and show Tables 6 and 7 beside ours.

    Each figure has its error: percentage points in Table 6, percent in Table 7. The machine is
    fitted to Table 6 and to the EdgeFusion U-Net without MLT; the JSON says which figures were
    fitted, which are predictions, and which the paper leaves unexplained.

    Examples: `edgefusion bench paper`; `edgefusion bench paper --no-sdm --json paper.json`.
    """
    from edgefusion.runtime.target import load_target
    from edgefusion.toolchain.paper.tables import run_paper

    machine = load_target(target).machine
    with progress() as say:
        document = run_paper(machine, with_sdm=sdm, progress=say).to_json()
    tables = [table6(document), table7(document)]
    emit(tables, lambda: document, json_to=json_to, csv_to=csv_to)


app.command(name="run")(bench_suites.run)
app.command(name="check")(bench_suites.check)
app.command(name="update")(bench_suites.update)
