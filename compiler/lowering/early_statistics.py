"""Statistics of a normalisation, collected where its operand is made.

Passes do so only where an operand is too large for SRAM, as schedules that go from DRAM to DRAM
want it. With groups it is always right: sums collected with the tiles of the producer cost what
they cost later, and let the normalisation roll into the loop of its reader.

What is concatenated for a normalisation is made before: where it is large, each part's producer
collects the sums of its channels, in the steps of the whole. Then nothing waits for the
concatenation, which rolls into the loop as well. The sums are the same integers. A small one is
read in SRAM sooner than its parts are copied to other steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgefusion.compiler.network.kind import Use
from edgefusion.compiler.network.network import Epilogue, NetOp, Network
from edgefusion.compiler.network.tensor import NetTensor, statistics_dtype
from edgefusion.runtime.isa import Role

_LARGE = 2
"""What takes this part of SRAM or more is too large to stay there while another is made of it."""


def with_early_statistics(network: Network, sram_bytes: int) -> Network:
    """The network with statistics in the epilogue of every producer that can collect them."""
    ops = list(network.ops)
    tensors = dict(network.tensors)
    makers = {name: index for index, op in enumerate(ops) for name in op.outputs}
    for index, op in enumerate(ops):
        summed = op.kind.summed
        made = _maker(network, makers, summed) if summed else None
        if made is None:
            continue
        maker = ops[made]
        tensor = tensors[maker.outputs[0]]
        name = f"{tensor.name}_stats"
        if name not in tensors:
            tensors[name] = _sums(name, tensor)
            ops[made] = _collecting(maker, Epilogue("stats", name))
        ops[index] = replace(op, kind=op.kind.with_statistics(name))
    for index, op in enumerate(ops):
        made_of = _makers_of_parts(op, network, makers)
        if not made_of or tensors[op.outputs[0]].nbytes * _LARGE < sram_bytes:
            continue
        whole, names = op.outputs[0], []
        (own,) = (step for step in op.epilogue if step.is_statistics)
        for number, made in enumerate(made_of):
            maker = ops[made]
            names.append(f"{own.operand}_{number}")
            tensors[names[-1]] = _sums(names[-1], tensors[maker.outputs[0]])
            ops[made] = _collecting(maker, Epilogue("stats", names[-1], like=whole))
        ops[index] = replace(op, epilogue=())
        for reader, other in enumerate(ops):
            if own.operand in other.kind.operands_for(Use.STATISTICS):
                ops[reader] = replace(other, kind=other.kind.with_statistics(*names))
        del tensors[own.operand]
    return replace(network, ops=tuple(ops), tensors=tensors)


def _sums(name: str, tensor: NetTensor) -> NetTensor:
    """Those of the channels of ``tensor``."""
    dtype = statistics_dtype(tensor.dtype)
    return NetTensor(name, (2, tensor.shape[-1]), dtype, Role.ACTIVATION)


def _collecting(op: NetOp, step: Epilogue) -> NetOp:
    return replace(op, epilogue=(*op.epilogue, step))


def _maker(network: Network, makers: Mapping[str, int], name: str) -> int | None:
    """The op that makes ``name`` or what it is a view of, if it can collect statistics of it."""
    columns = network.tensor(name).shape[-1]
    while name in makers:
        op = network.ops[makers[name]]
        if network.tensor(op.outputs[0]).shape[-1] != columns:
            return None
        if not op.kind.is_view:
            wanted = op.kind.collects_statistics(network.tensors)
            return makers[name] if wanted else None
        name = op.inputs[0]
    return None


def _makers_of_parts(op: NetOp, network: Network, makers: Mapping[str, int]) -> list[int]:
    """Of an op that collects sums of operands side by side, those that make these and can do so;
    none unless all can."""
    if not any(step.is_statistics for step in op.epilogue):
        return []
    found = [_maker(network, makers, part) for part in op.kind.side_by_side(network.tensors)]
    able = [made for made in found if made is not None and network.ops[made].kind.has_epilogue]
    return able if len(able) == len(found) else []
