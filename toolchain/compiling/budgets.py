"""Budgets of a compilation: limits that a bundle must keep, or it is not written.

Each check names the op that needs most, what it needs, the budget, and the excess.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgefusion.runtime.errors import DoesNotFitError, UsageError
from edgefusion.toolchain.compiling.host_share import heavy_host

if TYPE_CHECKING:
    from edgefusion.runtime.latency import PipelineLatency
    from edgefusion.runtime.program import OpRecord, Program


@dataclass(frozen=True, slots=True)
class Budgets:
    """None is no limit. SRAM is what the tiles of one op hold at a time; DRAM is the memory that a
    component occupies (weights, inputs, outputs and the activations live together)."""

    max_sram_bytes: int | None = None
    max_dram_bytes: int | None = None
    max_latency_ms: float | None = None

    def __post_init__(self) -> None:
        """Raises UsageError for a limit that is not positive."""
        for name in self.__slots__:
            value = getattr(self, name)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and value > 0):
                option = "--" + name.replace("_", "-")
                raise UsageError(f"{option} is {value}; expected a number above 0.")

    def check_program(self, program: Program) -> None:
        """Raises DoesNotFitError when ``program`` needs more SRAM or DRAM than allowed."""
        if self.max_sram_bytes is not None:
            need, op = largest_sram_need(program)
            if need > self.max_sram_bytes:
                raise _over("--max-sram-bytes", program.component, op, need, self.max_sram_bytes)
        if self.max_dram_bytes is not None:
            need, op = largest_dram_need(program)
            if need > self.max_dram_bytes:
                raise _over("--max-dram-bytes", program.component, op, need, self.max_dram_bytes)

    def check_latency(self, latency: PipelineLatency) -> None:
        """Raises DoesNotFitError when an image takes longer than allowed."""
        limit = self.max_latency_ms
        if limit is None or latency.total_ms <= limit:
            return
        component, evaluations, op = max(
            ((c, n, op) for c, n in latency.components for op in c.ops),
            key=lambda row: row[1] * row[2].latency_ps,
        )
        origin = ", ".join(op.origin[:3]) or op.name
        raise DoesNotFitError(
            f"the pipeline takes {latency.total_ms:.3f} ms, its budget --max-latency-ms is "
            f"{limit:g} ms: {latency.total_ms - limit:.3f} ms too many. The largest part is "
            f"{evaluations * op.latency_ps / 1e9:.3f} ms for op {op.name} of {component.name} "
            f"({op.kind}, from {origin}). {_sentence(heavy_host(latency))}Nothing was written. "
            "Raise the budget, take fewer "
            "--steps, or choose a faster --schedule or --target."
        )


def largest_sram_need(program: Program) -> tuple[int, OpRecord]:
    """The most SRAM bytes that an op of ``program`` uses, and that op."""
    import numpy as np

    from edgefusion.runtime.isa import DTYPE_BYTES, Space

    ends = np.zeros(len(program.ops), dtype=np.int64)
    begin = program.columns.operand_begin
    instruction = np.repeat(np.arange(len(program)), np.diff(begin))
    c = program.columns
    steps = (c.operand_shape.astype(np.int64) - 1) * c.operand_strides
    end = c.operand_address + steps.sum(axis=1) + DTYPE_BYTES[c.operand_dtype]
    in_sram = c.operand_space == Space.SRAM
    np.maximum.at(ends, c.op[instruction[in_sram]], end[in_sram])
    largest = int(np.argmax(ends))
    return int(ends[largest]), program.ops[largest]


def largest_dram_need(program: Program) -> tuple[int, OpRecord]:
    """The DRAM bytes that ``program`` occupies, and the op at which most activations are live."""
    import numpy as np

    from edgefusion.runtime.isa import Space

    live = np.zeros(len(program) + 1, dtype=np.int64)
    for buffer in program.buffers:
        if buffer.space == Space.DRAM:
            live[buffer.first] += buffer.nbytes
            live[buffer.last + 1] -= buffer.nbytes
    peak = int(np.argmax(np.cumsum(live)[:-1])) if len(program) else 0
    return program.dram_bytes, program.ops[int(program.columns.op[peak])]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}. " if text else ""


def _over(option: str, component: str, op: OpRecord, need: int, limit: int) -> DoesNotFitError:
    origin = ", ".join(op.origin[:3]) or op.name
    what = "SRAM" if "sram" in option else "DRAM"
    return DoesNotFitError(
        f"{component} needs {need} bytes of {what}, most of all at op {op.name} ({op.kind}, from "
        f"{origin}); the budget {option} is {limit} bytes: {need - limit} bytes too many. Nothing "
        "was written. Raise the budget, or choose another --schedule or --target."
    )
