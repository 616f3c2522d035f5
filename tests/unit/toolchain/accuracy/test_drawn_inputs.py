"""Drawn inputs: what ONNX Runtime accepts, and what leaves no row masked out."""

from __future__ import annotations

import numpy as np
import pytest

from edgefusion.toolchain.accuracy.drawn_inputs import drawn_inputs, fitted_inputs, zeroed
from tests.graph_cases import execute, parse

EMBEDDING = """g (int64[1,400] ids) => (float[1,400,4] y) {
    a = Constant <value = int64[2] {1, 400}> ()
    b = Reshape(ids, a)
    y = Gather(table, b)
}"""
TWICE = """g (int32[50] ids) => (float[50,4] y) {
    c = Cast <to = 7> (ids)
    p = Gather(table, c)
    q = Gather(small, ids)
    y = Add(p, q)
}"""


@pytest.mark.parametrize(
    ("text", "weights", "extent"),
    [
        (EMBEDDING, {"table": (30, 4)}, 30),
        (TWICE, {"table": (30, 4), "small": (5, 4)}, 5),
    ],
)
def test_indices_stay_within_what_they_index(
    text: str, weights: dict[str, tuple[int, ...]], extent: int
) -> None:
    model = parse(text, weights)
    feeds = drawn_inputs(model, np.random.default_rng(0))
    assert 0 <= feeds["ids"].min() < feeds["ids"].max() == extent - 1
    assert np.isfinite(execute(model, feeds)[0]).all()


def test_what_indices_are_computed_from_is_zero() -> None:
    text = """g (int64[50] ids) => (float[50,4] y) {
        c = Add(ids, one)
        y = Gather(table, c)
    }"""
    model = parse(text, {"table": (2, 4), "one": np.array([1])})
    feeds = drawn_inputs(model, np.random.default_rng(0))
    assert not feeds["ids"].any()
    assert np.isfinite(execute(model, feeds)[0]).all()


@pytest.mark.parametrize("kind", ["bool", "int64", "int32", "float"])
@pytest.mark.parametrize("shape", [(1, 8), (1, 1, 8, 8), (2, 2)])
def test_a_mask_holds_both_values_in_every_row(kind: str, shape: tuple[int, ...]) -> None:
    sizes = ",".join(map(str, shape))
    port = f"{kind}[{sizes}]"
    model = parse(f"g ({port} some_Mask) => ({port} y) {{ y = Identity(some_Mask) }}")
    mask = drawn_inputs(model, np.random.default_rng(0))["some_Mask"]
    assert set(np.unique(mask)) == {0, 1}
    assert (mask.max(-1) == 1).all()
    assert (mask.min(-1) == 0).all()


def test_truth_values_are_known_by_their_use() -> None:
    model = parse("g (int64[1,9] keep) => (bool[1,9] y) { y = Cast <to = 9> (keep) }")
    assert set(drawn_inputs(model, np.random.default_rng(0))["keep"].flat) == {0, 1}


@pytest.mark.parametrize("kind", ["uint8", "int8", "int16", "uint16", "int32", "int64"])
def test_other_whole_numbers_are_not_zero(kind: str) -> None:
    """They may be divided by, which ends the process."""
    model = parse(f"g ({kind}[500] x) => ({kind}[500] y) {{ y = Div(x, x) }}")
    drawn = drawn_inputs(model, np.random.default_rng(0))["x"]
    assert drawn.all()
    assert len(np.unique(drawn)) > 3


def test_types_and_scalars() -> None:
    ports = "float16 a, double[2] b, bool c, float[0,3] d"
    model = parse(f"g ({ports}) => (float16 y) {{ y = Identity(a) }}")
    feeds = drawn_inputs(model, np.random.default_rng(0))
    assert {n: (v.dtype.name, v.shape) for n, v in feeds.items()} == {
        "a": ("float16", ()), "b": ("float64", (2,)), "c": ("bool", ()), "d": ("float32", (0, 3)),
    }  # fmt: skip


def test_fitting_takes_the_graphs_type_and_rank() -> None:
    model = parse("g (float timestep, float[1,2] x) => (float y) { y = Identity(timestep) }")
    found = [("timestep", np.array([999])), ("x", np.zeros((3, 3))), ("z", np.zeros(1))]
    fitted = fitted_inputs(model, found)
    assert fitted.keys() == {"timestep"}, "of another size, and of another name"
    assert fitted["timestep"].dtype == np.float32
    assert fitted["timestep"].shape == ()


def test_zeroed_leaves_all_but_whole_numbers() -> None:
    feeds = {"i": np.array([3]), "b": np.array([True]), "f": np.array([1.5])}
    assert {name: value.item() for name, value in zeroed(feeds).items()} == {
        "i": 0, "b": True, "f": 1.5,
    }  # fmt: skip
