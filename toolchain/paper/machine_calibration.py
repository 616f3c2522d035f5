"""Fits the machine's unpublished parameters to the paper, within physical limits.

What is fitted to: every row of Table 6, and the EdgeFusion U-Net without MLT of Table 7. All other
figures of Table 7 are held out. Weakly determined parameters are held near a stated prior, so that
the fit cannot trade one implausible value for another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from edgefusion.runtime.errors import InputError
from edgefusion.runtime.file_kinds import Kind
from edgefusion.runtime.files import disk_errors, replacing
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import Program
from edgefusion.runtime.progress import Say
from edgefusion.runtime.simulator import simulate
from edgefusion.toolchain.paper.published import table6, table7
from edgefusion.toolchain.paper.tables import shares

SHARE_TOLERANCE_POINTS = 0.5
"""Weight of a Table 6 row: this many percentage points count as one unit of residual."""
LATENCY_TOLERANCE = 0.01
"""Weight of the U-Net's latency: this fraction counts as one unit of residual."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter to fit: physical limits, and the prior that holds it where data does not."""

    name: str
    low: float
    high: float
    prior: float
    prior_deviation: float
    reason: str


PARAMETERS = (
    Parameter(
        "dma_bandwidth_bytes_per_s", 8e9, 34e9, 17e9, 17e9,
        "at most half of the LPDDR5X peak of 68.3e9, which the whole chip shares",
    ),
    Parameter(
        "dma_setup_ns", 50.0, 5000.0, 500.0, 500.0,
        "descriptor fetch from DRAM: a few memory latencies",
    ),
    Parameter(
        "tensor_drain_bytes_per_cycle", 8.0, 128.0, 32.0, 32.0,
        "results to SRAM, at most two 64-byte ports",
    ),
    Parameter(
        "tensor_feed_bytes_per_cycle", 8.0, 128.0, 64.0, 64.0,
        "operands from SRAM, at most two 64-byte ports",
    ),
    Parameter(
        "vector_cycles.softmax", 4.0, 40.0, 13.0, 13.0,
        "maximum, exponential, sum and scale over 32-bit lanes",
    ),
    Parameter(
        "semaphore_ns", 20.0, 5000.0, 200.0, 200.0,
        "signal between engines through shared registers",
    ),
)  # fmt: skip
FOLLOWERS: Mapping[str, str] = {"tensor_load_bytes_per_cycle": "tensor_feed_bytes_per_cycle"}
"""Parameters that no figure determines, and the fitted one whose multiple each stays: the port that
loads the held operand is as much wider than the feed as the machine had it."""


@dataclass(frozen=True, slots=True)
class FittedParameter:
    """A parameter before and after; ``at_limit`` says that the fit wanted to go further."""

    parameter: Parameter
    start: float
    value: float
    at_limit: bool


@dataclass(frozen=True, slots=True)
class Residual:
    """One figure that was fitted to."""

    name: str
    unit: str
    paper: float
    ours: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """The fitted machine, its parameters and the residuals of what it was fitted to."""

    machine: Machine
    parameters: tuple[FittedParameter, ...]
    residuals: tuple[Residual, ...]
    evaluations: int


def calibrate(
    machine: Machine,
    compile_unet: Callable[[Machine, str], Program],
    *,
    rounds: int = 2,
    progress: Say | None = None,
) -> Calibration:
    """Fit ``machine``.

    ``compile_unet(machine, schedule)`` gives the EdgeFusion U-Net's program. Tilings depend on the
    machine and the fit on the tilings, so compile and fit alternate for a few ``rounds``.
    """
    start = [_value(machine, p.name) for p in PARAMETERS]
    fitted, values, evaluations = machine, start, 0
    for number in range(rounds):
        if progress is not None:
            progress(f"calibration round {number + 1} of {rounds}: compile and fit")
        programs = compile_unet(fitted, "serial"), compile_unet(fitted, "mlt")
        values, calls = _fit(fitted, *programs)
        fitted = _with(fitted, values)
        evaluations += calls
    programs = compile_unet(fitted, "serial"), compile_unet(fitted, "mlt")
    parameters = tuple(
        FittedParameter(p, s, v, bool(np.isclose(v, p.low) or np.isclose(v, p.high)))
        for p, s, v in zip(PARAMETERS, start, values, strict=True)
    )
    return Calibration(fitted, parameters, _residuals(fitted, *programs), evaluations)


