"""Forms of standard ops that nothing here computes as ONNX defines them."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import helper, numpy_helper

DRAWING = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli"}
    | {"Multinomial"}
)
"""Ops that draw random numbers whatever they are given."""
RANDOM = DRAWING | {"Dropout"}
"""Ops whose result differs from run to run (Dropout only while training, but it is an identity)."""


def refused_form(
    node: onnx.NodeProto,
    constants: Mapping[str, onnx.TensorProto],
    types: Mapping[str, onnx.TypeProto],
) -> str:
    """Why a standard ``node`` cannot be compiled, whatever it is compiled for; '' if it can."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == "Dropout":
        mode = node.input[2] if len(node.input) > 2 else ""
        off = not mode or (mode in constants and not numpy_helper.to_array(constants[mode]).any())
        return "" if off else "it drops at random, in training mode; export the model for inference"
    if node.op_type in DRAWING:
        return (
            "it draws random numbers, which differ from run to run and between machines; make "
            "them an input of the model"
        )
    if node.op_type == "MaxUnpool" and len(node.input) > 2 and node.input[2]:
        return "with output_shape, ONNX Runtime puts values elsewhere than ONNX says"
    if node.op_type == "Resize" and len(node.input) > 2 and node.input[2] in constants:
        aligned = attributes.get("coordinate_transformation_mode") == b"align_corners"
        scales = numpy_helper.to_array(constants[node.input[2]])
        sizes = [dim.dim_value for dim in types[node.input[0]].tensor_type.shape.dim]
        axes = attributes.get("axes", range(len(sizes)))
        whole = all(
            float(size).is_integer()
            for size in (float(s) * sizes[a] for s, a in zip(scales, axes, strict=False))
        )
        if aligned and not whole:
            return "with align_corners and scales that give no whole size, its text is ambiguous"
    return ""
