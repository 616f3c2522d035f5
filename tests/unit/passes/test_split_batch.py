"""split-batch: images one after the other where an op takes one, together where rows do."""

from __future__ import annotations

import numpy as np
import pytest

from edgefusion.passes.split_batch import MAX_IMAGES, SplitBatch
from tests.graph_cases import Weights, rewritten, untouched

WEIGHTS: Weights = {
    "w": (4, 4, 3, 3),
    "b": (4,),
    "k": (4, 6),
    "per_image": (3, 4, 1, 1),
    "flat": np.asarray([3, 4], np.int64),
    "scales": np.asarray([1, 1, 2, 2], np.float32),
    "sizes": np.asarray([3, 4, 12, 8], np.int64),
    "axes": np.asarray([2, 3], np.int64),
    "begin": np.asarray([1], np.int64),
    "end": np.asarray([3], np.int64),
    "along": np.asarray([1], np.int64),
}
CONV = "c = Conv<pads = [1, 1, 1, 1]>(x, w, b)"


def case(body: str, shape: str = "3, 4, 6, 4", images: int = 3) -> str:
    return f"g (float[{images}, 4, 6, 4] x) => (float[{shape}] y) {{ {body} }}"


@pytest.mark.parametrize(
    ("body", "shape", "joined", "cut"),
    [
        (f"{CONV} y = Relu(c)", "3, 4, 6, 4", 1, 3),
        (f"{CONV} r = Relu(c) y = Add(r, x)", "3, 4, 6, 4", 1, 3),
        (f"{CONV} m = Mul(per_image, c) y = Add(m, b1)", "3, 4, 6, 4", 1, 3),
        (f"{CONV} y = Concat<axis = 1>(c, x)", "3, 8, 6, 4", 1, 3),
        (
            f"{CONV} p = GlobalAveragePool(c) f = Reshape(p, flat) y = MatMul(f, k)",
            "3, 6",
            1,
            3,
        ),
        (f"{CONV} y = ReduceMean<keepdims = 0>(c, axes)", "3, 4", 1, 3),
        ("r = Relu(x) y = ReduceMean<keepdims = 0>(r, axes)", "3, 4", 1, 3),
        (f"{CONV} y = Resize(c, , scales)", "3, 4, 12, 8", 1, 3),
        (f"{CONV} y = Resize(c, , , sizes)", "3, 4, 12, 8", 1, 3),
        (f"{CONV} y = Transpose<perm = [0, 2, 3, 1]>(c)", "3, 6, 4, 4", 1, 3),
        (f"{CONV} y = Slice(c, begin, end, along)", "3, 2, 6, 4", 1, 3),
        (f"{CONV} y = Softmax<axis = 0>(c)", "3, 4, 6, 4", 1, 3),
        (f"{CONV} y, z = Split<axis = 1, num_outputs = 2>(c)", "3, 2, 6, 4", 1, 3),
        (f"{CONV} y = Conv<pads = [1, 1, 1, 1]>(c, w)", "3, 4, 6, 4", 1, 3),
        ("y = MaxPool<kernel_shape = [2, 2]>(x)", "3, 4, 5, 3", 1, 3),
        (f"{CONV} f = Flatten(c) y = Relu(f)", "3, 96", 1, 3),
    ],
)
def test_values_stay(body: str, shape: str, joined: int, cut: int) -> None:
    weights = {**WEIGHTS, "b1": (4, 1, 1)}
    outcome = rewritten(SplitBatch(), case(body, shape), weights)
    whole = [n for n in outcome.graph.nodes if n.op == "Concat" and n.get_int("axis") == 0]
    assert len(whole) == joined
    images = [n for n in outcome.graph.nodes if n.op == "Slice" and n.inputs[0].name == "x"]
    assert len(images) in (cut, 0 if "Relu(x)" in body else cut)
    for node in outcome.graph.nodes:
        if node.op in ("Conv", "MaxPool", "Resize", "GlobalAveragePool"):
            assert node.inputs[0].shape[0] == 1


def test_result_that_is_output_and_read_on() -> None:
    text = (
        "g (float[2, 4, 6, 4] x) => (float[2, 4, 6, 4] y, float[2, 4, 6, 4] z) "
        f"{{ {CONV.replace('c =', 'y =')} z = Relu(y) }}"
    )
    assert rewritten(SplitBatch(), text, WEIGHTS).ops.count("Concat") == 2


def test_one_image_stays() -> None:
    assert untouched(SplitBatch(), case(f"{CONV} y = Relu(c)", "1, 4, 6, 4", 1), WEIGHTS).ops


def test_more_images_than_are_worth_compiling_stay() -> None:
    count = MAX_IMAGES + 1
    text = case(f"{CONV} y = Relu(c)", f"{count}, 4, 6, 4", count)
    assert f"more than {MAX_IMAGES}" in untouched(SplitBatch(), text, WEIGHTS).missed
