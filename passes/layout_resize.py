"""How a Resize of images reads in channels-last layout (``layout_rules`` says what a rule is).

One that repeats pixels stays a Resize. Every other is linear in the pixels, and works along the
rows and along the columns by itself: two products with matrices that ONNX Runtime tells, asked for
the result of each pixel alone.
"""

from __future__ import annotations

import numpy as np
import onnx

from edgefusion.compiler.frontend.nearest import nearest_factor
from edgefusion.compiler.graph.graph import Node, Tensor
from edgefusion.compiler.graph.opset import IR_VERSION, OPSET
from edgefusion.compiler.graph.weights import Array
from edgefusion.passes.layout_forms import Forms, to_last, twin
from edgefusion.runtime.ort_session import open_session, telling

MAX_ELEMENTS = 1 << 20
"""Of a matrix: 1024 pixels from as many."""


def resize(forms: Forms, node: Node) -> str:
    """Scales or sizes change places, or become matrices."""
    x = node.inputs[0]
    if x.rank != 4:
        return f"it works over {x.rank - 2} spatial axes, the NPU over two"
    if nearest_factor(node, (2, 3)) is not None and x.shape[0] == 1:
        return _repeated(forms, node)
    if reason := _refusal(node):
        return reason
    last = forms.last(x, node)
    for axis in (2, 1):
        if matrix := _matrix(forms, node, axis + 1):
            last = _along(forms, node, last, axis, matrix)
    forms.set_last(node.output, last)
    return ""


def _repeated(forms: Forms, node: Node) -> str:
    inputs: list[Tensor | None] = [forms.last(node.inputs[0], node), None]
    for index in (2, 3):
        tensor = node.input(index)
        if tensor is None:
            inputs.append(None)
            continue
        if not tensor.is_constant:
            return "its scales are not known at compile time"
        values = tensor.values()
        inputs.append(
            forms.graph.constant(f"{tensor.name}_last", values[list(to_last(4))])
            if values.size
            else None
        )
    while inputs[-1] is None:
        inputs.pop()
    twin(forms, node, "Resize", inputs, node.attrs)
    return ""


def _refusal(node: Node) -> str:
    """Why no matrices are made of ``node``; '' if they are."""
    x, y = node.inputs[0].shape, node.output.shape
    mode = node.get_str("coordinate_transformation_mode", "half_pixel")
    if x[:2] != y[:2] or 0 in y:
        return "it works over other axes than height and width"
    if "axes" in node.attrs or mode == "tf_crop_and_resize":
        return "it works on a part of the image"
    if node.get_str("keep_aspect_ratio_policy", "stretch") != "stretch":
        return "its scales follow from each other"
    sizes = [tensor for tensor in (node.input(2), node.input(3)) if tensor is not None]
    if not all(tensor.is_constant for tensor in sizes):
        return "its scales are not known at compile time"
    if max(x[axis] * y[axis] for axis in (2, 3)) > MAX_ELEMENTS:
        return "its images are too large for matrices"
    return ""


def _matrix(forms: Forms, node: Node, axis: int) -> Tensor | None:
    """What ``node`` does along ``axis`` of x[n, c, h, w], as [before, after]; None for nothing."""
    values = weights_of(node, axis)
    if values.shape[0] == values.shape[1] and np.array_equal(values, np.eye(len(values))):
        return None
    dtype = node.output.dtype
    return forms.graph.constant(f"{node.name}_{'hw'[axis - 2]}", values.astype(dtype))


def weights_of(node: Node, axis: int) -> Array:
    """By pixel before and after along ``axis`` of x[n, c, h, w], its weight. Raises InputError
    where ONNX Runtime cannot run ``node``."""
    size, count = node.inputs[0].shape[axis], node.output.shape[axis]
    scales = node.input(2)
    given: Array = np.asarray([size, 1, count, 1], np.int64)
    named = ["x", "", "", "sizes"]
    if scales is not None and scales.values().size:
        given, named = np.asarray([1, 1, scales.values()[axis], 1], np.float32), ["x", "", "scales"]
    shapes = [(size, 1, size, 1), (size, 1, count, 1)]
    infos = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in zip(("x", "y"), shapes, strict=True)
    ]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Resize", named, ["y"], **node.attrs)],
        "axis",
        infos[:1],
        infos[1:],
        [onnx.numpy_helper.from_array(given, named[-1])],
    )
    opset = onnx.helper.make_opsetid("", OPSET)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    what = f"the matrix of Resize '{node.name}'"
    session = open_session(model.SerializeToString(), what)
    with telling(f"compute {what}"):
        (made,) = session.run(None, {"x": np.eye(size, dtype=np.float32).reshape(shapes[0])})
    found: Array = np.asarray(made).reshape(size, count)
    return found


def _along(forms: Forms, node: Node, x: Tensor, axis: int, matrix: Tensor) -> Tensor:
    """x[n, h, w, c] times ``matrix`` along ``axis``."""
    turn = tuple(3 if i == axis else axis if i == 3 else i for i in range(4))
    turned = forms.move(x, turn, node)
    shape = (*turned.shape[:3], matrix.shape[1])
    product = forms.graph.tensor(f"{node.output.name}_{'hw'[axis - 1]}", shape, x.dtype)
    made = forms.graph.add("MatMul", [turned, matrix], [product], source=[node], before=node)
    forms.twins[node] = made
    return forms.move(product, turn, node)
