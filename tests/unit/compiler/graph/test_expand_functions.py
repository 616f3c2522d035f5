"""Expanding fused ops: the values stay, and the hidden ones get the network's names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgefusion.compiler.graph.expand_functions import expand_functions, hidden_values
from edgefusion.compiler.graph.functions import function_for
from edgefusion.compiler.memory.dram import plan_dram
from edgefusion.compiler.network.scales import measured_tensors
from edgefusion.compiler.schedule.schedule import schedule_named
from edgefusion.runtime.target import load_target
from edgefusion.toolchain.running.segments import session
from tests.calibration_cases import all_values, feeds, optimised_unet
from tests.graph_cases import Array, assert_same, execute, parse, random_feeds


def expanded(
    text: str, *functions: onnx.FunctionProto
) -> tuple[dict[str, Array], dict[str, Array]]:
    """The inputs of a case and all values of its expansion, which computes what the case does."""
    model = parse(text)
    model.functions.extend(functions)
    given = random_feeds(model)
    result = expand_functions(model)
    assert {node.domain for node in result.graph.node} == {""}
    assert not result.functions
    assert_same(execute(result, given), execute(model, given))
    return given, all_values(result, Path(), given)


def test_stages_of_a_convolution() -> None:
    given, values = expanded(
        """
        g (float[1, 3, 3, 2] x, float[4, 2, 3, 3] w, float[4] b, float[1, 1, 1, 4] v,
           float[1, 6, 6, 4] r) => (float[1, 6, 6, 4] y, float[2, 4] s) {
          [conv] y, s = edgefusion.ConvLast_up2_bias_add_silu_add_stats<strides = [1, 1],
            pads = [1, 1, 1, 1], dilations = [1, 1], group = 1>(x, w, b, v, r)
        }
        """,
        function_for("ConvLast", ("up2", "bias", "add", "silu", "add", "stats")),
    )
    stages = [values[f"conv:stage{i}"] for i in range(3)]
    np.testing.assert_allclose(stages[1], stages[0] + given["v"], atol=1e-5)
    np.testing.assert_allclose(stages[2], stages[1] / (1 + np.exp(-stages[1])), atol=1e-5)
    np.testing.assert_allclose(values["y"], stages[2] + given["r"], atol=1e-5)
    assert "conv:stage3" not in values


@pytest.mark.parametrize("masked", [False, True])
def test_scores_of_an_attention_op(masked: bool) -> None:
    mask, name = (", float[1, 1, 4, 5] m", "Attention_mask") if masked else ("", "Attention")
    text = f"""
        g (float[1, 4, 6] q, float[1, 5, 6] k, float[1, 5, 6] v{mask}) => (float[1, 4, 6] y) {{
          [att] y = edgefusion.{name}<num_heads = 2, scale = 0.5>(q, k, v{", m" if masked else ""})
        }}
        """
    given, values = expanded(text, function_for("Attention", ("mask",) if masked else ()))
    q, k = (given[n].reshape(1, -1, 2, 3).transpose(0, 2, 1, 3) for n in "qk")
    scores = 0.5 * q @ k.swapaxes(2, 3)
    np.testing.assert_allclose(values["att:scores_in"], scores, atol=1e-5)
    if masked:
        scores = scores + given["m"]
        np.testing.assert_allclose(values["att:scores_masked"], scores, atol=1e-5)
    exponentials = np.exp(scores)
    wanted = exponentials / exponentials.sum(-1, keepdims=True)
    np.testing.assert_allclose(values["att:scores_out"], wanted, atol=1e-5)


def test_ops_without_hidden_tensors_have_none() -> None:
    for kind, tokens in (("GroupNormLast", ("silu",)), ("GEGLU", ()), ("MatMul", ("bias",))):
        function = function_for(kind, tokens)
        call = onnx.helper.make_node(function.name, [], [], name="op", domain="edgefusion")
        assert hidden_values(call, function) == {}


@pytest.mark.parametrize("schedule", ["serial", "mlt"])
def test_every_hidden_tensor_of_the_unet_has_its_name(tiny_exports: Path, schedule: str) -> None:
    case = optimised_unet(tiny_exports)
    plan = plan_dram(case.network, load_target("exynos2400").machine, schedule_named(schedule))
    hidden = {name for name in plan.tensors if name not in case.network.tensors}
    model = expand_functions(case.model)
    shapes = {info.name for info in model.graph.value_info}
    made = {name for node in model.graph.node for name in node.output}
    assert len(hidden) > 80
    assert hidden <= made & shapes


def test_the_shape_of_everything_that_calibration_shows_is_known(tiny_exports: Path) -> None:
    """What has no size is in no budget of memory."""
    case = optimised_unet(tiny_exports)
    model = expand_functions(case.model)
    shapes = {info.name: info.type.tensor_type.shape for info in model.graph.value_info}
    shown = shapes.keys() & set(measured_tensors(case.network))
    assert any(name.endswith(":scores_in") for name in shown)
    unknown = [n for n in shown if not all(dim.HasField("dim_value") for dim in shapes[n].dim)]
    assert unknown == []


def test_the_unet_computes_the_same(tiny_exports: Path) -> None:
    case = optimised_unet(tiny_exports)
    folder = case.path.parent
    ours = session(expand_functions(case.model), folder).run(None, feeds())
    assert_same(list(map(np.asarray, ours)), session(case.path).run(None, feeds()), 1e-4)


def test_defects_are_named() -> None:
    model = parse("g (float[2] x) => (float[2] y) { [op] y = edgefusion.SiLU(x) }")
    with pytest.raises(ValueError, match="'op' calls 'SiLU'"):
        expand_functions(model)
    clash = parse(
        """g (float[2] x) => (float[2] y) {
          t = Relu(x)
          [op] y = edgefusion.SiLU(t)
        }"""
    )
    clash.functions.append(function_for("SiLU"))
    clash.graph.node[0].output[0] = clash.graph.node[1].input[0] = "op:t1"
    with pytest.raises(ValueError, match="two values are called 'op:t1'"):
        expand_functions(clash)
