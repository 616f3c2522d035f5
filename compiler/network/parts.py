"""What of a network need not run again while some of its inputs stay the same.

A denoiser runs once a step, but the keys and values of its cross-attention depend on the prompt
alone: they are computed by a part of its own, once for all steps.
"""

from __future__ import annotations

from dataclasses import replace

from edgefusion.compiler.network.network import NetOp, Network, operands, results
from edgefusion.runtime.isa import CONSTANT_ROLES, Role


def in_parts(network: Network) -> tuple[Network, ...]:
    """Networks that compute ``network`` one after another, each with what those before it made.

    The first of two depends on ``network.constant_inputs`` alone, and need not run again while
    these are the same. There is only one where no op does, or the network's own results do.
    Tensors that both know are results of the first and inputs of the second; views of them are
    views in each that reads them.
    """
    given = {*network.constant_inputs}
    known = given | {name for name, t in network.tensors.items() if t.role in CONSTANT_ROLES}
    early: list[NetOp] = []
    for op in network.ops:
        if known.issuperset(operands(op)) and not given.isdisjoint(operands(op)):
            early.append(op)
            given.update(results(op))
            known.update(results(op))
    made = {name for op in early if not op.kind.is_view for name in results(op)}
    if not made or not given.isdisjoint(network.outputs):
        return (network,)
    names = {op.name for op in early}
    late = _with_views(network, [op for op in network.ops if op.name not in names])
    read = dict.fromkeys(name for op in late for name in operands(op))
    crossing = tuple(name for name in read if name in made)
    tensors = {
        name: replace(tensor, role=Role.INPUT) if name in crossing else tensor
        for name, tensor in network.tensors.items()
    }
    inputs = (name for name in network.inputs if name in read or name not in given)
    first = replace(network, ops=tuple(early), inputs=network.constant_inputs, outputs=crossing)
    second = replace(network, ops=late, inputs=(*inputs, *crossing), tensors=tensors)
    return first, second


def _with_views(network: Network, ops: list[NetOp]) -> tuple[NetOp, ...]:
    """``ops`` in the network's order, with the views of other ops' results that they read."""
    views = {op.outputs[0]: op for op in network.ops if op.kind.is_view}
    wanted = {op.name for op in ops}
    left = [name for op in ops for name in operands(op)]
    while left:
        view = views.get(left.pop())
        if view is not None and view.name not in wanted:
            wanted.add(view.name)
            left += operands(view)
    return tuple(op for op in network.ops if op.name in wanted)
