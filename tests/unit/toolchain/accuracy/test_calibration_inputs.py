"""Calibration feeds what a graph declares: names, types and shapes of any exporter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest

from edgefusion.models.source import Source
from edgefusion.toolchain.accuracy.calibration_inputs import Inputs
from tests.graph_cases import Array, parse


@pytest.mark.parametrize("dtype", ["int64", "int32", "float", "float16", "double"])
@pytest.mark.parametrize(("batch", "timestep"), [(1, "[1]"), (1, "[]"), (2, "[2]")])
def test_a_unet_gets_its_own_types(tmp_path: Path, dtype: str, batch: int, timestep: str) -> None:
    floats = "float16" if dtype == "float16" else "float"
    model = parse(
        f"g ({floats}[{batch}, 4, 8, 8] sample, {dtype}{timestep} timestep, "
        f"{floats}[{batch}, 7, 8] encoder_hidden_states) => ({floats}[{batch}, 4, 8, 8] out_sample)"
        " { out_sample = Relu(sample) }"
    )
    path = tmp_path / "unet.onnx"
    onnx.save(model, path)
    session_types = {
        info.name: (
            onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type),
            tuple(dim.dim_value for dim in info.type.tensor_type.shape.dim),
        )
        for info in model.graph.input
    }
    seen: list[float] = []

    def run(feeds: Mapping[str, Array]) -> Mapping[str, Array]:
        assert {name: (v.dtype, v.shape) for name, v in feeds.items()} == session_types
        seen.append(float(feeds["timestep"].flat[0]))
        return {"out_sample": feeds["sample"] * 0}

    source = Source("onnx", "m", ("unet",), path)
    inputs = Inputs(source, ("a boat", "a fox"), steps=2)
    workload = inputs.workload("unet", path, lambda name: path)
    workload.drive(run)
    assert seen == [999.0, 499.0] * 2
    assert workload.evaluations == 4