def _fit(machine: Machine, serial: Program, tiled: Program) -> tuple[list[float], int]:
    scale = np.array([p.prior for p in PARAMETERS])
    limits = np.array([[p.low for p in PARAMETERS], [p.high for p in PARAMETERS]]) / scale

    def misfit(point: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        values = point * scale
        found = _residuals(_with(machine, values.tolist()), serial, tiled)
        data = [
            (r.ours - r.paper)
            / (SHARE_TOLERANCE_POINTS if r.unit == "%" else LATENCY_TOLERANCE * r.paper)
            for r in found
        ]
        priors = [
            (v - p.prior) / p.prior_deviation for v, p in zip(values, PARAMETERS, strict=True)
        ]
        return np.array(data + priors)

    start = np.array([_value(machine, p.name) for p in PARAMETERS]) / scale
    start = np.clip(start, limits[0] * 1.001, limits[1] * 0.999)
    # Costs are rounded to picoseconds: the step must be coarse enough to see a slope.
    result = least_squares(misfit, start, bounds=limits, diff_step=1e-4)
    values: list[float] = (result.x * scale).tolist()
    return values, int(result.nfev)


def _residuals(machine: Machine, serial: Program, tiled: Program) -> tuple[Residual, ...]:
    ours = shares(serial, tiled, machine)
    found = []
    for row in table6():
        for i, label, paper in (
            (0, "without MLT", row.without_mlt_percent),
            (1, "with MLT", row.with_mlt_percent),
        ):
            if paper is not None:
                name = f"Table 6 {row.operation}, {label}"
                found.append(Residual(name, "%", paper, ours[row.operation][i]))
    unet = next(row for row in table7() if row.model == "edgefusion" and not row.mlt)
    total_ms = simulate(serial, machine).total_ps / 1e9
    found.append(Residual("Table 7 EdgeFusion U-Net, no MLT", "ms", unet.unet_ms, total_ms))
    return tuple(found)


def write_target(template: Path, calibration: Calibration, output: Path) -> None:
    """Copy a target file with the fitted values put in, comments and all else untouched."""
    text = template.read_text(encoding="utf-8")
    for fitted in calibration.parameters:
        key = fitted.parameter.name.rpartition(".")[2]
        line = re.compile(rf"^({re.escape(key)} = \{{ value = )([^,]+)(, status = \")\w+", re.M)
        text = _replaced(line, rf"\g<1>{fitted.value:.6g}\g<3>calibrated", text, key, template)
    for key in FOLLOWERS:
        line = re.compile(rf"^({re.escape(key)} = \{{ value = )[^,]+", re.M)
        value = _value(calibration.machine, key)
        text = _replaced(line, rf"\g<1>{value:.6g}", text, key, template)
    with replacing((output,), Kind.TOML) as (partial,), disk_errors(output):
        partial.write_text(text, encoding="utf-8")


def _replaced(line: re.Pattern[str], by: str, text: str, key: str, template: Path) -> str:
    replaced, count = line.subn(by, text)
    if count != 1:
        raise InputError(f"expected one line for {key} in {template}, found {count}")
    return replaced


def _value(machine: Machine, name: str) -> float:
    table, _, entry = name.partition(".")
    value = machine.parameters()[table]
    return float(value[entry] if entry else value)


def _with(machine: Machine, values: list[float]) -> Machine:
    fitted = {p.name: v for p, v in zip(PARAMETERS, values, strict=True)}
    followers = {
        key: _value(machine, key) * fitted[leader] / _value(machine, leader)
        for key, leader in FOLLOWERS.items()
    }
    return machine.with_values(**fitted, **followers)
