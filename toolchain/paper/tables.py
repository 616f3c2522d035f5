"""The paper's Tables 6 and 7, ours beside theirs with the error of every figure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import Program
from edgefusion.runtime.progress import Say
from edgefusion.runtime.simulator import simulate
from edgefusion.toolchain.paper.attention_breakdown import (
    ROWS,
    attention_breakdown,
    attention_rows,
    largest_attention,
)
from edgefusion.toolchain.paper.programs import Programs
from edgefusion.toolchain.paper.published import Table6Row, Table7Row, table6, table7

PAPER_SCHEMA_VERSION = 1

FITTED = "fitted"
HELD_OUT = "predicted"
UNEXPLAINED = "not explained"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure: ours, the paper's, and whether the machine was fitted to it."""

    ours: float
    paper: float
    use: str

    @property
    def error_points(self) -> float:
        """Ours minus the paper's, in the figure's own unit (percentage points for Table 6)."""
        return self.ours - self.paper

    @property
    def error_percent(self) -> float:
        """The error as a percentage of the paper's figure."""
        return 100.0 * (self.ours - self.paper) / self.paper


@dataclass(frozen=True, slots=True)
class PaperRow6:
    """Table 6: percent of the block's time without MLT."""

    operation: str
    engine: str
    without_mlt: Comparison | None
    with_mlt: Comparison | None


@dataclass(frozen=True, slots=True)
class PaperRow7:
    """Table 7: milliseconds by component. ``evaluations`` of the U-Net are in ``unet``."""

    model: str
    mlt: bool
    evaluations: int
    encoder: Comparison
    unet: Comparison
    decoder: Comparison
    total: Comparison


@dataclass(frozen=True, slots=True)
class PaperResult:
    """Both tables on one machine."""

    machine: Machine
    table6: tuple[PaperRow6, ...]
    table7: tuple[PaperRow7, ...]

    def to_json(self) -> dict[str, Any]:
        """Rows with the paper's column names (ours), the paper's values and errors beside them."""
        return {
            "schema_version": PAPER_SCHEMA_VERSION,
            "target": self.machine.name,
            "target_digest": self.machine.digest,
            "table6": [_row6_json(row) for row in self.table6],
            "table7": [_row7_json(row) for row in self.table7],
        }


def run_paper(
    machine: Machine,
    *,
    programs: Programs | None = None,
    with_sdm: bool = True,
    progress: Say | None = None,
) -> PaperResult:
    """Compile what the tables need (or reuse ``programs``), simulate, and compare.

    ``with_sdm`` includes the rows of SDM v1.5, with one U-Net evaluation and with two (guidance).
    """
    made = programs or Programs(machine, progress=progress)
    serial = made.program("bk-sdm-tiny", "unet", "serial")
    tiled = made.program("bk-sdm-tiny", "unet", "mlt")
    return PaperResult(machine, _table6(serial, tiled, machine), _table7(made, machine, with_sdm))


def shares(serial: Program, tiled: Program, machine: Machine) -> dict[str, tuple[float, float]]:
    """Percent of the attention block's serial time by row: (without, with MLT), total included."""
    made = []
    for program in (serial, tiled):
        op = largest_attention(program)
        made.append(attention_breakdown(program, machine, attention_rows(program, op)))
    total = sum(made[0].values())
    found = {row: (100 * made[0][row] / total, 100 * made[1][row] / total) for row in ROWS}
    found["total"] = (100.0, 100 * sum(made[1].values()) / total)
    return found


def _table6(serial: Program, tiled: Program, machine: Machine) -> tuple[PaperRow6, ...]:
    ours = shares(serial, tiled, machine)

    def compare(row: Table6Row, column: int, paper: float | None) -> Comparison | None:
        return None if paper is None else Comparison(ours[row.operation][column], paper, FITTED)

    return tuple(
        PaperRow6(
            row.operation,
            row.engine,
            compare(row, 0, row.without_mlt_percent),
            compare(row, 1, row.with_mlt_percent),
        )
        for row in table6()
    )


def _table7(made: Programs, machine: Machine, with_sdm: bool) -> tuple[PaperRow7, ...]:
    rows = []
    for paper in table7():
        if paper.model == "sdm-v1.5" and not with_sdm:
            continue
        for evaluations in (1, 2) if paper.model == "sdm-v1.5" else (1,):
            rows.append(_row7(made, machine, paper, evaluations))  # noqa: PERF401
    return tuple(rows)


def _row7(made: Programs, machine: Machine, paper: Table7Row, evaluations: int) -> PaperRow7:
    schedule = "mlt" if paper.mlt else "serial"
    preset = "sd-v1.5" if paper.model == "sdm-v1.5" else "bk-sdm-tiny"

    def latency_ms(component: str) -> float:
        # The two pipelines share their text encoder and decoder architectures.
        source = preset if component == "unet" else "bk-sdm-tiny"
        return simulate(made.program(source, component, schedule), machine).total_ps / 1e9

    encoder, decoder = latency_ms("text_encoder"), latency_ms("vae_decoder")
    unet = evaluations * latency_ms("unet")
    fitted = paper.model == "edgefusion" and not paper.mlt
    unet_use = FITTED if fitted else HELD_OUT if paper.model == "edgefusion" else UNEXPLAINED
    return PaperRow7(
        paper.model,
        paper.mlt,
        evaluations,
        Comparison(encoder, paper.encoder_ms, UNEXPLAINED),
        Comparison(unet, paper.unet_ms, unet_use),
        Comparison(decoder, paper.decoder_ms, HELD_OUT),
        Comparison(encoder + unet + decoder, paper.total_ms, UNEXPLAINED),
    )


def _row6_json(row: PaperRow6) -> dict[str, Any]:
    made: dict[str, Any] = {"operation": row.operation, "engine": row.engine}
    for name, value in (("without_mlt", row.without_mlt), ("with_mlt", row.with_mlt)):
        made[f"{name}_percent"] = value and value.ours
        made[f"paper_{name}_percent"] = value and value.paper
        made[f"error_{name}_percentage_points"] = value and value.error_points
    return made


def _row7_json(row: PaperRow7) -> dict[str, Any]:
    values: Mapping[str, Comparison] = {
        "encoder": row.encoder,
        "unet": row.unet,
        "decoder": row.decoder,
        "total": row.total,
    }
    made: dict[str, Any] = {
        "model": row.model,
        "mlt": "yes" if row.mlt else "no",
        "unet_evaluations": row.evaluations,
    }
    for name, value in values.items():
        made[f"{name}_ms"] = value.ours
        made[f"paper_{name}_ms"] = value.paper
        made[f"error_{name}_percent"] = value.error_percent
        made[f"{name}_use"] = value.use
    return made
