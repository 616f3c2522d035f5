"""Graphs of more weights than are kept in memory run in parts, and compute what the whole does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgefusion.runtime.errors import InputError
from edgefusion.toolchain.running import float_network as module
from edgefusion.toolchain.running import segments
from edgefusion.toolchain.running.float_network import float_network
from tests.calibration_cases import feeds, optimised_unet

WEIGHT_BYTES = 200_000


@contextmanager
def little_memory(count: list[Any]) -> Iterator[None]:
    """For weights of a tenth of the tiny U-Net; ``count`` gets the sessions that are made."""
    session = segments.session

    def counted(*arguments: Any, **options: Any) -> Any:
        count.append(options)
        return session(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "SEGMENT_WEIGHT_BYTES", WEIGHT_BYTES)
        patch.setattr(module, "KEPT_WEIGHT_BYTES", 0)
        patch.setattr(segments, "session", counted)
        patch.setattr(module, "session", counted)
        yield


@pytest.mark.parametrize("as_written", [True, False])
def test_an_export_in_parts(tiny_exports: Path, as_written: bool) -> None:
    path = tiny_exports / "unet.onnx"
    whole = float_network(path, None, "it", as_written=as_written)(feeds())
    made: list[Any] = []
    with little_memory(made):
        found = float_network(path, None, "it", as_written=as_written)(feeds())
    assert len(made) > 10
    assert all(options["as_written"] == as_written for options in made)
    assert found.keys() == whole.keys()
    np.testing.assert_allclose(found["noise_pred"], whole["noise_pred"], atol=1e-5)


def test_a_graph_of_fused_ops_in_parts(tiny_exports: Path) -> None:
    case = optimised_unet(tiny_exports)
    whole = float_network(case.path, None, "it")(feeds())
    made: list[Any] = []
    with little_memory(made):
        network = float_network(case.model, case.path.parent, "it")
        found = network(feeds() | {"timestep": np.int32(499)})
    assert len(made) > 5
    np.testing.assert_allclose(found["noise_pred"], whole["noise_pred"], atol=1e-4)
    with pytest.raises(
        InputError, match="it takes the input encoder_hidden_states, which was not given"
    ):
        network({})


@pytest.mark.parametrize("form", ["branch", "open size", "constant input"])
def test_odd_graphs(form: str, tmp_path: Path) -> None:
    """Branches read what no input says. Open sizes, and constants that are declared as inputs, do
    not matter."""
    shape = ["n", 4] if form == "open size" else [2, 4]
    constant = numpy_helper.from_array(np.full((4,), 2, np.float32), "c")
    nodes = [helper.make_node("Mul", ["x", "c"], ["t"])]
    if form == "branch":
        inner = helper.make_graph(
            [helper.make_node("Mul", ["t", "t"], ["b"])], "b", [],
            [helper.make_tensor_value_info("b", 1, shape)],
        )  # fmt: skip
        flag = numpy_helper.from_array(np.array(True), "flag")
        nodes += [helper.make_node("If", ["flag"], ["y"], then_branch=inner, else_branch=inner)]
    else:
        flag = numpy_helper.from_array(np.full((4,), 3, np.float32), "flag")
        nodes += [helper.make_node("Add", ["t", "flag"], ["y"])]
    inputs = [helper.make_tensor_value_info("x", 1, shape)]
    if form == "constant input":
        inputs.append(helper.make_tensor_value_info("c", 1, [4]))
    model = helper.make_model(
        helper.make_graph(
            nodes, "g", inputs, [helper.make_tensor_value_info("y", 1, shape)], [constant, flag]
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    path = tmp_path / "it.onnx"
    onnx.save(model, path)
    made: list[Any] = []
    with little_memory(made):
        (found,) = float_network(path, None, "it")({"x": x}).values()
    np.testing.assert_array_equal(found, 4 * x * x if form == "branch" else 2 * x + 3)
