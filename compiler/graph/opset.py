"""Which standard operator sets are read, and how a node of one becomes nodes of ours.

Most ops are the same in every set that is read, or differ in the types that they take alone: such
a node stays as it is. The rest goes through ONNX's version converter, one node at a time, so that
what it cannot convert is refused by name, and so that the others keep names and metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx import defs, helper, version_converter

from edgefusion.compiler.graph.node import ORIGIN_KEY
from edgefusion.runtime.errors import InputError, UnsupportedOpError

OPSET = 20
"""Standard operator set that passes know, the first with Gelu and with GridSample as torch has it;
models of others are converted on loading."""

IR_VERSION = 10
"""Of the models made here: what torch writes; newer ones ONNX Runtime may not load."""

OLDEST_OPSET = 11
NEWEST_OPSET = min(26, defs.onnx_opset_version())
"""The newest that ONNX Runtime runs as released, for it is what results are compared with."""

MEANING_CHANGED: Mapping[str, int] = {
    "Softmax": 13,  # along one axis; before, over all axes from it on
    "LogSoftmax": 13,
    "Hardmax": 13,
    "RoiAlign": 16,  # half a pixel is subtracted by default
    "Split": 18,  # equal parts only where their number is given
    "DFT": 20,  # the axis became an operand, and another one by default
    "GridSample": 20,  # its modes have other names
    "GroupNormalization": 21,  # one scale a channel; before, one a group
}
"""Operator sets since which a node that reads the same means something else."""

_STANDARD = ("", "ai.onnx")


def opset_of(model: onnx.ModelProto) -> int:
    """The standard operator set of ``model``.

    Raises:
        InputError: it is none of those that are read.
    """
    version = next((o.version for o in model.opset_import if o.domain in _STANDARD), OPSET)
    if not OLDEST_OPSET <= version <= NEWEST_OPSET:
        raise InputError(
            f"expected operator set {OLDEST_OPSET} to {NEWEST_OPSET}, the model uses opset "
            f"{version}; export it again with opset_version={OPSET}"
        )
    return int(version)


def is_standard(node: onnx.NodeProto) -> bool:
    """Whether ``node`` calls a standard operator."""
    return node.domain in _STANDARD


def schema_of(node: onnx.NodeProto, version: int) -> defs.OpSchema:
    """The definition of a standard ``node`` in operator set ``version``.

    Raises:
        UnsupportedOpError: there is none.
    """
    try:
        schema = defs.get_schema(node.op_type, version, "")
    except defs.SchemaError:
        schema = None
    # Deprecated, and read all the same: with a scale a group. Others went before OLDEST_OPSET.
    if schema is None or (schema.deprecated and node.op_type != "GroupNormalization"):
        raise UnsupportedOpError(
            f"{node.op_type} '{node.name}' is no operator of the standard set {version}, which the "
            f"model says it uses; export it again with opset_version={OPSET}"
        )
    return schema


def reads_the_same(node: onnx.NodeProto, version: int) -> bool:
    """Whether ``node``, written for operator set ``version``, means the same in ours."""
    then = schema_of(node, version)
    changed = MEANING_CHANGED.get(node.op_type)
    if changed is not None and (version < changed) != (changed > OPSET):
        return False
    try:
        now = schema_of(node, OPSET)
    except UnsupportedOpError:
        return False
    if then.since_version == now.since_version:
        return True
    if len(node.input) > now.max_input or len(node.output) > now.max_output:
        return False
    names = [[p.name for p in schema.inputs[: len(node.input)]] for schema in (then, now)]
    needed = sum(p.option == defs.OpSchema.FormalParameterOption.Single for p in now.inputs)
    if [n.lower() for n in names[0]] != [n.lower() for n in names[1]] or len(node.input) < needed:
        return False
    given = {attribute.name: attribute for attribute in node.attribute}
    for name, attribute in then.attributes.items():
        other = now.attributes.get(name)
        default = _value(attribute.default_value)
        if name in given:
            unset = other is None and helper.get_attribute_value(given[name]) == default
            if not unset and (other is None or other.type != attribute.type):
                return False
        elif other is not None and _value(other.default_value) != default:
            return False
    return True


def _value(attribute: onnx.AttributeProto) -> Any:
    return helper.get_attribute_value(attribute) if attribute.type else None


def without_unknown_attributes(node: onnx.NodeProto) -> None:
    """Drop attributes that our set lacks: ``reads_the_same`` has seen that they say nothing."""
    known = schema_of(node, OPSET).attributes
    kept = [attribute for attribute in node.attribute if attribute.name in known]
    if len(kept) < len(node.attribute):
        del node.attribute[:]
        node.attribute.extend(kept)


def converted(
    node: onnx.NodeProto,
    version: int,
    types: Mapping[str, onnx.TypeProto],
    constants: Mapping[str, onnx.TensorProto],
) -> list[onnx.NodeProto]:
    """``node`` of operator set ``version`` as nodes of ours, by ONNX's version converter.

    ``types`` are those of its operands, ``constants`` the operands whose values are known.

    Raises:
        UnsupportedOpError: the converter has no rule for it.
    """
    read = dict.fromkeys(name for name in node.input if name)
    graph = helper.make_graph(
        [node],
        "one",
        [onnx.ValueInfoProto(name=n, type=types[n]) for n in read if n not in constants],
        [onnx.ValueInfoProto(name=name) for name in node.output if name],
        [named(constants[n], n) for n in read if n in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)])
    model.ir_version = IR_VERSION
    try:
        made = version_converter.convert_version(model, OPSET).graph
    except (RuntimeError, ValueError) as error:
        raise _refused(node, version, str(error)) from None
    nodes = []
    for tensor in made.initializer:
        if tensor.name not in read:
            constant = helper.make_node("Constant", [], [tensor.name], value=tensor)
            nodes.append(constant)
    nodes += [onnx.NodeProto.FromString(each.SerializeToString()) for each in made.node]
    for each in nodes:
        _check_known(each, node, version)
    return in_place_of(node, nodes, {name: name for name in (*node.input, *node.output)})


def _check_known(made: onnx.NodeProto, node: onnx.NodeProto, version: int) -> None:
    known = schema_of(made, OPSET).attributes
    lacking = [attribute.name for attribute in made.attribute if attribute.name not in known]
    if lacking:
        raise _refused(node, version, f"set {OPSET} has no {', '.join(lacking)} for it")


def _refused(node: onnx.NodeProto, version: int, reason: str) -> UnsupportedOpError:
    reason = " ".join(reason.split())[-160:].rstrip(".")
    return UnsupportedOpError(
        f"{node.op_type} '{node.name}' of operator set {version} cannot be converted to set "
        f"{OPSET}: {reason}. Export the model again with opset_version={OPSET}"
    )


def named(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    """A copy of ``tensor`` called ``name``."""
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    copy.name = name
    return copy


def in_place_of(
    source: onnx.NodeProto, nodes: Sequence[onnx.NodeProto], outer: Mapping[str, str]
) -> list[onnx.NodeProto]:
    """``nodes`` (which are changed) instead of ``source``: ``outer`` names what they share with the
    rest of the graph, other values are named after ``source``. Each has its metadata and knows that
    it stands for it."""
    names = {name: f"{source.name}.{name}" for node in nodes for name in node.output if name}
    names |= outer
    for index, node in enumerate(nodes):
        for values in (node.input, node.output):
            values[:] = [names.get(value, value) for value in values]
        node.name = source.name if len(nodes) == 1 else f"{source.name}.{index}.{node.op_type}"
        del node.metadata_props[:]
        node.metadata_props.extend(source.metadata_props)
        if all(prop.key != ORIGIN_KEY for prop in node.metadata_props):
            node.metadata_props.add(key=ORIGIN_KEY, value=json.dumps([source.name]))
    return list(nodes)
