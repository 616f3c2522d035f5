"""``edgefusion demo``: the paper's model without and with model-level tiling, end to end, and the
values that its programs compute."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgefusion.cli.demo_pictures import draw_pictures, picture_table
from edgefusion.cli.demo_values import full_step, value_lines, value_tables, verify_small
from edgefusion.cli.latency_tables import cause_table, component_table, costliest_table
from edgefusion.cli.output import JsonOption, emit, progress
from edgefusion.cli.paper_tables import table6, table7
from edgefusion.cli.paths import Reads, WritesIn
from edgefusion.cli.table import Column, Table, plain
from edgefusion.runtime.progress import Say
from edgefusion.toolchain.reporting.number_forms import seconds

if TYPE_CHECKING:
    from edgefusion.compiler.bundle.bundle import Bundle
    from edgefusion.toolchain.compiling.stopwatch import StageTime

SCHEMA_VERSION = 1
PAPER_SOURCE = "bk-sdm-tiny"
SCHEDULES = ("serial", "mlt", "pipelined")
CALIBRATION_PROMPTS = 1
"""At the deployed timesteps: two evaluations of the U-Net, half a minute at full size."""
app = typer.Typer(add_completion=False)

_STAGES = (
    Column("component", "component", lambda name: plain(name) or "(all)"),
    Column("stage", "stage"),
    Column("seconds", "seconds", seconds),
)


@app.command()
def demo(
    source: Annotated[
        str,
        typer.Option(metavar="SOURCE", help="Preset to compile; tiny-test takes seconds."),
        Reads(),
    ] = PAPER_SOURCE,
    directory: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", help="Where bundles are written."),
        WritesIn(),
    ] = Path("build/demo"),
    steps: Annotated[int, typer.Option(help="Denoising steps an image.")] = 2,
    paper: Annotated[
        bool, typer.Option(help="Compare with the paper's tables (with bk-sdm-tiny).")
    ] = True,
    sdm: Annotated[
        bool, typer.Option(help="With the paper's SD v1.5 rows (exports 860 M parameters more).")
    ] = True,
    values: Annotated[
        bool,
        typer.Option(
            help="Execute programs too: verify tiny-test, draw with the miniature, run one step of "
            "the U-Net."
        ),
    ] = True,
    json_to: JsonOption = None,
) -> None:
    """Compile BK-SDM-Tiny at full size with random weights, without MLT (`serial`), with it (`mlt`)
    and with overlap and fusion groups (`pipelined`), simulate all, and show the paper's Tables 6
    and 7 beside ours. Then execute: verify a small model, draw pictures with a trained one
    (miniature.png), and run one full-size U-Net step beside ONNX Runtime.

    Examples: `edgefusion demo`; `edgefusion demo --source tiny-test`; `edgefusion demo --no-values`
    (times and bytes alone, without calibration).
    """
    from edgefusion.api import compile_source, open_bundle

    begin = time.perf_counter()
    with progress() as say:
        outputs = {name: directory / f"{source}-{name}.npub" for name in SCHEDULES}
        # The paper's method; and all of ours, which compiles another graph.
        times: list[StageTime] = []
        for names, ours in ((SCHEDULES[:-1], False), (SCHEDULES[-1:], True)):
            result = compile_source(
                source,
                output={name: outputs[name] for name in names},
                schedules=names,
                steps=steps,
                work_dir=directory / "work",
                calibration_prompts=CALIBRATION_PROMPTS if values else 0,
                transposing=ours,
                progress=say,
            )
            times += result.stages
        bundles = {}
        for name, path in outputs.items():
            say(f"checking {path}")
            bundles[name] = open_bundle(path)
        schedules = {name: _measure(bundle, say) for name, bundle in bundles.items()}
        compared = _paper(bundles, sdm, say) if paper and source == PAPER_SOURCE else None
        executed = _executed(directory, bundles[SCHEDULES[-1]], say) if values else None
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "source": source,
        "steps": steps,
        "wall_s": time.perf_counter() - begin,
        "schedules": schedules,
        "stages": _sums(times),
        "paper": compared,
        "values": executed,
    }
    emit(_tables(document), lambda: document, json_to=json_to, lines=_lines(document))


def _sums(times: Sequence[StageTime]) -> list[dict[str, Any]]:
    """By component and stage, in the order in which they came first."""
    found: dict[tuple[str, str], float] = {}
    for each in times:
        key = each.component, each.stage
        found[key] = found.get(key, 0.0) + each.seconds
    return [{"component": c, "stage": s, "seconds": seconds} for (c, s), seconds in found.items()]


def _measure(bundle: Bundle, say: Say) -> dict[str, Any]:
    from edgefusion.toolchain.profiling.profile import profile_bundle
    from edgefusion.toolchain.reporting.documents import latency_document, traffic_document

    profile = profile_bundle(bundle, progress=say)
    say(f"adding up transfers of {bundle.path}")
    latency, traffic = latency_document(profile), traffic_document(profile)
    return {"bundle": str(bundle.path), "simulate": latency, "traffic": traffic}


def _paper(bundles: dict[str, Bundle], sdm: bool, say: Say) -> dict[str, Any]:
    """The paper's tables; of their networks only the U-Net of SD v1.5 is not in the bundles."""
    from edgefusion.toolchain.paper.programs import Programs
    from edgefusion.toolchain.paper.tables import run_paper

    machine = next(iter(bundles.values())).machine
    programs = Programs(machine, progress=say)
    for schedule, bundle in bundles.items():
        for component in bundle.components:
            key = (PAPER_SOURCE, component, schedule)
            programs.programs[key] = bundle.program(component, verify=False)
    return run_paper(machine, programs=programs, with_sdm=sdm, progress=say).to_json()


def _executed(directory: Path, bundle: Bundle, say: Say) -> dict[str, Any]:
    begin = time.perf_counter()
    small = verify_small(directory, say)
    verified_s = time.perf_counter() - begin
    return {
        "verify": small,
        "verify_s": verified_s,
        "pictures": draw_pictures(directory, say),
        "step": full_step(bundle, say),
    }


def _tables(document: dict[str, Any]) -> list[Table]:
    from edgefusion.runtime.latency import total_label

    tables = []
    for name, measured in document["schedules"].items():
        latency = measured["simulate"]
        label = total_label(latency["components"])
        ranked = sorted(latency["ops"], key=lambda row: row["rank"])
        tables += [
            component_table(latency, f"Latency, schedule {name}"),
            cause_table(measured["traffic"], f"DMA traffic by cause, schedule {name}: {label}"),
            costliest_table(ranked, label, suffix=f", schedule {name}"),
        ]
    if document["paper"]:
        tables += [table6(document["paper"]), table7(document["paper"])]
    tables.append(Table("Where the time of compiling went", _STAGES, document["stages"]))
    if document["values"]:
        tables += value_tables(document["values"]["verify"], document["values"]["step"])
        tables.append(picture_table(document["values"]["pictures"]))
    return tables


def _lines(document: dict[str, Any]) -> list[str]:
    from edgefusion.runtime.latency import total_label

    lines = [
        f"{measured['bundle']}: {measured['simulate']['pipeline']['total_ms']:,.1f} ms for "
        f"{total_label(measured['simulate']['components'])}"
        for measured in document["schedules"].values()
    ]
    if document["values"]:
        lines += value_lines(document["values"]["verify"], document["values"]["step"])
    lines.append(f"done in {document['wall_s']:.0f} s")
    if document["paper"] is None:
        lines.append(f"The paper's tables are compared for {PAPER_SOURCE} alone.")
    return lines
