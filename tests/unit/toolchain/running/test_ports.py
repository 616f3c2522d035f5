"""What goes into a component is checked, what comes out is as declared."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgefusion.compiler.bundle.bundle import Bundle
from edgefusion.runtime.errors import InputError
from edgefusion.toolchain.running.ports import checked_inputs, declared_outputs

INF, NAN = float("inf"), float("nan")


def bundle(kind: int) -> Bundle:
    """Stands for a bundle whose only input is ``x``[2]."""
    port = helper.make_tensor_value_info("x", kind, [2])
    model = helper.make_model(helper.make_graph([], "g", [port], []))
    return cast(Bundle, SimpleNamespace(graph_model=lambda _: model))


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (TensorProto.BOOL, np.array([True, False])),
        (TensorProto.BOOL, np.array([1, 0], np.uint8)),
        (TensorProto.INT16, np.array([-32768, 32767])),
        (TensorProto.UINT64, np.array([0, 2**64 - 1], np.uint64)),
        (TensorProto.UINT64, np.array([0, 5])),
        (TensorProto.INT64, np.array([3.0, -4.0])),
        (TensorProto.FLOAT, np.array([3, 2**40])),
        (TensorProto.FLOAT16, np.array([65504.0, 0.1])),
    ],
)
def test_values_that_the_type_holds_are_taken(kind: int, given: Any) -> None:
    found = checked_inputs(bundle(kind), "model", {"x": given})["x"]
    assert found.dtype == helper.tensor_dtype_to_np_dtype(kind)
    np.testing.assert_allclose(found.astype(np.float64), given.astype(np.float64), rtol=1e-3)


@pytest.mark.parametrize(
    ("kind", "given", "reason"),
    [
        (TensorProto.INT64, np.array([1.5, 2]), "holds 1.5 .float64., which int64 cannot hold"),
        (TensorProto.INT64, np.array([0, 2.0**63]), "int64 cannot hold"),
        (TensorProto.INT64, np.array([0, 2**64 - 1], np.uint64), "int64 cannot hold"),
        (TensorProto.INT16, np.array([1, 32768]), "holds 32768 .int64., which int16"),
        (TensorProto.UINT8, np.array([1, -1]), "holds -1 .int64., which uint8"),
        (TensorProto.UINT64, np.array([1, -1]), "holds -1 .int64., which uint64"),
        (TensorProto.BOOL, np.array([1, 2]), "holds 2 .int64., which bool"),
        (TensorProto.FLOAT, np.array([1, 1e39]), "which float32 cannot hold"),
        (TensorProto.FLOAT, np.array([1, NAN]), "NaN or infinite"),
        (TensorProto.FLOAT, np.array([1, -INF]), "NaN or infinite"),
        (TensorProto.FLOAT, np.array(["a", "b"]), "holds <U1 values; expected float32 numbers"),
        (TensorProto.FLOAT, np.array([1j, 0]), "complex128"),
        (TensorProto.FLOAT, np.array([1.0]), "has shape .1,.; expected .2,."),
    ],
)
def test_values_that_it_would_change_are_refused(kind: int, given: Any, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        checked_inputs(bundle(kind), "model", {"x": given})


def test_outputs_are_the_declared_ones_in_shape_and_type() -> None:
    declared = {"y": (TensorProto.FLOAT16, [2, 3]), "x": (TensorProto.INT16, [2])}
    outputs = [helper.make_tensor_value_info(name, *what) for name, what in declared.items()]
    graph = helper.make_graph([], "g", [], outputs)
    given = {"x": np.array([1, 2], np.int16)}
    made = {"memory": np.zeros(6, np.float32), "y": np.full(6, 0.1, np.float32)}
    found = declared_outputs(graph, given, made)
    assert list(found) == ["y", "x"]
    assert (found["y"].shape, found["y"].dtype) == ((2, 3), np.float16)
    np.testing.assert_array_equal(found["x"], given["x"])
