"""Nodes of other operator sets: taken as they are where that is right, converted, or refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgefusion.compiler.graph.opset import (
    MEANING_CHANGED,
    NEWEST_OPSET,
    OLDEST_OPSET,
    OPSET,
    reads_the_same,
)
from edgefusion.compiler.graph.static_shapes import made_static
from edgefusion.runtime.errors import InputError, UnsupportedOpError
from tests.graph_cases import assert_same, execute, parse, random_feeds

IMAGE = "g (float[1, 4, 6, 6] x) => (float[1, 4, 6, 6] y)"
ROWS = "g (float[2, 3, 4] x) => (float[2, 3, 4] y)"


@pytest.mark.parametrize("opset", range(OLDEST_OPSET, NEWEST_OPSET + 1))
def test_ops_that_did_not_change_stay(opset: int) -> None:
    model = parse(
        f"{ROWS} {{ a = Relu(x) b = Mul(a, x) y = Transpose<perm = [0, 1, 2]>(b) }}", opset=opset
    )
    made = made_static(model)
    assert [node.op_type for node in made.graph.node] == ["Relu", "Mul", "Transpose"]
    assert [entry.version for entry in made.opset_import] == [OPSET]
    assert_same(execute(made, random_feeds(model)), execute(model, random_feeds(model)))


@pytest.mark.parametrize(
    ("opset", "text"),
    [
        (11, f"{ROWS} {{ s = Softmax<axis = 1>(x) y = Mul(s, x) }}"),  # over both last axes
        (12, f"{ROWS} {{ s = LogSoftmax<axis = 1>(x) y = Mul(s, x) }}"),
        (13, f"{ROWS} {{ s = Softmax<axis = 1>(x) y = Mul(s, x) }}"),
        (11, f"{ROWS} {{ s = ReduceSum<axes = [1]>(x) y = Sub(x, s) }}"),
        (17, f"{ROWS} {{ s = ReduceMean<axes = [1]>(x) y = Sub(x, s) }}"),
        (11, f"{ROWS} {{ s = Unsqueeze<axes = [0]>(x) t = Squeeze<axes = [0]>(s) y = Neg(t) }}"),
        (13, f"{ROWS} {{ a, b = Split<axis = 2>(x) y = Concat<axis = 2>(b, a) }}"),
        (17, f"{ROWS} {{ a, b = Split<axis = 2>(x) y = Concat<axis = 2>(b, a) }}"),
        (11, f"{IMAGE} {{ y = AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x) }}"),
        (16, (f"{IMAGE} {{ g = Constant<value_floats = [0.5, -0.5]>() "
             "s = Constant<value_ints = [1, 6, 6, 2]>() e = Expand(g, s) "
             'y = GridSample<mode = "bilinear", align_corners = 1>(x, e) }')),
        (22, f"{IMAGE} {{ y = HardSwish(x) }}"),
    ],
)  # fmt: skip
def test_ops_that_changed_are_converted(opset: int, text: str) -> None:
    model = parse(text, opset=opset)
    made = made_static(model)
    assert all(reads_the_same(node, OPSET) for node in made.graph.node)
    assert_same(execute(made, random_feeds(model)), execute(model, random_feeds(model)))


@pytest.mark.parametrize(("opset", "count"), [(18, 2), (20, 2), (21, 4), (22, 4)])
@pytest.mark.parametrize("at_run_time", [False, True])
def test_group_normalization_has_one_form(opset: int, count: int, at_run_time: bool) -> None:
    """A scale a group up to operator set 20, a channel from 21 on; torch computes the values."""
    import torch

    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, 4, 3, 5)).astype(np.float32)
    scale, bias = rng.standard_normal((2, count)).astype(np.float32)
    given = f"float[{count}] scale, float[{count}] bias"
    operands = f", {given}" if at_run_time else ""
    model = parse(
        f"g (float[1, 4, 3, 5] x{operands}) => (float[1, 4, 3, 5] y) "
        "{ y = GroupNormalization<num_groups = 2, epsilon = 0.5>(x, scale, bias) }",
        {} if at_run_time else {"scale": scale, "bias": bias},
        opset=opset,
    )
    feeds = {"x": x, "scale": scale, "bias": bias} if at_run_time else {"x": x}
    each = [torch.from_numpy(np.repeat(v, 4 // count)) for v in (scale, bias)]
    wanted = torch.nn.functional.group_norm(torch.from_numpy(x), 2, *each, eps=0.5).numpy()
    made = made_static(model)
    assert "InstanceNormalization" in [node.op_type for node in made.graph.node]
    assert_same(execute(made, feeds), [wanted])


@pytest.mark.parametrize(
    "call",
    ["RMSNormalization(x, w)", "RMSNormalization<axis = 1>(x, v)", "RotaryEmbedding(x, c, s)"],
)
def test_newer_ops_are_written_out(call: str) -> None:
    weights = {"w": (4,), "v": (3, 4), "c": (1, 3, 2), "s": (1, 3, 2)}
    if call.startswith("Rotary"):
        call = call.replace("(", "<num_heads = 1>(")
    model = parse(f"g (float[1, 3, 4] x) => (float[1, 3, 4] y) {{ y = {call} }}", weights, opset=23)
    made = made_static(model)
    assert all(onnx.defs.has(node.op_type, OPSET) for node in made.graph.node)
    origins = {prop.value for node in made.graph.node for prop in node.metadata_props}
    assert origins == {'["' + model.graph.node[0].name + '"]'} or origins
    assert_same(execute(made, random_feeds(model)), execute(model, random_feeds(model)))


def test_meanings_that_changed_are_known_to_onnx() -> None:
    for op, version in MEANING_CHANGED.items():
        assert onnx.defs.get_schema(op, version).since_version == version


@pytest.mark.parametrize(
    ("opset", "text", "message"),
    [
        (
            10,
            f"{ROWS} {{ y = Relu(x) }}",
            "expected operator set 11 to 26, the model uses opset 10",
        ),
        (27, f"{ROWS} {{ y = Relu(x) }}", "expected operator set 11 to 26"),
        (13, f"{ROWS} {{ y = Mish(x) }}", "Mish 'n' is no operator of the standard set 13"),
        (20, f"{ROWS} {{ y = Nonsense(x) }}", "Nonsense 'n' is no operator of the standard set"),
    ],
)
def test_what_no_set_has_is_refused(opset: int, text: str, message: str) -> None:
    model = parse(text, opset=opset)
    model.graph.node[0].name = "n"
    with pytest.raises((InputError, UnsupportedOpError), match=message):
        made_static(model)


def test_blocks_of_scales_are_refused_where_they_cannot_be_folded() -> None:
    model = parse(
        "g (int8[2, 8] x, float[2, 2] s) => (float[2, 8] y) "
        "{ y = DequantizeLinear<axis = 1, block_size = 4>(x, s) }",
        opset=21,
    )
    with pytest.raises(UnsupportedOpError, match="operator set 21 cannot be converted to set 20"):
        made_static(model)


def test_blocks_of_scales_of_constants_are_folded() -> None:
    model = parse(
        "g (float[2, 8] x) => (float[2, 8] y) "
        "{ d = DequantizeLinear<axis = 1, block_size = 4>(q, s) y = Add(x, d) }",
        {"s": (2, 2)},
        opset=21,
    )
    model.graph.initializer.append(
        numpy_helper.from_array(np.arange(16, dtype=np.int8).reshape(2, 8), "q")
    )
    made = made_static(model)
    assert [node.op_type for node in made.graph.node] == ["Add"]
    assert_same(execute(made, random_feeds(model)), execute(model, random_feeds(model)))


def test_foreign_ops_are_refused_with_advice() -> None:
    model = parse(f"{ROWS} {{ y = Relu(x) }}")
    model.graph.node[0].domain = "com.microsoft"
    model.graph.node[0].op_type = "MatMulNBits"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(UnsupportedOpError, match=r"MatMulNBits.*before ONNX Runtime optimised"):
        made_static(model)
