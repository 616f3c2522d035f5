"""Statistics of a normalisation, collected where its operand is made.

Passes do so only where an operand is too large for SRAM, as schedules that go from DRAM to DRAM
want it. With groups it is always right: sums collected with the tiles of the producer cost what
they cost later, and let the normalisation roll into the loop of its reader.
"""

from __future__ import annotations

from dataclasses import replace

from edgefusion.compiler.network.network import Epilogue, Network
from edgefusion.compiler.network.tensor import NetTensor, statistics_dtype
from edgefusion.runtime.isa import Role


def with_early_statistics(network: Network) -> Network:
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
            shape = (2, tensor.shape[-1])
            tensors[name] = NetTensor(name, shape, statistics_dtype(tensor.dtype), Role.ACTIVATION)
            steps = (*maker.epilogue, Epilogue("stats", name))
            ops[made] = replace(maker, epilogue=steps)
        ops[index] = replace(op, kind=op.kind.with_statistics(name))
    return replace(network, ops=tuple(ops), tensors=tensors)


def _maker(network: Network, makers: dict[str, int], name: str) -> int | None:
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
