"""Ops that stand for others, written out: what defines them is a function of standard ops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper

from edgefusion.compiler.graph.opset import MEANING_CHANGED, in_place_of
from edgefusion.runtime.errors import InputError

PER_CHANNEL = MEANING_CHANGED["GroupNormalization"]


def body_of(
    node: onnx.NodeProto, schema: defs.OpSchema, types: Mapping[str, onnx.TypeProto]
) -> list[tuple[onnx.NodeProto, int]]:
    """The nodes that define ``node``, each with its operator set; none if nothing defines it."""
    function = onnx.FunctionProto()
    known: Any = schema  # the stubs of onnx lack these properties
    if known.has_context_dependent_function:
        operands = [types[name].SerializeToString() if name else b"" for name in node.input]
        text = known.get_context_dependent_function(node.SerializeToString(), operands)
        function.ParseFromString(text)
    elif known.has_function:
        function.CopyFrom(schema.function_body)
    if not function.node:
        return []
    version = next((o.version for o in function.opset_import if not o.domain), schema.since_version)
    given = {name: a.default_value for name, a in schema.attributes.items() if a.default_value.type}
    given |= {attribute.name: attribute for attribute in node.attribute}
    outer = dict(zip(function.input, [*node.input, *[""] * len(function.input)], strict=False))
    outer |= dict(zip(function.output, node.output, strict=False))
    nodes = []
    for inner in function.node:
        made = onnx.NodeProto()
        made.CopyFrom(inner)
        _set_attributes(made, given)
        nodes.append(made)
    return [(each, version) for each in in_place_of(node, nodes, outer)]


def _set_attributes(node: onnx.NodeProto, given: Mapping[str, onnx.AttributeProto]) -> None:
    """Put the call's attributes in the place of references to them."""
    for index in reversed(range(len(node.attribute))):
        attribute = node.attribute[index]
        if not attribute.ref_attr_name:
            continue
        name, source = attribute.name, given.get(attribute.ref_attr_name)
        if source is None:
            del node.attribute[index]
        else:
            attribute.CopyFrom(source)
            attribute.name = name


def group_normalization(
    node: onnx.NodeProto, version: int, sizes: Sequence[int], elem_type: int
) -> list[onnx.NodeProto]:
    """GroupNormalization of x [n, c, ...] = ``sizes`` in the one form that passes recognise.

    It has a scale and a bias for each channel, before operator set 21 for each group.
    """
    attributes = {attribute.name: attribute for attribute in node.attribute}
    groups = attributes["num_groups"].i
    if len(sizes) < 3 or groups < 1 or sizes[1] % groups:
        raise InputError(
            f"GroupNormalization '{node.name}': expected [n, channels, ...] whose channels "
            f"{groups} groups divide, found the shape {list(sizes)}"
        )
    members = sizes[1] // groups
    each = [sizes[1], *[1] * (len(sizes) - 2)]
    epsilon = attributes["epsilon"].f if "epsilon" in attributes else 1e-5
    dtype = helper.tensor_dtype_to_np_dtype(elem_type)
    constants = {
        "grouped_shape": np.array([sizes[0], groups, members * prod(sizes[2:])], np.int64),
        "whole_shape": np.array(sizes, np.int64),
        "ones": np.ones(groups, dtype),
        "zeros": np.zeros(groups, dtype),
        "one_a_channel": np.array(each, np.int64),
        "one_a_group": np.array([groups, 1], np.int64),
        "members": np.array([groups, members], np.int64),
    }
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value, name))
        for name, value in constants.items()
    ]
    parameters = {"scale": "scale", "bias": "bias"}
    if version < PER_CHANNEL:
        for name in parameters:
            parameters[name] = f"{name}_repeated"
            nodes += [
                helper.make_node("Reshape", [name, "one_a_group"], [f"{name}_column"]),
                helper.make_node("Expand", [f"{name}_column", "members"], [parameters[name]]),
            ]
    nodes += [
        helper.make_node("Reshape", ["x", "grouped_shape"], ["grouped"]),
        helper.make_node(
            "InstanceNormalization", ["grouped", "ones", "zeros"], ["n"], epsilon=epsilon
        ),
        helper.make_node("Reshape", ["n", "whole_shape"], ["normalized"]),
        helper.make_node("Reshape", [parameters["scale"], "one_a_channel"], ["gamma"]),
        helper.make_node("Mul", ["normalized", "gamma"], ["scaled"]),
        helper.make_node("Reshape", [parameters["bias"], "one_a_channel"], ["beta"]),
        helper.make_node("Add", ["scaled", "beta"], ["y"]),
    ]
    outer = dict(zip(("x", "scale", "bias", "y"), [*node.input, *node.output], strict=True))
    return in_place_of(node, nodes, outer)


def slices_of(node: onnx.NodeProto, axis: int, sizes: Mapping[str, int]) -> list[onnx.NodeProto]:
    """The Split ``node`` as a Slice for each result that holds anything; ``sizes`` of its results
    along ``axis``."""
    nodes, begin = [], 0
    for name in node.output:
        if not name:
            raise InputError(f"Split '{node.name}' makes a part that has no name")
        bounds = {"start": begin, "end": begin + sizes[name], "axis": axis}
        begin += sizes[name]
        if sizes[name]:
            nodes += [
                helper.make_node("Constant", [], [f"{name}.{key}"], value_ints=[value])
                for key, value in bounds.items()
            ]
            parts = [f"{name}.{key}" for key in bounds]
            nodes.append(helper.make_node("Slice", ["x", *parts], [name]))
    return in_place_of(node, nodes, {"x": node.input[0], **{n: n for n in node.output}})
