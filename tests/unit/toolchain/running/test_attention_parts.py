"""Attention a part of the queries at a time computes what it does at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from edgefusion.compiler.graph.expand_functions import expand_functions
from edgefusion.compiler.graph.functions import DOMAIN, function_for
from edgefusion.compiler.graph.opset import OPSET
from edgefusion.toolchain.running.attention_parts import attention_in_parts
from tests.calibration_cases import all_values

QUERIES, KEYS, HEADS = 11, 7, 2


def attention(mask: tuple[int, ...] | None) -> onnx.ModelProto:
    names = ["q", "k", "v", *(["mask"] if mask is not None else [])]
    function = function_for("Attention", ("mask",) if mask is not None else ())
    shapes = {"q": (3, QUERIES, 8), "k": (3, KEYS, 8), "v": (3, KEYS, 6), "mask": mask}
    node = helper.make_node(
        function.name, names, ["y"], "attn", domain=DOMAIN, num_heads=HEADS, scale=0.5
    )
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info(name, 1, shapes[name]) for name in names],
        [helper.make_tensor_value_info("y", 1, (3, QUERIES, 6))],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, functions=[function], opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize(
    "mask", [None, (3, 1, QUERIES, KEYS), (1, 1, 1, KEYS), (QUERIES, KEYS), (KEYS,)], ids=str
)
@pytest.mark.parametrize("rows", [1, 4, 100])
def test_values_are_those_of_the_whole(
    mask: tuple[int, ...] | None, rows: int, tmp_path: Path
) -> None:
    model = attention(mask)
    limit = rows * 3 * HEADS * KEYS * 4 + 1
    parted, whole = attention_in_parts(model, limit)
    rng = np.random.default_rng(0)
    feeds = {
        info.name: rng.standard_normal(
            [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        ).astype(np.float32)
        for info in model.graph.input
    }
    wanted = all_values(expand_functions(model), tmp_path, feeds)
    found = all_values(expand_functions(parted), tmp_path, feeds)
    np.testing.assert_allclose(found["y"], wanted["y"], atol=1e-6)
    inside = {name for name in wanted if "scores" in name}
    if rows >= QUERIES:
        assert not whole
        return
    assert set(whole.values()) == inside
    for name in inside:
        parts = [found[part] for part, of in whole.items() if of == name]
        assert max(part.shape[2] for part in parts) <= rows
        np.testing.assert_allclose(np.concatenate(parts, axis=2), wanted[name], atol=1e-6)
