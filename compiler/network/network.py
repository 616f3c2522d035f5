"""The network: what is left of a graph once passes are done, as frozen values.

This is the hand-over from the ONNX world (``compiler.graph``, ``passes``) to tiling, allocation and
lowering. Tensors are channels-last, ops are the NPU's own kinds, epilogues are explicit, constants
are named rather than held. Nothing here knows ONNX.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edgefusion.compiler.graph import names
from edgefusion.compiler.network.kind import Kind, Scaling, along, operand_name, shapes_of
from edgefusion.compiler.network.tensor import NetTensor, Tensors
from edgefusion.compiler.network.window import Span


@dataclass(frozen=True, slots=True)
class Epilogue:
    """One step applied to an op's result tile before it leaves SRAM, in order.

    ``function``: ``add`` (``operand`` has the result's shape, or broadcasts over all but its last
    axis), a unary function name, or ``stats`` (``operand`` names the extra output stats[2,c]: sums
    and sums of squares of every channel, for a GroupNorm that follows). Statistics are of the
    result as it is, or in the steps of the tensor ``like``, which holds it among others.
    """

    function: str
    operand: str = ""
    like: str = ""

    @property
    def is_statistics(self) -> bool:
        """Whether the step leaves the tile as it is and only collects sums of it."""
        return self.function == "stats"

    @property
    def reads(self) -> str:
        """The tensor that the step reads beside the tile, '' for none."""
        return "" if self.is_statistics else self.operand


@dataclass(frozen=True, slots=True)
class NetOp:
    """One op: what it is, with the operands' names, and the names of its results."""

    name: str
    kind: Kind
    outputs: tuple[str, ...]
    epilogue: tuple[Epilogue, ...] = ()
    origin: tuple[str, ...] = ()
    scope: str = ""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the operands in order, '' for an absent optional one."""
        return self.kind.inputs

    def joined(self, reader: NetOp) -> NetOp | None:
        """This op and the one that reads its result as one op; None where they stay two."""
        if self.epilogue or self.outputs[0] not in reader.inputs:
            return None
        kind = reader.kind.joined(self.kind)
        if kind is None:
            return None
        origin = (*self.origin, *reader.origin)
        return NetOp(self.name, kind, reader.outputs, reader.epilogue, origin, self.scope)

    @property
    def is_move(self) -> bool:
        """Whether the results hold nothing but values of the inputs."""
        return not self.epilogue and self.kind.scaling in (Scaling.MOVED, Scaling.WIDEST)

    @property
    def rounds(self) -> bool:
        """Whether the NPU computes values here, and so rounds them, rather than moving them."""
        return self.kind.on_npu and not self.is_move


@dataclass(frozen=True, slots=True)
class Network:
    """Ops in execution order. ``tensors`` holds every tensor that an op names.

    ``constant_inputs`` are those inputs that stay the same over several runs, as a prompt does over
    all steps of an image.
    """

    name: str
    tensors: Mapping[str, NetTensor]
    ops: tuple[NetOp, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constant_inputs: tuple[str, ...] = ()

    def tensor(self, name: str) -> NetTensor:
        """The tensor called ``name``."""
        return self.tensors[name]

    def __repr__(self) -> str:
        return f"<Network {self.name}: {len(self.ops)} ops, {len(self.tensors)} tensors>"


def operands(op: NetOp) -> tuple[str, ...]:
    """Names of all tensors that ``op`` reads, epilogue operands included."""
    return tuple(name for name in (*op.inputs, *(e.reads for e in op.epilogue)) if name)


def statistics(op: NetOp) -> tuple[str, ...]:
    """Names of the sums that the epilogue collects of the result."""
    return tuple(e.operand for e in op.epilogue if e.is_statistics)


def results(op: NetOp) -> tuple[str, ...]:
    """Names of all tensors that ``op`` writes, statistics included."""
    return op.outputs + statistics(op)


def stage_names(op: NetOp) -> tuple[str, ...]:
    """Names of the op's result before its epilogue and after each step but statistics.

    The last is the op's output; the others never leave SRAM, but each has a scale of its own.
    """
    steps = [step for step in op.epilogue if not step.is_statistics]
    return (*(names.stage(op.name, i) for i in range(len(steps))), op.outputs[0])


def cuts(op: NetOp, tensors: Tensors) -> Mapping[int, int]:
    """Axes of the result along which stripes of ``op`` can be computed by themselves, with the
    multiple at which stripes begin. Statistics in the epilogue cover all rows: they cut no less,
    but are complete only when the last stripe is."""
    return op.kind.cuts(shapes_of(op.kind, tensors), tensors[op.outputs[0]].shape)


def needs(op: NetOp, tensors: Tensors, axis: int, span: Span) -> dict[str, tuple[int, Span]]:
    """What the stripe ``span`` of the result along ``axis`` reads: by tensor, along which of its
    axes and from where to where; what is left out is needed whole. Epilogues included.

    A tensor that is read twice needs the hull of both; read along two axes, it is needed whole.
    """
    result = tensors[op.outputs[0]].shape
    shapes = shapes_of(op.kind, tensors)
    asked = op.kind.needs(shapes, result, axis, span)
    reads: list[tuple[str, tuple[int, Span] | None]] = [
        (operand_name(op.kind, key), asked.get(key)) for key in shapes
    ]
    reads += [
        (step.reads, along(tensors[step.reads].shape, result, axis, span))
        for step in op.epilogue
        if step.reads
    ]
    found: dict[str, tuple[int, Span] | None] = {}
    for name, need in reads:
        found[name] = _hull(found[name], need) if name in found else need
    return {name: need for name, need in found.items() if need is not None}


def _hull(a: tuple[int, Span] | None, b: tuple[int, Span] | None) -> tuple[int, Span] | None:
    if a is None or b is None or a[0] != b[0]:
        return None
    start, stop = min(a[1].start, b[1].start), max(a[1].stop, b[1].stop)
    return a[0], Span(start, stop - start)
