"""Fused ops back to standard ones, so that every value inside them has a name one can ask for.

A graph as the passes leave it calls functions of the domain ``edgefusion``; what happens inside
them is hidden. ``expand_functions`` writes their bodies out. Values that the network has as tensors
get the network's names (``graph.names``): stages of an epilogue, attention scores. All other inner
values are called ``<op>:<name in the body>``.
"""

from __future__ import annotations

import onnx

from edgefusion.compiler.graph import names
from edgefusion.compiler.graph.functions import DOMAIN, kind_and_tokens

_STAGED = ("Conv", "ConvLast", "ConvTransposeLast", "MatMul")


def expand_functions(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of standard ops that computes what ``model`` does, shapes of all values inferred.

    Weights stay where they are: external data keeps its location. ``model`` is not changed.

    Raises:
        ValueError: a call of a function that the model does not define (a defect of ours).
    """
    functions = {function.name: function for function in model.functions}
    expanded = onnx.ModelProto()
    expanded.CopyFrom(model)
    del expanded.functions[:]
    del expanded.graph.node[:]
    for node in model.graph.node:
        if node.domain != DOMAIN:
            expanded.graph.node.add().CopyFrom(node)
        elif node.op_type in functions:
            expanded.graph.node.extend(_body(node, functions[node.op_type]))
        else:
            raise ValueError(f"'{node.name}' calls '{node.op_type}', which the model lacks")
    standard = [opset for opset in expanded.opset_import if opset.domain != DOMAIN]
    del expanded.opset_import[:]
    expanded.opset_import.extend(standard)
    _check_names(expanded.graph)
    return onnx.shape_inference.infer_shapes(expanded, data_prop=True)


def hidden_values(call: onnx.NodeProto, function: onnx.FunctionProto) -> dict[str, str]:
    """The values of a body that the network has as tensors: name in the body -> tensor name."""
    kind, tokens = kind_and_tokens(call.op_type)
    last = int(_finished(function).removeprefix("t")) if kind in (*_STAGED, "Attention") else 0
    if kind in _STAGED:
        steps = len(epilogue_tokens(tokens))
        return {f"t{last - steps + i}": names.stage(call.name, i) for i in range(steps)}
    if kind == "Attention":
        found = {"scores": names.scores_in(call.name)}
        if "mask" in tokens:
            found["t1"] = names.scores_masked(call.name)
        return found | {f"t{len(found)}": names.scores_out(call.name)}
    return {}


def epilogue_tokens(tokens: tuple[str, ...]) -> tuple[str, ...]:
    """The tokens that are steps of the epilogue: not the doubling, the bias or the statistics."""
    return tuple(token for token in tokens if token not in ("up2", "bias", "stats"))


def _finished(function: onnx.FunctionProto) -> str:
    """The value that a body hands out as its result ``y``."""
    return next(str(node.input[0]) for node in function.node if list(node.output) == ["y"])


def _body(call: onnx.NodeProto, function: onnx.FunctionProto) -> list[onnx.NodeProto]:
    """The nodes of ``function`` with the names and attributes of one call."""
    operands = [*call.input, *[""] * (len(function.input) - len(call.input))]
    renamed = dict(zip(function.input, operands, strict=True))
    renamed |= dict(zip(function.output, call.output, strict=False))
    renamed |= hidden_values(call, function)
    attributes = {attribute.name: attribute for attribute in call.attribute}
    nodes = []
    for position, inner in enumerate(function.node):
        node = onnx.NodeProto()
        node.CopyFrom(inner)
        node.name = f"{call.name}:{position}"
        for values in (node.input, node.output):
            values[:] = [renamed.get(v, f"{call.name}:{v}") if v else "" for v in values]
        _resolve(node, attributes)
        node.metadata_props.extend(call.metadata_props)
        nodes.append(node)
    return nodes


def _resolve(node: onnx.NodeProto, given: dict[str, onnx.AttributeProto]) -> None:
    """Replace references to the function's attributes by the call's values."""
    for attribute in node.attribute:
        if attribute.ref_attr_name:
            name, source = attribute.name, given[attribute.ref_attr_name]
            attribute.CopyFrom(source)
            attribute.name = name


def _check_names(graph: onnx.GraphProto) -> None:
    """ValueError if two values have one name: a graph uses a name with ``:`` as bodies do."""
    seen: set[str] = set()
    for name in (name for node in graph.node for name in node.output if name):
        if name in seen:
            raise ValueError(f"two values are called '{name}'")
        seen.add(name)
