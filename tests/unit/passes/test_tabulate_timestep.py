"""tabulate-timestep: what depends on the timestep alone is looked up, exactly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgefusion.compiler.graph.graph import Graph
from edgefusion.compiler.host.trust import Bounds, bounds
from edgefusion.passes.tabulate_timestep import TabulateTimestep
from tests.graph_cases import CONTEXT, execute, parse, random_feeds

EMBEDDING = """
g (int64[1] timestep, float[1, 4] x) => (float[1, 4] y, float[1, 4] z)
<float[1, 4] frequencies = {1.0, 0.5, 0.25, 0.125}> {
    t = Cast<to = 1>(timestep)
    angles = Mul(t, frequencies)
    wave = Sin(angles)
    a = Exp(wave)
    b = Neg(wave)
    y = Add(x, a)
    z = Mul(x, b)
}
"""
STEPS = (999, 759, 499, 259)


def tabulated(model: onnx.ModelProto, timesteps: tuple[int, ...] = STEPS) -> tuple[Graph, int]:
    graph = Graph.from_model(model)
    result = TabulateTimestep(timesteps).run(graph, replace(CONTEXT, component="unet"))
    return graph, result.matched


@pytest.mark.parametrize("timestep", STEPS)
def test_values_are_exactly_those_that_were_computed(timestep: int) -> None:
    model = parse(EMBEDDING)
    graph, matched = tabulated(model)
    feeds = {"timestep": np.array([timestep]), "x": np.ones((1, 4), np.float32)}
    assert matched == 2
    assert {node.op for node in graph.nodes} == {
        *("Equal", "Cast", "Concat", "ArgMax", "Gather"),
        *("Add", "Mul"),
    }
    for found, wanted in zip(execute(graph.to_model(), feeds), execute(model, feeds), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_an_unknown_timestep_gives_no_number() -> None:
    graph, _ = tabulated(parse(EMBEDDING))
    feeds = {"timestep": np.array([500]), "x": np.ones((1, 4), np.float32)}
    assert all(np.isnan(value).all() for value in execute(graph.to_model(), feeds))


def test_a_single_table_shares_no_node() -> None:
    """As in a student whose guidance embedding is added to sines and cosines of the timestep."""
    model = parse("""
g (int64[1] timestep, float[1, 4] x) => (float[1, 4] y)
<float[1, 4] frequencies = {1.0, 0.5, 0.25, 0.125}> {
    t = Cast<to = 1>(timestep)
    angles = Mul(t, frequencies)
    wave = Sin(angles)
    y = Add(x, wave)
}
""")
    graph, matched = tabulated(model)
    assert matched == 1
    assert all(node.origin for node in graph.nodes)
    feeds = {"timestep": np.array([499]), "x": np.ones((1, 4), np.float32)}
    np.testing.assert_array_equal(execute(graph.to_model(), feeds)[0], execute(model, feeds)[0])


def test_origins_say_what_a_table_stands_for() -> None:
    graph, _ = tabulated(parse(EMBEDDING))
    origins = {node.output.name: node.origin for node in graph.nodes if node.op == "Gather"}
    assert origins == {"a.row": ("Exp_a",), "b.row": ("Neg_b",)}
    (equal,) = (node for node in graph.nodes if node.op == "Equal")
    assert equal.origin == ("Cast_t", "Mul_angles", "Sin_wave")


SPLIT = """
g (int64[1] timestep, float[1, 2] x) => (float[1, 2] y, float[1, 2] z)
<float[1, 4] frequencies = {1.0, 0.5, 0.25, 0.125}> {
    t = Cast<to = 1>(timestep)
    angles = Mul(t, frequencies)
    wave = Sin(angles)
    scale, shift = Split<axis = 1, num_outputs = 2>(wave)
    scaled = Mul(x, scale)
    y = Add(scaled, shift)
    z = Add(scaled, scale)
}
"""


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (SPLIT, 2),
        (SPLIT.replace("Add(scaled, shift)", "Neg(scaled)"), 1),
        (EMBEDDING.replace("a = Exp(wave)", "a = Mul(wave, x)"), 2),
    ],
    ids=["both halves", "one half", "itself and what it leads to"],
)
def test_every_table_has_an_origin(text: str, count: int) -> None:
    """Also where no node leads to one table alone, as with the halves of a Split."""
    model = parse(text)
    graph, matched = tabulated(model)
    assert matched == count
    assert all(node.origin for node in graph.nodes)
    for timestep in STEPS:
        feeds = random_feeds(model) | {"timestep": np.array([timestep])}
        for found, wanted in zip(
            execute(graph.to_model(), feeds), execute(model, feeds), strict=True
        ):
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("text", "timesteps"),
    [
        (EMBEDDING, ()),
        (EMBEDDING.replace("timestep", "time"), STEPS),
        (EMBEDDING.replace("int64[1] timestep", "int64[2] timestep").replace("[1, 4]", "[4]")
         .replace("t = Cast<to = 1>(timestep)", "k = Cast<to = 1>(timestep) t = ReduceSum(k)"),
         STEPS),
    ],
    ids=["no timesteps", "no such input", "several timesteps"],
)  # fmt: skip
def test_left_alone(text: str, timesteps: tuple[int, ...]) -> None:
    graph, matched = tabulated(parse(text), timesteps)
    assert matched == 0
    assert "Sin" in {node.op for node in graph.nodes}


def test_what_depends_on_more_stays() -> None:
    text = EMBEDDING.replace("a = Exp(wave)", "a = Mul(wave, x)")
    graph, matched = tabulated(parse(text))
    assert matched == 2, "the wave and what is made of it alone"
    assert [node.op for node in graph.nodes].count("Mul") == 2


def test_the_unet_keeps_no_time_embedding(tiny_exports: Path) -> None:
    model = onnx.load(tiny_exports / "unet.onnx")
    graph, matched = tabulated(model)
    assert matched == 9, "residual blocks"
    assert not [t.name for t in graph.constants if "time_emb" in t.name]
    for timestep in STEPS:
        feeds = random_feeds(model) | {"timestep": np.array([timestep])}
        (found,), (wanted,) = execute(graph.to_model(), feeds), execute(model, feeds)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_compiled_code_is_trusted_with_the_row() -> None:
    body = (
        "float[3] t = {1.0, 2.0, 3.0}> { i = ArgMax<axis = 0, keepdims = 0>(x) y = Gather(t, i) }"
    )
    assert bounds(parse(f"g (float[3] x) => (float y) <{body}")) == Bounds()
    assert "computed indices" in bounds(parse(f"g (float[4] x) => (float y) <{body}")).refusal
