"""What must hold of every network; run on each that is made from a graph."""

from __future__ import annotations

from collections.abc import Iterator

from edgefusion.compiler.network.kind import Shape, shapes_of
from edgefusion.compiler.network.network import Network, operands, results
from edgefusion.runtime.isa import CONSTANT_ROLES


class InvalidNetworkError(ValueError):
    """A network that breaks a rule: a defect of what made it. One line a rule and op."""


def verify_network(network: Network) -> None:
    """Raise InvalidNetworkError, naming every op at fault, unless

    - tensors that ops name exist; activations are made once, before they are read;
    - an output is an input, or the memory of what an op makes: no view of an input or a constant;
    - constants, and only they, name their values;
    - results have the shape that their kind derives from the operands, up to leading ones;
    - only kinds that take an epilogue have one.
    """
    faults = [*_flow(network)]
    if not faults:  # the rest looks tensors up
        faults = [*_constants(network), *_ops(network)]
    if faults:
        raise InvalidNetworkError("\n".join(faults))


def _flow(network: Network) -> Iterator[str]:
    known = set(network.inputs)
    given = set(network.inputs)
    for op in network.ops:
        if op.kind.is_view and (op.inputs[0] in given or op.inputs[0] not in known):
            given.update(op.outputs)
        for name in (*operands(op), *results(op)):
            if name not in network.tensors:
                yield f"{op.name}: there is no tensor '{name}'"
        for name in operands(op):
            tensor = network.tensors.get(name)
            if tensor is not None and name not in known and tensor.role not in CONSTANT_ROLES:
                yield f"{op.name}: reads '{name}' before it is made"
        for name in results(op):
            if name in known:
                yield f"{op.name}: makes '{name}', which is there already"
            known.add(name)
    for name in network.outputs:
        if name not in known:
            yield f"output '{name}' is not made"
        elif name in given and name not in network.inputs:
            yield f"output '{name}' is a view of an input or a constant, with no memory of its own"


def _constants(network: Network) -> Iterator[str]:
    for name in {name: None for op in network.ops for name in (*operands(op), *results(op))}:
        tensor = network.tensor(name)
        if bool(tensor.constant) != (tensor.role in CONSTANT_ROLES):
            role = tensor.role.name.lower()
            yield f"'{name}' of role {role} names the constant '{tensor.constant}'"


def _ops(network: Network) -> Iterator[str]:
    for op in network.ops:
        if op.epilogue and not op.kind.has_epilogue:
            yield f"{op.name}: kind {op.kind.name} takes no epilogue"
        expected = op.kind.result_shape(shapes_of(op.kind, network.tensors))
        found = network.tensor(op.outputs[0]).shape
        if expected is not None and _bare(expected) != _bare(found):
            yield f"{op.name}: expected a result of shape {expected}, found {found}"


def _bare(shape: Shape) -> Shape:
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape
