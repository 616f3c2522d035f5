"""``edgefusion calibrate``: fit the machine's unpublished parameters to the paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgefusion.cli.output import JsonOption, emit, progress
from edgefusion.cli.paths import Reads, Writes
from edgefusion.cli.table import Column, Table, plain
from edgefusion.runtime.claims import Output, claim_outputs
from edgefusion.runtime.file_kinds import Kind
from edgefusion.toolchain.reporting.number_forms import percent, quantity, signed_percent

if TYPE_CHECKING:
    from edgefusion.runtime.machine import Machine
    from edgefusion.runtime.program import Program
    from edgefusion.toolchain.paper.machine_calibration import Calibration

app = typer.Typer(add_completion=False)

_PARAMETERS = (
    Column("name", "parameter"),
    Column("start", "start", quantity),
    Column("value", "fitted", quantity),
    Column("low", "lower limit", quantity),
    Column("high", "upper limit", quantity),
    Column("prior", "prior", quantity),
    Column("prior_deviation", "+-", quantity),
    Column("at_limit", "at limit"),
    Column("reason", "why these limits", plain, detail=True),
)
_RESIDUALS = (
    Column("name", "fitted to"),
    Column("unit", "unit"),
    Column("paper", "paper", percent),
    Column("ours", "ours", percent),
    Column("error", "error", signed_percent),
)


@app.command()
def calibrate(
    target: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="Target to start from."), Reads()
    ] = "exynos2400",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Write the fitted target file."),
        Writes(Kind.TOML),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of compiling and fitting.")] = 2,
    json_to: JsonOption = None,
) -> None:
    """Fit DMA bandwidth and set-up, tensor feed and drain, softmax cost and synchronisation.

    Fitted to every row of Table 6 and the EdgeFusion U-Net without MLT, within physical limits;
    the rest of Table 7 is held out (`edgefusion bench paper` shows it).

    Examples: `edgefusion calibrate`; `edgefusion calibrate -o fitted.toml`, then
    `edgefusion bench paper --target fitted.toml`.
    """
    from edgefusion.runtime.target import load_target, target_path
    from edgefusion.toolchain.paper.machine_calibration import calibrate as fit
    from edgefusion.toolchain.paper.machine_calibration import write_target
    from edgefusion.toolchain.paper.programs import Programs

    machine = load_target(target).machine
    if output:  # the target may be one that comes with the tool
        claim_outputs([Output(output, Kind.TOML)], [target_path(target)])
    with progress() as say:
        programs = Programs(machine, progress=say)

        def compile_unet(machine: Machine, schedule: str) -> Program:
            return programs.for_machine(machine).program("bk-sdm-tiny", "unet", schedule)

        found = fit(machine, compile_unet, rounds=rounds, progress=say)
    if output:
        write_target(target_path(target), found, output)
    document = _document(found)
    tables = [
        Table("Parameters", _PARAMETERS, document["parameters"]),
        Table("Residuals of what was fitted to", _RESIDUALS, document["residuals"]),
    ]
    emit(tables, lambda: document, json_to=json_to)


def _document(found: Calibration) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "target": found.machine.name,
        "evaluations": found.evaluations,
        "parameters": [
            {
                "name": f.parameter.name,
                "start": f.start,
                "value": f.value,
                "low": f.parameter.low,
                "high": f.parameter.high,
                "prior": f.parameter.prior,
                "prior_deviation": f.parameter.prior_deviation,
                "at_limit": f.at_limit,
                "reason": f.parameter.reason,
            }
            for f in found.parameters
        ],
        "residuals": [
            {
                "name": r.name,
                "unit": r.unit,
                "paper": r.paper,
                "ours": r.ours,
                "error": r.ours - r.paper,
            }
            for r in found.residuals
        ],
    }
