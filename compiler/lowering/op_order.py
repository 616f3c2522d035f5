"""The order of ops that leaves the most room in SRAM."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from edgefusion.compiler.lowering.rule import replaceable
from edgefusion.compiler.network.network import NetOp, Network, operands, results


def with_early_readers(network: Network) -> Network:
    """The network in which an op whose result can take an operand's place comes after all others
    that read the operand, as far as these do not need what it makes.

    A residual block's shortcut is such a reader: it reads the image that the block normalises.
    """
    ops = list(network.ops)
    readers: dict[str, list[NetOp]] = defaultdict(list)
    for op in ops:
        for name in operands(op):
            readers[name].append(op)
    place = {op.name: index for index, op in enumerate(ops)}
    for op in network.ops:
        for name in replaceable(op, network.tensors):
            for reader in readers[name]:
                here, there = place[op.name], place[reader.name]
                between = ops[here:there]
                made = {result for each in between for result in results(each)}
                if between and made.isdisjoint(operands(reader)):
                    ops[here : there + 1] = [reader, *between]
                    moved = enumerate(ops[here : there + 1], here)
                    place |= {each.name: index for index, each in moved}
    return replace(network, ops=tuple(ops))
