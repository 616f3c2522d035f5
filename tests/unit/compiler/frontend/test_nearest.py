"""Which input a nearest Resize reads: ONNX Runtime's own answer, and where that is repetition."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from edgefusion.compiler.frontend.nearest import nearest_factor, nearest_indices
from edgefusion.compiler.graph.graph import Graph, Node
from tests.graph_cases import Array, execute, parse

COORDINATES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
ROUNDING = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
NEAREST = 'mode = "nearest"'
SCALES = (1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 1.05, 1.5, 2.1, 2.19, 3.0001, 0.5, 1 / 3)


def resize(modes: str, sizes: tuple[int, int], target: dict[str, Array]) -> tuple[Node, Array]:
    """A Resize of x[1,h,w,1], whose values are their own places, and ONNX Runtime's result."""
    operands = "x, , t" if "scales" in target else "x, , , t"
    (values,) = target.values()
    height, width = sizes
    x = np.arange(height * width, dtype=np.float32).reshape(1, height, width, 1)
    text = f"g (float[1, {height}, {width}, 1] x) => (float[a, b, c, d] y) "
    model = parse(f"{text} {{ y = Resize<{modes}>({operands}) }}", {"t": values})
    (y,) = execute(model, {"x": x})
    for dim, size in zip(model.graph.output[0].type.tensor_type.shape.dim, y.shape, strict=True):
        dim.dim_value = size
    (node,) = Graph.from_model(model).nodes
    return node, y


@pytest.mark.parametrize("where", COORDINATES)
def test_indices_are_those_of_onnx_runtime(where: str) -> None:
    for rounding, scale in product(ROUNDING, SCALES):
        modes = f'coordinate_transformation_mode = "{where}", nearest_mode = "{rounding}"'
        target = {"scales": np.array([1, scale, 2, 1], np.float32)}
        node, y = resize(modes, (6, 5), target)
        rows = nearest_indices(node, 1)
        assert rows is not None
        np.testing.assert_array_equal(rows, y[0, :, 0, 0] // 5, err_msg=f"{modes}, {scale}")
        columns = nearest_indices(node, 2)
        np.testing.assert_array_equal(columns, y[0, 0, :, 0] % 5, err_msg=f"{modes}, 2")
        repeated = np.array_equal(y, np.repeat(np.repeat(y[:, ::2, ::2], 2, 1), 2, 2))
        if nearest_factor(node) == 2:
            assert repeated
            np.testing.assert_array_equal(y[0, ::2, ::2, 0], np.arange(30).reshape(6, 5))


@pytest.mark.parametrize(
    ("modes", "target", "factor"),
    [
        (NEAREST, {"scales": np.array([1, 2, 2, 1], np.float32)}, 2),
        (NEAREST, {"sizes": np.array([1, 18, 15, 1])}, 3),
        (NEAREST, {"scales": np.array([1, 1, 1, 1], np.float32)}, 1),
        (NEAREST, {"scales": np.array([1, 2, 3, 1], np.float32)}, None),
        ('mode = "linear"', {"scales": np.array([1, 2, 2, 1], np.float32)}, None),
        (
            'nearest_mode = "floor", coordinate_transformation_mode = "asymmetric"',
            {"scales": np.array([1, 2.1, 2.1, 1], np.float32)},
            None,
        ),
        ('keep_aspect_ratio_policy = "not_smaller"', {"sizes": np.array([1, 12, 10, 1])}, None),
        ("axes = [0, 1, 2, 3]", {"scales": np.array([1, 2, 2, 1], np.float32)}, None),
    ],
)
def test_factor_only_where_every_pixel_is_repeated(
    modes: str, target: dict[str, Array], factor: int | None
) -> None:
    assert nearest_factor(resize(modes, (6, 5), target)[0]) == factor
