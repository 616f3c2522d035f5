"""How long a tiling takes when engines overlap, found by emitting and scheduling it.

Estimates add up what engines do (``lowering.cost``). Where buffers are few, what counts is who
waits for a slot, and that is the scheduler's to say. It costs milliseconds a tiling, so the search
asks for the most promising ones alone.
"""

from __future__ import annotations

from edgefusion.compiler.lowering.emitter import Emitter
from edgefusion.compiler.lowering.rule import LoweredKind, OpContext, Tiling
from edgefusion.compiler.schedule.dependences import dependence_graph
from edgefusion.compiler.schedule.list_schedule import list_schedule
from edgefusion.compiler.schedule.schedule import Schedule
from edgefusion.runtime.program_builder import ProgramBuilder
from edgefusion.runtime.work import durations_ps


def rehearse(context: OpContext, t: Tiling, slots: int, schedule: Schedule) -> int:
    """Picoseconds from the first instruction of the op, alone on the machine, to the end of its
    last. Raises DoesNotFitError."""
    kind, machine = context.op.kind, context.machine
    assert isinstance(kind, LoweredKind)
    builder = ProgramBuilder("rehearsal", machine.name, schedule.name)
    emitter = Emitter(builder, machine, schedule, dry=False)
    emitter.begin(0, context.op.name, slots)
    kind.emit(emitter, context, t)
    program = builder.build()
    graph = dependence_graph(emitter.accesses)
    kinds = program.columns.engine.tolist()
    durations = durations_ps(program, machine).tolist()
    return list_schedule(graph, kinds, durations, machine).end_ps
