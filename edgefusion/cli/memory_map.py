"""The memory map of a program: tensors and regions of DRAM, and what SRAM is used for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgefusion.cli.table import Column, Table
from edgefusion.toolchain.reporting.number_forms import whole

if TYPE_CHECKING:
    from edgefusion.runtime.program import Program

SCHEMA_VERSION = 1

_COLUMNS = (
    Column("space", "memory", keep=True),
    Column("name", "name", path=True, keep=True),
    Column("nbytes", "bytes", whole, keep=True),
    Column("address", "address", lambda value: f"{value:#x}", keep=True),
    Column("role", "role"),
    Column("first", "from instruction", whole),
    Column("last", "to instruction", whole),
)


def memory_table(program: Program) -> tuple[Table, dict[str, Any]]:
    """Every range of memory by address, as a table and as the JSON record of it.

    Weights, inputs and outputs are live throughout; of the rest the first and last instruction.
    """
    from edgefusion.runtime.isa import Role, Space

    last = len(program) - 1
    fixed = (Role.INPUT, Role.OUTPUT, Role.WEIGHT, Role.TABLE)
    roles = {tensor.name: tensor.role.name.lower() for tensor in program.tensors}
    rows = [
        {
            "space": "dram",
            "address": tensor.address,
            "nbytes": tensor.nbytes,
            "name": tensor.name,
            "role": tensor.role.name.lower(),
            "first": 0,
            "last": last,
        }
        for tensor in program.tensors
        if tensor.role in fixed
    ]
    rows += [
        {
            "space": Space(buffer.space).name.lower(),
            "address": buffer.address,
            "nbytes": buffer.nbytes,
            "name": buffer.name,
            "role": roles.get(buffer.name, "tile"),
            "first": buffer.first,
            "last": buffer.last,
        }
        for buffer in program.buffers
    ]
    rows.sort(key=lambda row: (row["space"], row["address"], row["first"], row["name"]))
    note = f"in use: SRAM {program.sram_bytes:,} bytes, DRAM {program.dram_bytes:,} bytes"
    record = {
        "schema_version": SCHEMA_VERSION,
        "component": program.component,
        "sram_bytes": program.sram_bytes,
        "dram_bytes": program.dram_bytes,
        "ranges": rows,
    }
    return Table(f"Memory map of {program.component}", _COLUMNS, rows, note), record
