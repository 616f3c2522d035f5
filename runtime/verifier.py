"""Is a program safe to run on a machine? Checked when a program is made, and when one is loaded.

The rules, in ``runtime.rules_of_form`` and ``runtime.rules_of_memory``: every code is known and
every engine exists; instructions have the attributes and operands of their opcode; sums that a
product starts from have its accumulator's type; dependencies point backwards; operands lie in their
memory, SRAM operands in a live buffer, DRAM operands in their tensor; live buffers do not overlap;
DMA copies like to like and states its cause; weights are never written; what runs once a prompt
leaves what it makes where nothing later overwrites it; there are no hazards.
Whether the values are right is for the executor to say.
"""

from __future__ import annotations

from edgefusion.runtime import rules_of_form, rules_of_memory
from edgefusion.runtime.errors import InputError
from edgefusion.runtime.machine import Machine
from edgefusion.runtime.program import Program
from edgefusion.runtime.program_columns import instruction_name
from edgefusion.runtime.violation import Subject, Violation

_SHOWN = 5

# A stage runs only where the stages before it found nothing: it trusts what they check.
_STAGES = (
    (rules_of_form.columns,),
    (
        rules_of_form.codes,
        rules_of_form.instruction_forms,
        rules_of_form.dependencies,
        rules_of_form.once,
        rules_of_form.operand_views,
    ),
    (
        rules_of_form.sums,
        rules_of_memory.addresses,
        rules_of_memory.engine_memories,
        rules_of_memory.dma,
        rules_of_memory.weights,
        rules_of_memory.buffers,
        rules_of_memory.once,
    ),
    (rules_of_memory.hazards,),
)


def verify_program(program: Program, machine: Machine) -> None:
    """Raise InputError that lists the first few violations with op and origin, if there are any."""
    violations = find_violations(program, machine, limit=_SHOWN + 1)
    if not violations:
        return
    lines = "\n".join(f"  {_line(program, violation)}" for violation in violations[:_SHOWN])
    more = "\n  and more" if len(violations) > _SHOWN else ""
    raise InputError(
        f"The program of {program.component}, schedule {program.schedule}, must not run on "
        f"{machine.name}:\n{lines}{more}\n"
        "Compile the model again; if this stays, report it as a defect of the compiler."
    )


def find_violations(program: Program, machine: Machine, *, limit: int = 20) -> list[Violation]:
    """The first ``limit`` violations, rule by rule; empty for a program that is safe to run."""
    subject = Subject(program, machine, limit)
    found: list[Violation] = []
    for stage in _STAGES:
        for rule in stage:
            found.extend(rule(subject))
        if found:
            break
    return found[:limit]


def _line(program: Program, violation: Violation) -> str:
    index = violation.instruction
    if index < 0:
        return violation.message
    return f"{instruction_name(program, index)}: {violation.message}"
