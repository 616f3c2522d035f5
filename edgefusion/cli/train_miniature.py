"""``edgefusion train miniature``: the whole recipe on drawn shapes, on a CPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgefusion.cli.output import JsonOption, emit, progress
from edgefusion.cli.paths import WritesIn
from edgefusion.cli.table import Column, Table
from edgefusion.runtime.file_kinds import Kind


def _signed(value: float) -> str:
    return f"{value:+.3f}"


def _score(value: float) -> str:
    return f"{value:.3f}"


_CLAIMS = (
    Column("claim", "ordering", str),
    Column("first", "first", str),
    Column("second", "second", str),
    Column("difference", "difference", _signed),
    Column("verdict", "verdict", str),
)
_SCORES = (
    Column("network", "network", str),
    Column("steps", "steps", str),
    Column("mean", "score", _score),
    Column("distance", "Fréchet distance", _score),
)


def miniature(
    folder: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DIR", help="Folder of the experiment."),
        WritesIn({"results.json": Kind.JSON, "results.md": Kind.MARKDOWN}),
    ],
    preset: Annotated[
        str,
        typer.Option(
            metavar="lean|long|pilot|smoke",
            help="lean: the experiment, hours; long: the deployed student alone, trained longer; "
            "pilot: a short lean; smoke: a test of the program.",
        ),
    ] = "lean",
    seeds: Annotated[int, typer.Option(min=1, help="Repetitions, each with its seed.")] = 3,
    only: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Do repetition N alone, counted from 0, so that several processes share the work; "
            "the command without this then reports on all.",
        ),
    ] = None,
    json_to: JsonOption = None,
) -> None:
    """The whole recipe on drawn shapes: teachers, data, distillations, W8A16, and what held.

    The folder gets results.md, results.json and pipeline/, a student of few steps that `edgefusion
    compile` takes. Repeated, an interrupted command goes on where it stopped.

    Example: `edgefusion train miniature --preset pilot --seeds 1 -o pilot`.
    """
    from edgefusion.cli.data_options import require_extra
    from edgefusion.models.miniature.presets import PRESETS
    from edgefusion.runtime.errors import UsageError
    from edgefusion.toolchain.machine_info import machine_info
    from edgefusion.toolchain.miniature.experiment import run_experiment, run_repetition

    require_extra()
    if preset not in PRESETS:
        raise UsageError(f"--preset is {preset}; expected one of {', '.join(PRESETS)}.")
    chosen = PRESETS[preset]
    document: dict[str, Any]
    with progress() as say:
        if only is not None:
            rows = run_repetition(chosen, only, folder, say)
            document = {"preset": preset, "repetition": only, "scores": rows}
            table = Table(f"Repetition {only}", _SCORES, rows)
        else:
            document = run_experiment(chosen, seeds, folder, say)
            title = f"Orderings after {seeds} repetition{'s' if seeds > 1 else ''}, see {folder}"
            table = Table(title, _CLAIMS, document["claims"])
    emit([table], lambda: {"machine": machine_info(), **document}, json_to=json_to)
